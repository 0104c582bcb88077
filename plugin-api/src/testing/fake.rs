//! A fake daemon: the other side of a daemon under test, whose commands are closures of the test.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::core::{self, Core};
use super::host::HostHandle;
use super::route::Line;
use super::signal::{Signal, lock};
use super::world::{MemberKind, Refusal, Reply};
use crate::{Error, Event, Result, reply, wire};

/// A daemon that the test plays, made by [`TestHost::fake`](super::TestHost::fake).
///
/// Daemons under test reach it by its name, as any other daemon: by `eco.call`, `eco.connect` and `eco.find`. It knows
/// the commands that [`FakeDaemon::on`] and its siblings set, and `dae`, `options` and `help`. A later handler of the
/// same name replaces the earlier one.
///
/// A handler runs on the thread of the test host, while the test waits for something else. A panic in it, such as that
/// of an `assert_eq!`, fails the test. A handler may own a clone of this value, but none of the host, its daemons or its
/// guests: the host would then never end.
///
/// This value doesn't keep the host: that ends with the last [`TestHost`](super::TestHost), daemon and guest.
///
/// ```no_run
/// # use dae_plugin_api::prelude::*;
/// # use dae_plugin_api::testing;
/// # fn example() -> Result<()> {
/// let host = testing::host();
/// let counter = host.fake("Counter");
/// counter.on("increment", |by: u64| by + 1);
/// counter.try_on("reset", |()| Err::<(), _>("it counts only upwards"));
/// counter.on_error("save", "crashed", "it panicked");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FakeDaemon {
    /// Weak, because a handler may own this value, and the host owns the handler.
    handle: Weak<HostHandle>,
    state: Arc<FakeState>,
}

type FakeHandler = Arc<Mutex<dyn FnMut(&str) -> Reply + Send>>;

/// A fake daemon as the host knows it.
pub struct FakeState {
    name: String,
    pub is_there: Signal<bool>,
    /// The handler of each command, with the number of its arguments.
    handlers: Mutex<BTreeMap<String, (usize, FakeHandler)>>,
    received: Mutex<Vec<Event>>,
}

impl FakeState {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(FakeState {
            name: name.to_owned(),
            is_there: Signal::new(true),
            handlers: Mutex::default(),
            received: Mutex::default(),
        })
    }

    /// Returns the number of arguments of each command.
    pub fn arities(&self) -> Vec<(String, usize)> {
        let handlers = lock(&self.handlers);
        let arities = handlers.iter();
        arities
            .map(|(name, (arity, _))| (name.clone(), *arity))
            .collect()
    }

    /// Drops the handlers, at the end of the host. One of them may own this fake.
    pub fn forget_handlers(&self) {
        let handlers = std::mem::take(&mut *lock(&self.handlers));
        drop(handlers);
    }

    pub fn is_reachable(&self) -> Result<(), String> {
        match self.is_there.with(|is_there| *is_there) {
            true => Ok(()),
            false => Err(format!("{} is stopped", self.name)),
        }
    }

    /// Answers a line.
    pub fn answer(self: &Arc<Self>, core: &Core, line: &Line) -> Reply {
        self.is_reachable().map_err(Refusal::unavailable)?;
        let handler = {
            let handlers = lock(&self.handlers);
            let found = handlers.get(&line.name);
            found.map(|(_, handler)| Arc::clone(handler))
        };
        // A client with types asks for these when it connects, which is nothing that its author sends.
        let is_ours = ["help", "options"].contains(&line.name.as_str());
        if handler.is_some() || !is_ours {
            let text = format!("{} {}", line.name, line.arguments);
            lock(&self.received).push(Event::new(text));
        }
        if let Some(handler) = handler {
            return (lock(&handler))(&line.arguments);
        }
        let answer = match line.name.as_str() {
            "dae" => json!(lock(&core.world).credential(&self.name)),
            "options" => core::options(&MemberKind::Fake(Arc::clone(self))),
            "help" | "stats" => json!({}),
            // An event that the test reads with `received`.
            _ if !line.is_call => return Ok(b"[]".to_vec()),
            name => {
                let text = format!(
                    "the fake {} has no command {name}; the test sets one with `on(\"{name}\", …)`",
                    self.name
                );
                return Err(Refusal::new("unknown-command", text));
            }
        };
        Ok(format!("[{answer}]").into_bytes())
    }
}

impl FakeDaemon {
    pub(super) fn new(handle: &Arc<HostHandle>, state: Arc<FakeState>) -> Self {
        FakeDaemon {
            handle: Arc::downgrade(handle),
            state,
        }
    }

    fn handle(&self) -> Result<Arc<HostHandle>> {
        self.handle.upgrade().ok_or_else(|| {
            let name = &self.state.name;
            Error::new(format!(
                "the test host of the fake {name} has ended; keep the host, or one of its daemons, until the end of \
                 the test"
            ))
        })
    }

    /// Answers a command with the value that `handler` returns. Its arguments are read as those of an event are: all
    /// of them as a tuple, or a single one as itself; `()` takes none. Arguments that don't fit are answered
    /// `bad-arguments`.
    pub fn on<T: DeserializeOwned, R: Serialize>(
        &self,
        command: &str,
        mut handler: impl FnMut(T) -> R + Send + 'static,
    ) -> &Self {
        self.set::<T, R>(command, move |arguments| Ok(handler(arguments)))
    }

    /// Answers a command with the result of `handler`. An [`Error`](crate::Error) is answered with its code and its data,
    /// as that of a daemon's command, and any other with `failed` and its text.
    ///
    /// ```no_run
    /// # use dae_plugin_api::prelude::*;
    /// # use dae_plugin_api::testing;
    /// # let store = testing::host().fake("Store");
    /// store.try_on("get", |key: String| -> Result<u32> {
    ///     Err(Error::coded("not-found", "no such key").with(json::json!({ "key": key })))
    /// });
    /// ```
    pub fn try_on<T: DeserializeOwned, R: Serialize, E: Display + 'static>(
        &self,
        command: &str,
        mut handler: impl FnMut(T) -> Result<R, E> + Send + 'static,
    ) -> &Self {
        self.set::<T, R>(command, move |arguments| {
            handler(arguments).map_err(|error| refusal_of(&error))
        })
    }

    /// Answers a command with an error of this code, whatever its arguments are: `crashed`, `timeout`, `unavailable` or
    /// another code of Common TCP.
    pub fn on_error(&self, command: &str, code: &str, message: &str) -> &Self {
        let refusal = Refusal::new(code, message);
        self.set::<serde_json::Value, ()>(command, move |_| Err(refusal.clone()))
    }

    fn set<T: DeserializeOwned, R: Serialize>(
        &self,
        command: &str,
        mut handler: impl FnMut(T) -> Result<R, Refusal> + Send + 'static,
    ) -> &Self {
        let handler = move |arguments: &str| -> Reply {
            let arguments =
                wire::read_event(arguments).map_err(|text| Refusal::new("bad-arguments", text))?;
            written(&handler(arguments)?)
        };
        let is_without = wire::read_event::<T>("[]").is_ok();
        let entry: (usize, FakeHandler) = (usize::from(!is_without), Arc::new(Mutex::new(handler)));
        lock(&self.state.handlers).insert(command.to_owned(), entry);
        self
    }

    /// Returns the commands and events that it was sent since the last call of this method, in their order. `help` and
    /// `options`, by which a client with types compares its commands, are not among them unless the test sets them with
    /// [`FakeDaemon::on`].
    #[must_use]
    pub fn received(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.state.received))
    }

    /// Sends an event to all daemons that are connected to it, and returns once they have handled it. `arguments` has
    /// the same form as for [`Guest::emit`](crate::Guest::emit).
    ///
    /// # Errors
    /// The name isn't valid, the arguments can't be written as JSON, a daemon holds the thread of the host, or the host has
    /// ended.
    pub fn emit(&self, name: &str, arguments: impl Serialize) -> Result<()> {
        let line = wire::line(name, arguments)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let handle = self.handle()?;
        let core = handle.core();
        {
            let mut world = lock(&core.world);
            for guest in self.guests(&world) {
                world.push_to_opener(guest, &line);
            }
        }
        handle.settle_in_test()
    }

    fn guests(&self, world: &super::world::World) -> Vec<u64> {
        let connections = world.connections.iter();
        let to_this = connections.filter(|(_, one)| one.to == self.state.name);
        to_this.map(|(guest, _)| *guest).collect()
    }

    /// Returns how many daemons are connected to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        let handle = self.handle.upgrade();
        handle.map_or(0, |handle| self.guests(&lock(&handle.core().world)).len())
    }

    /// Stops it: those connected to it hear `disconnect ["…"]`, and calls are answered `unavailable`.
    ///
    /// # Errors
    /// A daemon holds the thread of the host, or the host has ended.
    pub fn stop(&self) -> Result<()> {
        self.set_there(false)
    }

    /// Starts it again after [`FakeDaemon::stop`]: those connected to it hear `connect [credential]`.
    ///
    /// # Errors
    /// A daemon holds the thread of the host, or the host has ended.
    pub fn start(&self) -> Result<()> {
        self.set_there(true)
    }

    fn set_there(&self, is_there: bool) -> Result<()> {
        let handle = self.handle()?;
        let core = handle.core();
        let name = &self.state.name;
        {
            let mut world = lock(&core.world);
            let before = world.credential(name);
            self.state.is_there.change(|one| *one = is_there);
            let why = format!("{name} has closed the connection: it was stopped");
            world.tell_openers(name, (!is_there).then_some(why.as_str()));
            let (change, credential) = match is_there {
                true => ("appeared", world.credential(name)),
                false => ("gone", before),
            };
            if let Some(credential) = credential {
                world.tell_watchers(change, &credential);
            }
        }
        handle.settle_in_test()
    }
}

/// Returns the answer to a command whose handler has failed.
fn refusal_of<E: Display + 'static>(error: &E) -> Refusal {
    match (error as &dyn Any).downcast_ref::<Error>() {
        Some(error) => Refusal::of_command(error.crossed()),
        None => Refusal::new("failed", error.to_string()),
    }
}

/// Writes the reply of a handler.
fn written(value: &impl Serialize) -> Reply {
    let failed = |error| {
        Refusal::new(
            "failed",
            format!("the fake's reply can't be written: {error}"),
        )
    };
    let json = reply::to_json(value).map_err(failed)?;
    Ok(match json.as_str() {
        "null" => b"[]".to_vec(),
        _ => format!("[{json}]").into_bytes(),
    })
}
