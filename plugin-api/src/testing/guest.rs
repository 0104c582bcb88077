//! The guests of a test: connections to a daemon, with the events that they are sent.

use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::host::HostHandle;
use super::signal::{Signal, lock};
use super::world::Reply;
use crate::{Error, Event, Result, wire};

/// A connection of the test to a daemon, made by [`TestDaemon::guest`](super::TestDaemon::guest). It stays open over
/// reloads and crashes, until [`TestGuest::close`] or the end of this value.
pub struct TestGuest {
    handle: Arc<HostHandle>,
    /// The name of the daemon.
    to: String,
    id: u64,
    lines: Arc<Mutex<Vec<String>>>,
}

impl TestGuest {
    /// Connects, and waits until the daemon's connect hook has ended or waits for something.
    pub(super) fn connect(handle: &Arc<HostHandle>, to: &str) -> Result<Self> {
        let core = handle.core();
        let opened = core.open_of_test(to);
        let (id, lines) = opened.ok_or_else(|| Error::new(format!("there is no daemon {to}")))?;
        let guest = TestGuest {
            handle: Arc::clone(handle),
            to: to.to_owned(),
            id,
            lines,
        };
        core.settle()?;
        Ok(guest)
    }

    /// Returns the number of the connection, which the daemon has as [`Guest::id`](crate::Guest::id).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends a command and waits for the reply, as [`TestDaemon::call`](super::TestDaemon::call) does.
    ///
    /// # Errors
    /// The same as there.
    pub fn call(&self, command: &str, arguments: impl Serialize) -> Result<Value> {
        self.begin(command, arguments)?.reply()
    }

    /// Does the same as [`TestGuest::call`], and reads the reply as a `T`.
    ///
    /// # Errors
    /// The same as [`TestGuest::call`], or the reply doesn't fit `T`.
    pub fn call_as<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<T> {
        self.begin(command, arguments)?.reply_as()
    }

    /// Sends a command, and returns once it waits for something, such as the clock.
    ///
    /// # Errors
    /// The name or the arguments can't be sent, or a daemon holds the thread of the host.
    pub fn begin(&self, command: &str, arguments: impl Serialize) -> Result<PendingReply> {
        let line = wire::line(command, arguments)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let core = self.handle.core();
        let result = Arc::new(Signal::new(None));
        let (place, caller) = (Arc::clone(&result), Arc::clone(core));
        let (label, id) = (format!("the caller of {command}"), self.id);
        let task = core.executor.spawn(0, &label, async move {
            let reply = caller.call(id, line).await;
            place.change(|result| *result = Some(reply));
        });
        let pending = PendingReply {
            handle: Arc::clone(&self.handle),
            to: self.to.clone(),
            command: command.to_owned(),
            result,
            task,
            guest: None,
        };
        core.settle()?;
        Ok(pending)
    }

    /// Sends an event. It is also the reply, if the daemon has called this guest by that name.
    ///
    /// # Errors
    /// The name or the arguments can't be sent, or the connection has ended.
    pub fn emit(&self, name: &str, arguments: impl Serialize) -> Result<()> {
        let line = wire::line(name, arguments)?;
        let core = self.handle.core();
        if !core.send(self.id, &String::from_utf8_lossy(&line)) {
            return Err(Error::new(format!(
                "the connection to {} has ended",
                self.to
            )));
        }
        core.settle()
    }

    /// Returns the events that it was sent since the last call of this method, in their order.
    ///
    /// # Panics
    /// Panics if a daemon holds the thread of the host.
    #[must_use]
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        // Events of the daemon's own threads may still be on their way through a task.
        if let Err(error) = self.handle.core().settle() {
            panic!("{error}");
        }
        let lines = std::mem::take(&mut *lock(&self.lines));
        lines.into_iter().map(Event::new).collect()
    }

    /// Waits for the next event, for a daemon that sends it from a thread of its own.
    ///
    /// # Errors
    /// No event comes within the limit; see [`TestHost::set_limit`](super::TestHost::set_limit).
    pub fn next_event(&self) -> Result<Event> {
        let core = self.handle.core();
        let next = || {
            let mut lines = lock(&self.lines);
            (!lines.is_empty()).then(|| lines.remove(0))
        };
        match core.wait_until(next)? {
            Some(line) => Ok(Event::new(line)),
            None => Err(core.still_waits(&format!("the next event of {}", self.to))),
        }
    }

    /// Returns whether the connection is open. The daemon may close it, and a stop of the daemon does.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let core = self.handle.core();
        lock(&core.world).connections.contains_key(&self.id)
    }

    /// Ends the connection, and waits until the daemon's disconnect hook has ended or waits for something.
    ///
    /// # Errors
    /// A daemon holds the thread of the host.
    pub fn close(self) -> Result<()> {
        let core = self.handle.core();
        core.leave(self.id, "the guest has closed the connection");
        core.settle()
    }
}

impl Drop for TestGuest {
    fn drop(&mut self) {
        // The daemon's hook runs when the test next waits for something.
        let core = self.handle.core();
        core.leave(self.id, "the guest has closed the connection");
    }
}

/// A command that has begun, made by `begin`. Dropping it gives the command up.
pub struct PendingReply {
    handle: Arc<HostHandle>,
    to: String,
    command: String,
    result: Arc<Signal<Option<Reply>>>,
    task: u64,
    /// The connection, if it is for this command alone.
    guest: Option<TestGuest>,
}

impl PendingReply {
    /// Ends the connection after the reply.
    pub(super) fn on_own(mut self, guest: TestGuest) -> Self {
        self.guest = Some(guest);
        self
    }

    /// Returns whether the reply is there. Does not wait.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.result.with(|result| result.is_some())
    }

    /// Waits for the reply.
    ///
    /// # Errors
    /// The error reply of the daemon, or no reply comes within the limit.
    pub fn reply(self) -> Result<Value> {
        self.reply_as()
    }

    /// Waits for the reply, and reads it as a `T`.
    ///
    /// # Errors
    /// The same as [`PendingReply::reply`], or the reply doesn't fit `T`.
    pub fn reply_as<T: DeserializeOwned>(mut self) -> Result<T> {
        let core = Arc::clone(self.handle.core());
        let (command, to) = (&self.command, &self.to);
        let reply = core.wait_until(|| self.result.with(Option::take))?;
        let reply = reply.ok_or_else(|| core.still_waits(&format!("{command} of {to}")))?;
        if let Some(guest) = self.guest.take() {
            guest.close()?;
        }
        let arguments = reply.map_err(|refusal| refusal.error(command, to))?;
        wire::read_reply(&arguments)
            .map_err(|text| Error::new(format!("the reply to {command} of {to}: {text}")))
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.handle.core().executor.cancel(self.task);
    }
}
