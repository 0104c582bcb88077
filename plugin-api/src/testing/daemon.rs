//! A daemon under test.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::guest::{PendingReply, TestGuest};
use super::host::{HostHandle, config_text};
use super::log_line::LogLine;
use super::signal::lock;
use super::slot::{Phase, Slot};
use crate::{Error, Result};

/// A daemon that runs in a test host, made by [`TestHost::start`](super::TestHost::start). It is the daemon by its name,
/// over all its instances.
///
/// Each method returns once all tasks of the host wait: for the clock, for another command, for a thread. So what a
/// command has caused has happened when its reply is there.
pub struct TestDaemon {
    handle: Arc<HostHandle>,
    slot: Arc<Slot>,
}

impl TestDaemon {
    pub(super) fn new(handle: Arc<HostHandle>, slot: Arc<Slot>) -> Self {
        TestDaemon { handle, slot }
    }

    /// Returns the name that it runs under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    /// Sends a command over a connection for it alone, waits for the reply, and ends the connection. `arguments` has
    /// the same form as for [`Guest::emit`](crate::Guest::emit): a tuple, a slice or a `Vec`, or a single value. A
    /// command without a result has the reply `null`.
    ///
    /// ```no_run
    /// # use dae_plugin_api::prelude::*;
    /// # fn example(greeter: dae_plugin_api::testing::TestDaemon) -> Result<()> {
    /// assert_eq!(greeter.call("greet", ("Ada",))?, "Hello, Ada!");
    /// let refused = greeter.call("greet", (1,)).unwrap_err();
    /// assert_eq!(refused.code(), Some("bad-arguments"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of the daemon, with its [`Error::code`]: `unknown-command`, `bad-arguments`, `failed`, `crashed`,
    /// `timeout` or `unavailable`. An error without a code comes from the test host: the name or the arguments can't
    /// be sent, or there is no reply within the limit ([`TestHost::set_limit`](super::TestHost::set_limit)). It says
    /// what still waits.
    pub fn call(&self, command: &str, arguments: impl Serialize) -> Result<Value> {
        self.begin(command, arguments)?.reply()
    }

    /// Does the same as [`TestDaemon::call`], and reads the reply as a `T`.
    ///
    /// # Errors
    /// The same as [`TestDaemon::call`], or the reply doesn't fit `T`.
    pub fn call_as<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T> {
        self.begin(command, arguments)?.reply_as()
    }

    /// Sends a command as [`TestDaemon::call`] does, and returns once it waits for something. So the test can move the
    /// clock, or send another command meanwhile.
    ///
    /// # Errors
    /// The name or the arguments can't be sent, or a daemon holds the thread of the host.
    pub fn begin(&self, command: &str, arguments: impl Serialize) -> Result<PendingReply> {
        let guest = self.guest()?;
        let pending = guest.begin(command, arguments)?;
        Ok(pending.on_own(guest))
    }

    /// Connects a guest, and waits until the daemon's connect hook has ended, or waits for something, such as the clock or
    /// a thread. The guest's first command waits until it has ended.
    ///
    /// # Errors
    /// A daemon holds the thread of the host.
    pub fn guest(&self) -> Result<TestGuest> {
        TestGuest::connect(&self.handle, &self.slot.name)
    }

    /// Replaces the instance by a new one of the same code. The state goes through JSON, as in a real reload; guests
    /// stay connected. Running commands get 5 s to end: of the clock, which moves on if they wait for it, and of real
    /// time if they run on a thread or under tokio. `save` and `stop` get as long, and `start` 10 s.
    ///
    /// # Errors
    /// The error of `save` or of the new instance's `start`. The old instance goes on then.
    pub fn reload(&self) -> Result<()> {
        self.handle.core().reload(&self.slot, None)
    }

    /// Does the same as [`TestDaemon::reload`], with another config.
    ///
    /// # Errors
    /// The same as [`TestDaemon::reload`], or the config is no JSON object. The old config stays then.
    pub fn reload_with(&self, config: impl Serialize) -> Result<()> {
        let config = config_text(&config)?;
        self.handle.core().reload(&self.slot, Some(config))
    }

    /// Stops the daemon: new commands are answered `unavailable`, guests are disconnected, without a disconnect hook,
    /// running commands end as at a reload, the state is kept, and `stop` runs.
    ///
    /// # Errors
    /// The errors of `save` and `stop`, such as that they took longer than 5 s, or the daemon doesn't run. It is stopped
    /// nevertheless.
    pub fn stop(&self) -> Result<()> {
        self.handle.core().stop_slot(&self.slot)
    }

    /// Ends the instance as a crash does: without `save` and `stop`, while its commands run. They are answered
    /// `crashed`; guests stay connected. Its `Drop` runs, although none runs when a process is killed: otherwise the next
    /// instance would find its ports and files in use. [`TestDaemon::start`] starts it again.
    ///
    /// # Errors
    /// The daemon doesn't run, or holds the thread of the host.
    pub fn crash(&self) -> Result<()> {
        self.handle.core().crash(&self.slot)
    }

    /// Starts the daemon again, after a stop or a crash, from the state that was saved last: at the last reload or stop.
    ///
    /// # Errors
    /// The error of its `start`, or the daemon runs.
    pub fn start(&self) -> Result<()> {
        self.handle.core().start_slot(&self.slot)
    }

    /// Returns whether an instance answers. A `run` that returns an error or panics ends it; so do `stop` and `crash`.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.slot.open().is_some()
    }

    /// Returns why no instance answers, such as the error of `run`; `None` while one does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.slot.gate.with(|gate| match &gate.phase {
            Phase::Down(why) => Some(why.clone()),
            Phase::Open(_) | Phase::Held => None,
        })
    }

    /// Returns the number of the instance: 1 for the first, one more after each reload and start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.slot.gate.with(|gate| gate.generation)
    }

    /// Returns what the daemon would hand to the next instance now; `None` if it has no state.
    ///
    /// # Errors
    /// The error of its `save`, or the daemon doesn't run.
    pub fn state(&self) -> Result<Option<Value>> {
        let Some(running) = self.slot.open() else {
            let name = &self.slot.name;
            return Err(Error::new(format!("{name} doesn't run")));
        };
        let Some(saved) = self.handle.core().save(&self.slot, &running)? else {
            return Ok(None);
        };
        let mut saved: Value = serde_json::from_str(&saved)?;
        Ok(Some(saved["data"].take()))
    }

    /// Returns all lines of its log so far, of all its instances. A line of a thread that the daemon itself has started
    /// is in no log.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        lock(&self.slot.log).clone()
    }
}
