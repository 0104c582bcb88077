//! The test host: where a test starts daemons, plays others, and moves the clock.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::core::Core;
use super::daemon::TestDaemon;
use super::fake::{FakeDaemon, FakeState};
use super::signal::lock;
use super::slot::Slot;
use super::world::{MemberKind, raw};
use crate::export::Exported;
use crate::{Error, Event, Result, log, panic, reply, wire};

/// A host of daemons in the process of a test, made by [`host`](super::host). It ends with its last daemon and guest.
#[derive(Clone)]
pub struct TestHost {
    handle: Arc<HostHandle>,
}

/// The test's hold on a host. All values of a test share it; the last one ends the host.
pub struct HostHandle(Arc<Core>);

impl HostHandle {
    pub fn core(&self) -> &Arc<Core> {
        &self.0
    }

    /// Waits until all tasks wait, unless this is the thread of the tasks.
    pub fn settle_in_test(&self) -> Result<()> {
        match self.0.executor.is_here() {
            true => Ok(()),
            false => self.0.settle(),
        }
    }
}

impl Drop for HostHandle {
    fn drop(&mut self) {
        let core = &self.0;
        // A failing test must not wait for code that perhaps has failed.
        let is_idle = !core.executor.is_here() && !core.executor.is_held();
        if is_idle && !std::thread::panicking() {
            let slots: Vec<Arc<Slot>> = {
                let world = lock(&core.world);
                let kinds = world.members.values().map(|member| member.kind.clone());
                kinds.filter_map(slot_of).collect()
            };
            for slot in slots.iter().filter(|slot| slot.open().is_some()) {
                // Nobody is left to report an error to; the test may stop the daemon itself.
                let _ = core.stop_slot(slot);
            }
        }
        core.executor.close();
        let kinds: Vec<MemberKind> = {
            let world = lock(&core.world);
            let members = world.members.values();
            members.map(|member| member.kind.clone()).collect()
        };
        for kind in kinds {
            if let MemberKind::Fake(fake) = kind {
                fake.forget_handlers();
            }
        }
    }
}

fn slot_of(kind: MemberKind) -> Option<Arc<Slot>> {
    match kind {
        MemberKind::Daemon(slot) => Some(slot),
        MemberKind::Fake(_) => None,
    }
}

impl TestHost {
    pub(super) fn new() -> Self {
        // A panic of the test itself, such as that of an assertion, is printed as before.
        log::be_built_in();
        panic::install_hook();
        TestHost {
            handle: Arc::new(HostHandle(Core::start())),
        }
    }

    /// Starts a daemon with this config, and waits until its `run` waits for something. The config is anything that
    /// serde writes as a JSON object; `()` stands for `{}`.
    ///
    /// ```no_run
    /// # use dae_plugin_api::prelude::*;
    /// # use dae_plugin_api::testing;
    /// # #[derive(Default)] struct Greeter;
    /// # #[daemon] impl Greeter { #[command] fn greet(&self) {} }
    /// # fn main() -> Result<()> {
    /// let host = testing::host();
    /// let greeter = host.start::<Greeter>(json::json!({"greeting": "Hi"}))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of its `start`, the config is no JSON object, or a daemon or fake of this name is there.
    pub fn start<D: Exported>(&self, config: impl Serialize) -> Result<TestDaemon> {
        self.daemon::<D>().config(config).start()
    }

    /// Returns the options for the start of a daemon: another name, a state that an earlier version has left.
    pub fn daemon<D: Exported>(&self) -> StartOptions {
        StartOptions {
            handle: Arc::clone(&self.handle),
            make: |plan| plan.slot::<D>(),
            plan: StartPlan {
                name: None,
                config: Ok("{}".to_owned()),
                state: Ok(None),
            },
        }
    }

    /// Adds a daemon that the test plays.
    ///
    /// # Panics
    /// Panics if there is a daemon or a fake of this name.
    #[must_use = "a fake without a handler answers nothing"]
    #[track_caller]
    pub fn fake(&self, name: &str) -> FakeDaemon {
        let state = FakeState::new(name);
        let kind = MemberKind::Fake(Arc::clone(&state));
        let is_new = {
            let mut world = lock(&self.handle.0.world);
            let is_new = world.add_member(name, kind);
            if let Some(credential) = world.credential(name).filter(|_| is_new) {
                world.tell_watchers("appeared", &credential);
            }
            is_new
        };
        assert!(is_new, "this test host has a daemon {name} already");
        FakeDaemon::new(&self.handle, state)
    }

    /// Moves the clock. Timers (`eco.sleep`, `eco.every`) and time limits that are due on the way fire in their order,
    /// each at its own time. Only this method moves the clock, and a wait for a `start`, a `save` or a `stop`, or for
    /// commands to end at a reload or stop.
    ///
    /// # Errors
    /// A daemon holds the thread of the host.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.handle.0.advance(by)
    }

    /// Returns the time on the clock since the host was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        lock(&self.handle.0.world).now
    }

    /// Sets the longest real time that a method of this host, and of its daemons and guests, waits. It is 10 s.
    pub fn set_limit(&self, limit: Duration) {
        lock(&self.handle.0.world).limit = limit;
    }

    /// Publishes an event to the daemons that have subscribed to `topic`. `arguments` has the same form as for
    /// [`Ecosystem::publish`](crate::Ecosystem::publish).
    ///
    /// # Errors
    /// The topic isn't a valid name, the arguments can't be written as JSON, or a daemon holds the thread of the host.
    pub fn publish(&self, topic: &str, arguments: impl Serialize) -> Result<()> {
        let line = wire::line(topic, arguments)?;
        lock(&self.handle.0.world).publish(&String::from_utf8_lossy(&line));
        self.handle.settle_in_test()
    }

    /// Returns the events that were published since the last call of this method, by daemons and by the test. The name
    /// of an event is its topic.
    #[must_use]
    pub fn published(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.handle.0.world).published)
    }

    /// Waits until `condition` is true, for what threads of the daemon do. It is called each time a task of the host
    /// has run.
    ///
    /// # Errors
    /// The condition is not true within the limit; `what` says in the error what was waited for.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        /// A thread of the daemon may change something without waking a task of the host.
        const LOOK_AGAIN: Duration = Duration::from_millis(2);
        let core = &self.handle.0;
        let deadline = core.deadline();
        loop {
            core.settle()?;
            if condition() {
                return Ok(());
            }
            let now = std::time::Instant::now();
            if now >= deadline {
                return Err(core.still_waits(what));
            }
            core.executor.waits_for_work(deadline.min(now + LOOK_AGAIN));
        }
    }
}

/// The options for the start of a daemon; see [`TestHost::daemon`].
#[must_use = "`start` starts the daemon"]
pub struct StartOptions {
    handle: Arc<HostHandle>,
    make: fn(StartPlan) -> Result<Slot>,
    plan: StartPlan,
}

struct StartPlan {
    name: Option<String>,
    config: Result<String>,
    state: Result<Option<String>>,
}

impl StartOptions {
    /// Runs the daemon under another name than the plugin's, such as the second of a test.
    pub fn name(mut self, name: &str) -> Self {
        self.plan.name = Some(name.to_owned());
        self
    }

    /// Sets the config: anything that serde writes as a JSON object; `()` stands for `{}`.
    pub fn config(mut self, config: impl Serialize) -> Self {
        self.plan.config = config_text(&config);
        self
    }

    /// Sets the state that an earlier instance has left, with the version of its shape. Another version than that of
    /// the daemon goes through its `migrate`.
    pub fn state(mut self, version: u32, state: impl Serialize) -> Self {
        let data = reply::to_json(&state).map_err(Error::new);
        self.plan.state =
            data.map(|data| Some(format!("{{\"version\":{version},\"data\":{data}}}")));
        self
    }

    /// Starts the daemon, and waits until its `run` waits for something.
    ///
    /// # Errors
    /// The same as [`TestHost::start`].
    pub fn start(self) -> Result<TestDaemon> {
        let core = self.handle.core();
        let slot = Arc::new((self.make)(self.plan)?);
        let name = slot.name.clone();
        let kind = MemberKind::Daemon(Arc::clone(&slot));
        if !lock(&core.world).add_member(&name, kind) {
            return Err(Error::new(format!(
                "this test host has a daemon {name} already; start this one with `host.daemon::<…>().name(\"…\")`"
            )));
        }
        core.start_slot(&slot).inspect_err(|_| {
            lock(&core.world).members.remove(&name);
        })?;
        Ok(TestDaemon::new(Arc::clone(&self.handle), slot))
    }
}

impl StartPlan {
    fn slot<D: Exported>(self) -> Result<Slot> {
        Slot::of::<D>(self.name, self.config?, self.state?)
    }
}

/// Writes a config as the JSON object that a host hands to a daemon.
pub fn config_text(config: &impl Serialize) -> Result<String> {
    let text = reply::to_json(config)
        .map_err(|error| Error::new(format!("the config can't be written as JSON: {error}")))?;
    match text.as_str() {
        "null" => Ok("{}".to_owned()),
        _ if text.starts_with('{') && raw(&text).is_some() => Ok(text),
        _ => Err(Error::new(format!(
            "a config is a JSON object, such as json::json!({{\"port\": 1}}), or `()` for an empty one; got {text}"
        ))),
    }
}
