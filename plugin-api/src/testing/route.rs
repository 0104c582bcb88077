//! The ways of a line: from the opening side of a connection to its daemon or fake, and back.

use std::sync::{Arc, Mutex};

use super::commands;
use super::core::{Core, Side, connection_of};
use super::executor::Executor;
use super::instance::Outcome;
use super::signal::{Signal, lock};
use super::slot::{COMMAND_MAX, Phase};
use super::world::{Asked, Connection, Greeted, MemberKind, Opener, Refusal, Reply};
use crate::abi::status;
use crate::wire;

/// A line on its way to a daemon or a fake.
pub struct Line {
    pub guest: u64,
    pub name: String,
    /// A JSON array.
    pub arguments: String,
    /// True if the sender waits for the reply.
    pub is_call: bool,
}

/// Cancels a task when its caller has gone.
struct CancelOnDrop {
    executor: Arc<Executor>,
    task: u64,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.executor.cancel(self.task);
    }
}

impl Core {
    /// Opens a connection. Returns the guest's number, or `None` if there is no member of that name.
    pub fn open(&self, to: &str, opener: Opener) -> Option<u64> {
        let guest = {
            let mut world = lock(&self.world);
            if !world.members.contains_key(to) {
                return None;
            }
            let guest = world.number();
            if let Opener::Instance { client, .. } = &opener {
                world.clients.insert(*client, guest);
            }
            let connection = Connection {
                to: to.to_owned(),
                opener,
                heard: Vec::new(),
                asked: Asked::default(),
                handled: Asked::default(),
                greeted: Arc::new(Signal::new(Greeted::default())),
                is_away: false,
            };
            world.connections.insert(guest, connection);
            guest
        };
        self.announce(guest);
        Some(guest)
    }

    /// Runs the connect hook for a guest, if it is due.
    pub fn announce(&self, guest: u64) {
        let Some(core) = self.own.upgrade() else {
            return;
        };
        if let Some(MemberKind::Daemon(slot)) = self.target(guest) {
            if let Some(lease) = slot.lease() {
                commands::announce(&core, &slot, lease, guest);
            }
        }
    }

    fn target(&self, guest: u64) -> Option<MemberKind> {
        let world = lock(&self.world);
        let connection = world.connections.get(&guest)?;
        let member = world.members.get(&connection.to)?;
        Some(member.kind.clone())
    }

    /// Ends a connection, for both sides.
    pub fn leave(&self, guest: u64, why: &str) {
        let target = self.target(guest);
        let removed = lock(&self.world).remove_connection(guest, why);
        let Some(Connection {
            asked,
            handled,
            greeted,
            ..
        }) = removed
        else {
            return;
        };
        asked.end();
        handled.end();
        if let (Some(core), Some(MemberKind::Daemon(slot))) = (self.own.upgrade(), target) {
            commands::end_hooks(&core, &greeted);
            commands::say_goodbye(&core, &slot, guest, &greeted);
        }
    }

    /// Ends a connection that an instance knows by that number.
    pub fn close(&self, daemon: u64, number: u64) {
        let side = connection_of(&lock(&self.world), daemon, number);
        if let Some(Side::Acceptor(guest) | Side::Opener(guest)) = side {
            self.leave(guest, "the connection was closed");
        }
    }

    /// Sends a line from the side of a connection that the instance is. Returns false if the connection has ended.
    pub fn emit(&self, daemon: u64, number: u64, line: &str) -> bool {
        let side = {
            let world = lock(&self.world);
            if !world.instances.contains_key(&daemon) {
                return false;
            }
            connection_of(&world, daemon, number)
        };
        match side {
            Some(Side::Acceptor(guest)) => self.send_back(guest, line),
            Some(Side::Opener(guest)) => self.send(guest, line),
            None => false,
        }
    }

    /// Sends an event of the accepting side: the reply to a call that its handlers have heard, or a line of its own.
    fn send_back(&self, guest: u64, line: &str) -> bool {
        let (name, arguments) = wire::parted(line);
        let handled = {
            let mut world = lock(&self.world);
            let connection = world.connections.get_mut(&guest);
            connection.and_then(|one| one.handled.take(name))
        };
        if let Some(reply) = handled {
            reply.change(|reply| *reply = Some(Ok(arguments.as_bytes().to_vec())));
            return true;
        }
        let is_there = lock(&self.world).push_to_opener(guest, line);
        self.executor.nudge();
        is_there
    }

    /// Sends an event from the opening side: the reply to a call of the daemon, or a line of its own.
    pub fn send(&self, guest: u64, line: &str) -> bool {
        let Some(core) = self.own.upgrade() else {
            return false;
        };
        let (name, arguments) = wire::parted(line);
        let asked = {
            let mut world = lock(&self.world);
            if !world.connections.contains_key(&guest) {
                return false;
            }
            let connection = world.connections.get_mut(&guest);
            connection.and_then(|one| one.asked.take(name))
        };
        if let Some(reply) = asked {
            reply.change(|reply| *reply = Some(Ok(arguments.as_bytes().to_vec())));
            return true;
        }
        let (label, name) = (format!("the event {name}"), name.to_owned());
        let line = Line {
            guest,
            name: name.clone(),
            arguments: arguments.to_owned(),
            is_call: false,
        };
        self.executor.spawn(0, &label, async move {
            if let Err(refusal) = Arc::clone(&core).deliver(line).await {
                lock(&core.world).push_to_opener(guest, &refusal.line(&name));
            }
        });
        true
    }

    /// Sends a command from the opening side. Dropping the future gives the command up.
    pub async fn call(self: Arc<Self>, guest: u64, line: String) -> Reply {
        let (name, arguments) = wire::parted(&line);
        let to = {
            let world = lock(&self.world);
            let connection = world.connections.get(&guest);
            connection.map(|one| one.to.clone())
        };
        let Some(to) = to else {
            return Err(Refusal::unavailable("the guest has gone"));
        };
        let line = Line {
            guest,
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            is_call: true,
        };
        let reply = Arc::new(Signal::new(None));
        let (core, place) = (Arc::clone(&self), Arc::clone(&reply));
        let label = format!("{} of {to}", line.name);
        let task = self.executor.spawn(0, &label, async move {
            let ended = core.deliver(line).await;
            place.change(|reply| *reply = Some(ended));
        });
        let _cancel = CancelOnDrop {
            executor: Arc::clone(&self.executor),
            task,
        };
        reply.until(Option::take).await
    }

    async fn deliver(self: Arc<Self>, line: Line) -> Reply {
        match self.target(line.guest) {
            Some(MemberKind::Daemon(slot)) => commands::run(self, slot, line).await,
            Some(MemberKind::Fake(fake)) => fake.answer(&self, &line),
            None => Err(Refusal::unavailable("the guest has gone")),
        }
    }

    /// Makes the call of an instance on one of its connections.
    pub async fn call_of_guest(self: Arc<Self>, daemon: u64, number: u64, line: String) -> Outcome {
        let side = connection_of(&lock(&self.world), daemon, number);
        match side {
            Some(Side::Opener(guest)) => {
                let to = {
                    let world = lock(&self.world);
                    let connection = world.connections.get(&guest);
                    connection.map(|one| one.to.clone())
                };
                outcome_of(self.call(guest, line).await, to.as_deref())
            }
            Some(Side::Acceptor(guest)) => outcome_of(self.ask_guest(guest, line).await, None),
            None => (status::GONE, Vec::new()),
        }
    }

    /// Calls a guest: its next line of the same name is the reply.
    async fn ask_guest(self: Arc<Self>, guest: u64, line: String) -> Reply {
        let name = wire::parted(&line).0.to_owned();
        let reply = {
            let mut world = lock(&self.world);
            let is_heard = world.opener_hears(guest);
            let connection = world.connections.get_mut(&guest);
            let Some(connection) = connection.filter(|_| is_heard) else {
                let text = format!("there is no command {name}; `options` lists all");
                return Err(Refusal::new("unknown-command", text));
            };
            let reply = connection.asked.add(&name);
            world.push_to_opener(guest, &line);
            reply
        };
        let limit = self.sleep(COMMAND_MAX);
        commands::first(reply.until(Option::take), limit)
            .await
            .unwrap_or_else(|()| {
                let mut world = lock(&self.world);
                if let Some(connection) = world.connections.get_mut(&guest) {
                    connection.asked.forget(&reply);
                }
                let limit = COMMAND_MAX;
                let text = format!("the guest did not answer {name} within {limit:?}");
                Err(Refusal::new("timeout", text))
            })
    }

    /// Makes a call on the connection that the host keeps for calls of that instance to that name.
    pub async fn call_by_name(self: Arc<Self>, daemon: u64, name: String, line: String) -> Outcome {
        let kept = lock(&self.world)
            .instances
            .get(&daemon)
            .and_then(|tables| tables.kept.get(&name).copied());
        let is_open = kept.filter(|guest| lock(&self.world).connections.contains_key(guest));
        let guest = match is_open {
            Some(guest) => guest,
            None => match self.open_of(daemon, &name) {
                Some((guest, _)) => {
                    if let Some(tables) = lock(&self.world).instances.get_mut(&daemon) {
                        tables.kept.insert(name, guest);
                    }
                    guest
                }
                None => return outcome_of(Err(no_daemon(&name)), Some(&name)),
            },
        };
        outcome_of(self.call(guest, line).await, None)
    }

    fn open_of(&self, instance: u64, name: &str) -> Option<(u64, u64)> {
        let client = lock(&self.world).number();
        let opener = Opener::Instance {
            instance,
            client,
            queues: Vec::new(),
        };
        self.open(name, opener).map(|guest| (guest, client))
    }

    /// Connects an instance to a daemon.
    pub async fn connect_of(self: Arc<Self>, daemon: u64, name: String) -> Outcome {
        let Some((guest, client)) = self.open_of(daemon, &name) else {
            return outcome_of(Err(no_daemon(&name)), Some(&name));
        };
        let admitted = match self.target(guest) {
            Some(MemberKind::Daemon(slot)) => {
                let waits = |gate: &mut super::slot::Gate| match &gate.phase {
                    Phase::Open(_) => Some(Ok(())),
                    Phase::Down(why) => Some(Err(why.clone())),
                    Phase::Held => None,
                };
                slot.gate.until(waits).await
            }
            Some(MemberKind::Fake(fake)) => fake.is_reachable(),
            None => Err(no_daemon(&name).message),
        };
        if let Err(why) = admitted {
            self.leave(guest, &why);
            return outcome_of(Err(Refusal::unavailable(why)), Some(&name));
        }
        let credential = lock(&self.world).credential(&name);
        let mut answer = client.to_le_bytes().to_vec();
        answer.extend(serde_json::to_vec(&credential).unwrap_or_default());
        (status::DONE, answer)
    }

    /// Opens a connection of the test itself. Returns the guest's number, and the lines that it will be sent.
    pub fn open_of_test(&self, name: &str) -> Option<(u64, Arc<Mutex<Vec<String>>>)> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let guest = self.open(name, Opener::Test(Arc::clone(&lines)))?;
        Some((guest, lines))
    }
}

fn no_daemon(name: &str) -> Refusal {
    Refusal::unavailable(format!(
        "there is no daemon {name}; Dae's command `list` names those that run"
    ))
}

/// Returns the outcome of a call. `daemon` is the other side, for a caller that knows only the connection.
fn outcome_of(reply: Reply, daemon: Option<&str>) -> Outcome {
    match reply {
        Ok(arguments) => (status::DONE, arguments),
        Err(refusal) => (status::FAILED, refusal.json(daemon).into_bytes()),
    }
}
