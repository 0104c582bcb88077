//! A test host: the operations that its daemons ask of it, and the means by which the test waits for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::clock;
use super::executor::Executor;
use super::instance::Outcome;
use super::log_line::LogLine;
use super::signal::{Signal, lock};
use super::world::{MemberKind, Opener, Queue, Subscription, World};
use crate::abi::status;
use crate::{Error, Result, operation, wire};

/// The real time that a test waits for a reply. After it, the test fails with an error that says what still waits.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A test host.
pub struct Core {
    pub own: Weak<Core>,
    pub executor: Arc<Executor>,
    pub world: Mutex<World>,
    start: Instant,
    #[cfg(test)]
    pub script: Mutex<Script>,
}

/// Prepared answers, and the requests so far, for the tests of this crate; see `crate::fake_host`.
#[cfg(test)]
#[derive(Default)]
pub struct Script {
    /// True for a host that knows only the operations that take time for which it has an answer.
    pub is_bare: bool,
    /// The answers to operations that take time, by their names.
    pub answers: std::collections::HashMap<String, Outcome>,
    pub asked: Vec<(String, Vec<u8>)>,
}

/// The answer to an operation of a daemon.
pub enum Answer {
    Now(Outcome),
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

impl Core {
    pub fn start() -> Arc<Self> {
        Arc::new_cyclic(|own| Core {
            own: Weak::clone(own),
            executor: Executor::start(),
            world: Mutex::new(World::new(LIMIT)),
            start: Instant::now(),
            #[cfg(test)]
            script: Mutex::default(),
        })
    }

    /// Returns the time on the clock that the test moves.
    pub fn instant(&self) -> Instant {
        self.start + lock(&self.world).now
    }

    /// Returns a future that ends after that time on the clock that the test moves.
    pub fn sleep(&self, duration: Duration) -> clock::Sleep {
        self.sleep_of(0, duration)
    }

    /// Does the same as [`Core::sleep`], for an instance.
    pub fn sleep_of(&self, instance: u64, duration: Duration) -> clock::Sleep {
        clock::Sleep::new(Weak::clone(&self.own), instance, duration)
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + lock(&self.world).limit
    }

    /// Runs the tasks until all of them wait.
    ///
    /// # Errors
    /// One of them has held the thread up to the limit.
    pub fn settle(&self) -> Result<()> {
        self.settle_until(self.deadline())
    }

    pub fn settle_until(&self, deadline: Instant) -> Result<()> {
        if self.executor.is_here() {
            return Err(Error::new(
                "a handler of a fake daemon runs on the thread of the test host, which can't wait for itself; \
                 do this in the test",
            ));
        }
        self.executor.round(deadline).map_err(|label| {
            Error::new(format!(
                "{label} holds the thread of the test host and has not returned within {:?}; let it wait by `await`, \
                 or make it #[command(blocking)]",
                lock(&self.world).limit
            ))
        })
    }

    /// Runs `work` as a task, and waits for its result and until all other tasks wait.
    ///
    /// # Errors
    /// There is no result within the limit.
    pub fn wait_for<T: Send + 'static>(
        &self,
        label: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let result = Arc::new(Signal::new(None));
        let place = Arc::clone(&result);
        let task = self.executor.spawn(0, label, async move {
            let ended = work.await;
            place.change(|result| *result = Some(ended));
        });
        let waited = self.wait_until(|| result.with(Option::take));
        let waited = waited.transpose();
        waited.unwrap_or_else(|| {
            let error = self.still_waits(label);
            self.executor.cancel(task);
            Err(error)
        })
    }

    /// Runs the tasks until `look` returns something and all tasks wait; `None` after the limit.
    pub fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> Result<Option<T>> {
        let deadline = self.deadline();
        loop {
            self.settle_until(deadline)?;
            if let Some(found) = look() {
                return Ok(Some(found));
            }
            if !self.executor.waits_for_work(deadline) {
                return Ok(None);
            }
        }
    }

    /// Returns the error of something that has not happened within the limit.
    pub fn still_waits(&self, label: &str) -> Error {
        let (limit, next) = {
            let world = lock(&self.world);
            let next = world.timers.keys().next().map(|(at, _)| *at - world.now);
            (world.limit, next)
        };
        let clock = match next {
            Some(next) => format!(
                "; the clock of the test stands still, and the next timer is due in {next:?}: begin the command with \
                 `begin`, and move the clock with `host.advance`"
            ),
            None => String::new(),
        };
        let unfinished = self.executor.unfinished();
        Error::new(format!(
            "{label} has no end within {limit:?} of real time; still waiting: {unfinished}{clock}"
        ))
    }

    /// Adds a record to the log of a daemon.
    pub fn log(&self, daemon: u64, level: u32, target: &str, (message, fields): (&str, &str)) {
        let slot = lock(&self.world).names.get(&daemon).cloned();
        if let Some(slot) = slot {
            slot.log(LogLine::of_record(level, target, message, fields));
        }
    }

    /// Runs a task of an instance. Returns false if the instance has ended.
    pub fn spawn_of(&self, daemon: u64, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let name = {
            let world = lock(&self.world);
            let name = world.names.get(&daemon).map(|slot| slot.name.clone());
            name.filter(|_| world.instances.contains_key(&daemon))
        };
        let is_there = name.is_some();
        if let Some(name) = name {
            let label = format!("a task that {name} has spawned");
            self.executor.spawn(daemon, &label, work);
        }
        is_there
    }

    /// Notes a request, and returns the answer that a test has prepared.
    #[cfg(test)]
    fn scripted(&self, operation: &str, request: &[u8]) -> Option<Outcome> {
        let mut script = lock(&self.script);
        let asked = (operation.to_owned(), request.to_vec());
        script.asked.push(asked);
        let is_unknown = script.is_bare && operation != operation::QUEUE_NEXT;
        let unknown = is_unknown.then(|| (status::UNKNOWN, Vec::new()));
        script.answers.get(operation).cloned().or(unknown)
    }

    /// Answers an operation at once.
    pub fn ask(&self, daemon: u64, operation: &str, request: &[u8]) -> Outcome {
        #[cfg(test)]
        self.scripted(operation, request);
        let (number, rest) = wire::number_of(request).unwrap_or((0, request));
        if operation == operation::GUEST_CLOSE {
            // It runs a hook, so it takes the lock itself.
            self.close(daemon, number);
            return (status::NOTHING, Vec::new());
        }
        let mut world = lock(&self.world);
        if !world.instances.contains_key(&daemon) {
            return (status::GONE, Vec::new());
        }
        let is_done = match operation {
            operation::CREDENTIAL => return own_credential(&world, daemon),
            operation::CONFIG => return config_of(&world, daemon),
            operation::GUEST_OPEN => is_open(&world, daemon, number_in(request)),
            operation::GUEST_LISTEN => {
                let guest = wire::number_of(rest).map_or(0, |(guest, _)| guest);
                listen(&mut world, daemon, number, guest)
            }
            operation::QUEUE_SUBSCRIBE => {
                let topic = String::from_utf8_lossy(rest).into_owned();
                subscribe(&mut world, daemon, number, Some(topic))
            }
            operation::QUEUE_WATCH => subscribe(&mut world, daemon, number, None),
            operation::QUEUE_CLOSE => close_queue(&mut world, daemon, number),
            operation::PUBLISH => {
                world.publish(&String::from_utf8_lossy(request));
                self.executor.nudge();
                true
            }
            _ => return (status::UNKNOWN, Vec::new()),
        };
        match is_done {
            true => (status::NOTHING, Vec::new()),
            false => (status::GONE, Vec::new()),
        }
    }

    /// Starts an operation that may take time.
    pub fn ask_later(&self, daemon: u64, operation: &str, request: &[u8]) -> Answer {
        let gone = Answer::Now((status::GONE, Vec::new()));
        let core = match self.own.upgrade() {
            Some(core) if lock(&self.world).instances.contains_key(&daemon) => core,
            _ => return gone,
        };
        #[cfg(test)]
        if let Some(outcome) = self.scripted(operation, request) {
            return Answer::Now(outcome);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (number, rest) = wire::number_of(request).unwrap_or((0, request));
        match operation {
            operation::QUEUE_NEXT => Answer::Later(Box::pin(next_lines(core, daemon, number))),
            operation::GUEST_CALL => {
                Answer::Later(Box::pin(core.call_of_guest(daemon, number, text(rest))))
            }
            operation::CALL => {
                let at = usize::try_from(number).unwrap_or(0).min(rest.len());
                let (name, line) = (text(&rest[..at]), text(&rest[at..]));
                Answer::Later(Box::pin(core.call_by_name(daemon, name, line)))
            }
            operation::CONNECT => Answer::Later(Box::pin(core.connect_of(daemon, text(request)))),
            operation::SAVE => Answer::Later(Box::pin(core.keep(daemon))),
            operation::LIST => Answer::Now((status::DONE, list(&lock(&self.world)))),
            operation::FIND => {
                let found = lock(&self.world).credential(&text(request));
                Answer::Now(match found {
                    Some(credential) => (status::DONE, json(&credential)),
                    None => (status::NOTHING, Vec::new()),
                })
            }
            _ => Answer::Now((status::UNKNOWN, Vec::new())),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Our own types, which JSON can hold.
    serde_json::to_vec(value).unwrap_or_default()
}

fn own_credential(world: &World, daemon: u64) -> Outcome {
    let Some(slot) = world.names.get(&daemon) else {
        return (status::GONE, Vec::new());
    };
    let credential = match world.credential(&slot.name) {
        Some(credential) => serde_json::to_value(credential).unwrap_or_default(),
        // In `start`, before the gate is open to it.
        None => {
            let port = world.members.get(&slot.name).map_or(0, |one| one.port);
            let pid = std::process::id();
            serde_json::json!({"name": slot.name, "pid": pid, "port": port})
        }
    };
    (status::DONE, json(&credential))
}

fn config_of(world: &World, daemon: u64) -> Outcome {
    let slot = world.names.get(&daemon);
    let config = slot.map(|slot| lock(&slot.config).clone());
    (status::DONE, config.unwrap_or_default().into_bytes())
}

/// Returns a number that crosses the boundary in decimal.
fn number_in(request: &[u8]) -> u64 {
    String::from_utf8_lossy(request).parse().unwrap_or(0)
}

fn list(world: &World) -> Vec<u8> {
    let host = serde_json::json!({"name": "Dae", "pid": std::process::id(), "port": 40_000});
    let members = world.members.keys();
    let credentials = members.filter_map(|name| world.credential(name));
    let credentials = credentials.map(|one| serde_json::to_value(one).unwrap_or_default());
    let all: Vec<Value> = std::iter::once(host).chain(credentials).collect();
    json(&all)
}

/// Returns whether a connection that an instance knows by that number is open.
fn is_open(world: &World, daemon: u64, number: u64) -> bool {
    match connection_of(world, daemon, number) {
        Some(Side::Acceptor(_)) => true,
        Some(Side::Opener(guest)) => world
            .connections
            .get(&guest)
            .is_some_and(|one| !one.is_away),
        None => false,
    }
}

/// The side of a connection that an instance is, with the number of the guest.
#[derive(Clone, Copy)]
pub enum Side {
    Acceptor(u64),
    Opener(u64),
}

/// Returns the connection that an instance knows by that number.
pub fn connection_of(world: &World, daemon: u64, number: u64) -> Option<Side> {
    if let Some(guest) = world.clients.get(&number) {
        let opener = world.connections.get(guest).map(|one| &one.opener);
        return match opener {
            Some(Opener::Instance { instance, .. }) if *instance == daemon => {
                Some(Side::Opener(*guest))
            }
            _ => None,
        };
    }
    let slot = world.names.get(&daemon)?;
    let connection = world.connections.get(&number)?;
    (connection.to == slot.name).then_some(Side::Acceptor(number))
}

fn listen(world: &mut World, daemon: u64, queue: u64, number: u64) -> bool {
    let Some(side) = connection_of(world, daemon, number) else {
        return false;
    };
    let (Side::Acceptor(guest) | Side::Opener(guest)) = side;
    let Some(connection) = world.connections.get_mut(&guest) else {
        return false;
    };
    match (side, &mut connection.opener) {
        (Side::Opener(_), Opener::Instance { queues, .. }) => queues.push(queue),
        _ => connection.heard.push((daemon, queue)),
    }
    add_queue(world, daemon, queue);
    true
}

fn subscribe(world: &mut World, instance: u64, queue: u64, topic: Option<String>) -> bool {
    add_queue(world, instance, queue);
    world.topics.push(Subscription {
        topic,
        instance,
        queue,
    });
    true
}

fn close_queue(world: &mut World, instance: u64, number: u64) -> bool {
    if let Some(tables) = world.instances.get_mut(&instance) {
        tables.queues.remove(&number);
    }
    world.topics.retain(|one| one.queue != number);
    true
}

fn add_queue(world: &mut World, instance: u64, queue: u64) {
    if let Some(tables) = world.instances.get_mut(&instance) {
        tables.queues.insert(queue, Queue::default());
    }
}

async fn next_lines(core: Arc<Core>, daemon: u64, queue: u64) -> Outcome {
    std::future::poll_fn(|context| {
        let mut world = lock(&core.world);
        let lines = match world.queue(daemon, queue) {
            Some(found) => match found.take(context.waker()) {
                Some(lines) => lines,
                None => return std::task::Poll::Pending,
            },
            None => String::new(),
        };
        std::task::Poll::Ready(match lines.is_empty() {
            true => (status::GONE, Vec::new()),
            false => (status::DONE, lines.into_bytes()),
        })
    })
    .await
}

/// Returns what every daemon has besides its own commands, as `options` lists it.
pub fn options(kind: &MemberKind) -> Value {
    let mut options = serde_json::Map::new();
    for name in ["dae", "options", "help", "stats"] {
        options.insert(name.to_owned(), 0.into());
    }
    match kind {
        MemberKind::Daemon(slot) => {
            for command in &slot.manifest.commands {
                options.insert(command.name.clone(), command.arguments.len().into());
            }
        }
        MemberKind::Fake(fake) => {
            for (name, arity) in fake.arities() {
                options.insert(name, arity.into());
            }
        }
    }
    Value::Object(options)
}

/// A command that waits for a thread with its blocking code, counted for as long as this value lives. The thread of a
/// `run` doesn't count: it lives as long as its instance.
pub struct ThreadCount(Weak<Core>);

impl ThreadCount {
    pub fn new(core: &Core) -> Self {
        lock(&core.world).threads += 1;
        ThreadCount(Weak::clone(&core.own))
    }
}

impl Drop for ThreadCount {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade() {
            lock(&core.world).threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
