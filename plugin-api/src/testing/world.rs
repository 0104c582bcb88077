//! All that a test host knows: its daemons and fakes, their connections, event queues and topics.
//!
//! Plain data under one lock. Nothing here runs code of a daemon, and nothing is dropped here that may.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::fake::FakeState;
use super::signal::{Signal, lock};
use super::slot::{Phase, Slot};
use crate::abi::{HostFault, status};
use crate::coded::{CodedError, RawData};
use crate::error::Callee;
use crate::{Credential, Error, Event, wire};

/// The most that waits in an event queue (bytes), as in a real host.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// The last line of a queue that was full.
const SLOW: &str = "disconnect [\"slow-guest: too many events waited to be read; no more come\"]\n";
/// The port of the first member. No socket is behind it.
const PORT_FIRST: u16 = 40_001;

/// The state of a test host.
pub struct World {
    pub now: Duration,
    pub timers: BTreeMap<(Duration, u64), Timer>,
    /// The longest real time that the test waits.
    pub limit: Duration,
    pub members: BTreeMap<String, Member>,
    pub instances: HashMap<u64, Tables>,
    /// The daemon of each instance, also of those that have ended, for the log.
    pub names: HashMap<u64, Arc<Slot>>,
    /// The connections, by the number of the guest at the accepting side.
    pub connections: BTreeMap<u64, Connection>,
    /// The same connections by the number that the opening instance has for them.
    pub clients: HashMap<u64, u64>,
    pub topics: Vec<Subscription>,
    pub published: Vec<Event>,
    /// The commands that wait for a thread with their blocking code.
    pub threads: usize,
    last_number: u64,
}

/// A timer that a task waits for.
pub struct Timer {
    /// The instance that has asked for it; 0 for the host itself.
    pub instance: u64,
    pub waker: Waker,
}

/// A daemon or a fake.
#[derive(Clone)]
pub struct Member {
    pub port: u16,
    pub kind: MemberKind,
}

#[derive(Clone)]
pub enum MemberKind {
    Daemon(Arc<Slot>),
    Fake(Arc<FakeState>),
}

/// The event queues and connections of an instance.
#[derive(Default)]
pub struct Tables {
    pub queues: HashMap<u64, Queue>,
    /// The connections for calls by name.
    pub kept: HashMap<String, u64>,
}

/// Lines that wait for the reader of one stream.
#[derive(Default)]
pub struct Queue {
    lines: String,
    is_over: bool,
    waker: Option<Waker>,
}

/// A queue that receives a topic, or the changes of the ecosystem if the topic is `None`.
pub struct Subscription {
    pub topic: Option<String>,
    pub instance: u64,
    pub queue: u64,
}

/// The opening side of a connection.
pub enum Opener {
    /// The test itself, with the lines that it was sent. It reads them also after the end of the connection.
    Test(Arc<Mutex<Vec<String>>>),
    /// An instance, its number for the connection, and its queues.
    Instance {
        instance: u64,
        client: u64,
        queues: Vec<u64>,
    },
}

/// A connection to a member.
pub struct Connection {
    pub to: String,
    pub opener: Opener,
    /// The queues of the accepting instance that hear this guest, with their instance.
    pub heard: Vec<(u64, u64)>,
    /// The calls of the accepting daemon to this guest, oldest first.
    pub asked: Asked,
    /// The calls of this guest that event handlers of the daemon answer, oldest first.
    pub handled: Asked,
    /// The instances whose connect hook has started and has ended for this guest.
    pub greeted: Arc<Signal<Greeted>>,
    /// True while the other side is away, after a crash or a stop.
    pub is_away: bool,
}

/// Calls that the other side answers by an event of the same name.
#[derive(Default)]
pub struct Asked(VecDeque<(String, Arc<Signal<Option<Reply>>>)>);

impl Asked {
    /// Adds a call. The returned value receives its reply.
    pub fn add(&mut self, name: &str) -> Arc<Signal<Option<Reply>>> {
        let reply = Arc::new(Signal::default());
        self.0.push_back((name.to_owned(), Arc::clone(&reply)));
        reply
    }

    /// Takes the oldest call of that name.
    pub fn take(&mut self, name: &str) -> Option<Arc<Signal<Option<Reply>>>> {
        let at = self.0.iter().position(|(one, _)| one == name)?;
        self.0.remove(at).map(|(_, reply)| reply)
    }

    /// Forgets a call whose caller waits no more.
    pub fn forget(&mut self, reply: &Arc<Signal<Option<Reply>>>) {
        self.0.retain(|(_, one)| !Arc::ptr_eq(one, reply));
    }

    /// Answers all calls: the connection has ended.
    pub fn end(self) {
        for (_, reply) in self.0 {
            let gone = Refusal::unavailable("the guest has gone");
            reply.change(|reply| *reply = Some(Err(gone)));
        }
    }
}

/// The progress of a guest's connect hooks.
#[derive(Default)]
pub struct Greeted {
    /// The instance whose hook was started last.
    pub by: u64,
    /// The instance whose hook has ended last.
    pub known_to: u64,
    /// The tasks of all hooks so far, one for each instance.
    pub hooks: Vec<u64>,
}

/// The reply to a command: the arguments, a JSON array.
pub type Reply = Result<Vec<u8>, Refusal>;

/// An error reply.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub data: Option<RawData>,
}

impl Refusal {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Refusal {
            code: code.to_owned(),
            message: message.into(),
            data: None,
        }
    }

    /// Returns the error of a daemon's command, which may have a code and data.
    pub fn of_command(error: CodedError) -> Self {
        Refusal {
            code: error.code,
            message: error.message,
            data: error.data,
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Refusal::new("unavailable", message)
    }

    /// Returns the form that crosses the boundary, for a caller of `daemon`; `None` if a guest was called.
    pub fn json(&self, daemon: Option<&str>) -> String {
        let named = daemon.map(|name| ("daemon", json!(name)));
        self.object(named)
    }

    /// Returns the members, one more included, as a JSON object. The data keep their digits.
    fn object(&self, more: Option<(&str, Value)>) -> String {
        let mut members = json!({"code": self.code, "message": self.message});
        if let Some((key, value)) = more {
            members[key] = value;
        }
        let mut json = members.to_string();
        if let Some(data) = &self.data {
            json.pop();
            json.push_str(",\"data\":");
            json.push_str(data.get());
            json.push('}');
        }
        json
    }

    /// Returns the error that a caller of `command` gets.
    pub fn error(&self, command: &str, to: &str) -> Error {
        let fault = HostFault {
            status: status::FAILED,
            message: self.json(None),
        };
        Error::of_call(&fault, command, &Callee::Daemon(to))
    }

    /// Returns the event that reports this error to the sender of an event.
    pub fn line(&self, command: &str) -> String {
        let error = self.object(Some(("command", json!(command))));
        format!("error [{error}]")
    }
}

impl Queue {
    pub fn push(&mut self, line: &str) {
        if self.is_over {
            return;
        }
        if self.lines.len() + line.len() > QUEUE_BYTES_MAX {
            self.end_as_slow();
        } else {
            self.lines.push_str(line);
            self.lines.push('\n');
            self.wake();
        }
    }

    pub fn end(&mut self) {
        self.is_over = true;
        self.wake();
    }

    #[cfg(test)]
    pub fn is_open(&self) -> bool {
        !self.is_over
    }

    /// Ends it as a queue that was full.
    pub fn end_as_slow(&mut self) {
        self.lines.push_str(SLOW);
        self.end();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns what waits, or an empty text at the end; `None` while nothing waits.
    pub fn take(&mut self, waker: &Waker) -> Option<String> {
        if self.lines.is_empty() && !self.is_over {
            self.waker = Some(waker.clone());
            return None;
        }
        Some(std::mem::take(&mut self.lines))
    }
}

impl World {
    pub fn new(limit: Duration) -> Self {
        World {
            now: Duration::ZERO,
            timers: BTreeMap::new(),
            limit,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            names: HashMap::new(),
            connections: BTreeMap::new(),
            clients: HashMap::new(),
            topics: Vec::new(),
            published: Vec::new(),
            threads: 0,
            last_number: 0,
        }
    }

    /// Returns a number that the host has not used before.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Adds a member. Returns false if there is one of that name.
    pub fn add_member(&mut self, name: &str, kind: MemberKind) -> bool {
        if self.members.contains_key(name) {
            return false;
        }
        let taken = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let port = PORT_FIRST.saturating_add(taken);
        self.members.insert(name.to_owned(), Member { port, kind });
        true
    }

    /// Returns the credential of a member that is there.
    pub fn credential(&self, name: &str) -> Option<Credential> {
        let member = self.members.get(name)?;
        let (plugin, version, generation) = match &member.kind {
            MemberKind::Daemon(slot) => {
                let generation = slot.gate.with(|gate| match &gate.phase {
                    Phase::Open(running) => Some(running.generation),
                    _ => None,
                })?;
                let manifest = &slot.manifest;
                let of_plugin = [&manifest.name, &manifest.version].map(|one| Some(one.clone()));
                let [plugin, version] = of_plugin;
                (plugin, version, Some(generation))
            }
            MemberKind::Fake(fake) => {
                fake.is_there.with(|is_there| is_there.then_some(()))?;
                (None, None, None)
            }
        };
        Some(Credential {
            name: name.to_owned(),
            pid: std::process::id(),
            port: member.port,
            plugin,
            version,
            generation,
            mode: generation.map(|_| "in-process".to_owned()),
            ..Credential::default()
        })
    }

    pub fn queue(&mut self, instance: u64, queue: u64) -> Option<&mut Queue> {
        self.instances.get_mut(&instance)?.queues.get_mut(&queue)
    }

    fn push_all(&mut self, queues: &[(u64, u64)], line: &str) -> bool {
        let mut is_heard = false;
        for (instance, queue) in queues {
            if let Some(queue) = self.queue(*instance, *queue) {
                queue.push(line);
                is_heard = true;
            }
        }
        is_heard
    }

    /// Hands a line of a guest to the queues of its daemon. Returns false if there is none.
    pub fn push_to_acceptor(&mut self, guest: u64, line: &str) -> bool {
        let heard = self.connections.get(&guest).map(|one| one.heard.clone());
        self.push_all(&heard.unwrap_or_default(), line)
    }

    /// Hands a line to the opening side. Returns false if the connection has ended.
    pub fn push_to_opener(&mut self, guest: u64, line: &str) -> bool {
        let queues = match self.connections.get_mut(&guest).map(|one| &mut one.opener) {
            None => return false,
            Some(Opener::Test(lines)) => {
                lock(lines).push(line.to_owned());
                return true;
            }
            Some(Opener::Instance {
                instance, queues, ..
            }) => queues.iter().map(|queue| (*instance, *queue)).collect(),
        };
        let queues: Vec<(u64, u64)> = queues;
        self.push_all(&queues, line);
        true
    }

    /// Returns whether the opening side hears events: the test always does.
    pub fn opener_hears(&self, guest: u64) -> bool {
        match self.connections.get(&guest).map(|one| &one.opener) {
            Some(Opener::Instance { queues, .. }) => !queues.is_empty(),
            Some(Opener::Test(_)) => true,
            None => false,
        }
    }

    /// Removes a connection. Its queues on both sides get the reason, and end.
    pub fn remove_connection(&mut self, guest: u64, why: &str) -> Option<Connection> {
        let connection = self.connections.remove(&guest)?;
        let mut queues = connection.heard.clone();
        if let Opener::Instance {
            instance,
            client,
            queues: own,
        } = &connection.opener
        {
            self.clients.remove(client);
            queues.extend(own.iter().map(|queue| (*instance, *queue)));
        }
        self.push_all(&queues, &line_of("disconnect", why));
        for (instance, queue) in queues {
            if let Some(queue) = self.queue(instance, queue) {
                queue.end();
            }
        }
        Some(connection)
    }

    /// Publishes a line.
    pub fn publish(&mut self, line: &str) {
        let topic = wire::parted(line).0;
        let is_of = |one: &&Subscription| one.topic.as_deref() == Some(topic);
        let queues: Vec<_> = self.topics.iter().filter(is_of).map(place_of).collect();
        self.push_all(&queues, line);
        self.published.push(Event::new(line.to_owned()));
    }

    /// Tells those who watch the ecosystem of a change.
    pub fn tell_watchers(&mut self, change: &str, credential: &Credential) {
        let line = line_of(change, credential);
        let queues = self.topics.iter().filter(|one| one.topic.is_none());
        let queues: Vec<_> = queues.map(place_of).collect();
        self.push_all(&queues, &line);
    }

    /// Tells those who have opened a connection to a member that it is away, or there again.
    pub fn tell_openers(&mut self, member: &str, why: Option<&str>) {
        let line = match why {
            Some(why) => line_of("disconnect", why),
            None => line_of("connect", self.credential(member)),
        };
        let is_away = why.is_some();
        let mut told = Vec::new();
        for (guest, one) in &mut self.connections {
            let is_instance = matches!(one.opener, Opener::Instance { .. });
            if one.to == member && is_instance && one.is_away != is_away {
                one.is_away = is_away;
                told.push(*guest);
            }
        }
        for guest in told {
            self.push_to_opener(guest, &line);
        }
    }
}

/// Returns a line with one argument.
pub fn line_of(name: &str, argument: impl serde::Serialize) -> String {
    // Our own texts and types, which JSON can hold.
    let argument = serde_json::to_string(&argument).unwrap_or_default();
    format!("{name} [{argument}]")
}

fn place_of(one: &Subscription) -> (u64, u64) {
    (one.instance, one.queue)
}

/// Returns a text as a JSON value that is kept as it is.
pub fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}
