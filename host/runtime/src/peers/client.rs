//! A visit: a connection that a daemon of this host has opened to another, as the one who opened it sees it.
//!
//! To a daemon of the same host it goes by no socket ([`here`]), to one elsewhere on the machine by TCP ([`there`]); what is
//! promised is the same: lines arrive in the order in which they were sent, a reply goes to the oldest call of its name, and a
//! reload of the other side is not seen. Where the connection is lost, the visit says so by an event, `disconnect`, looks for
//! the name again, with growing pauses, and says `connect` once it is there.

mod here;
mod there;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dae_common_tcp::{ErrorCode, Line, Message, read_line, write_message};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::event_handlers::{Heard, is_ours};
use crate::connection::guest_handle::next_id;
use crate::connection::pending_calls::{Refusal, Reply};
use crate::peers::directory::{Found, Neighbours};
use crate::plugin::completion::VisitState;
use crate::plugin::host_api::VisitTold;
use dae_store::config::Limits;
use dae_store::report::Credential;
use dae_store::tasks;
use here::Here;
use there::There;

/// The first pause before a lost one is looked for again, and the longest. Whoever is installed or found meanwhile is
/// visited at once. A connection that lasted no longer than the longest is one more attempt that came to nothing.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Who visits, and what he has from his host.
#[derive(Debug)]
pub struct Host {
    /// The visitor's name.
    pub visitor: String,
    /// Whom there is to visit.
    pub neighbours: Arc<Neighbours>,
    /// What a call is held to.
    pub limits: Limits,
    /// Where connections are tended.
    pub runtime: Handle,
    /// Who else is told whether a connection is there, by its number: a worker, which answers its daemon by itself.
    pub told: OnceLock<VisitTold>,
    /// Connections over TCP that he has opened, which are held to the share of one daemon.
    pub opened: AtomicUsize,
}

/// A connection over TCP, as long as it is counted among those of its visitor.
struct Opened<'h>(&'h Host);

impl<'h> Opened<'h> {
    fn by(host: &'h Host) -> Self {
        host.opened.fetch_add(1, Ordering::Relaxed);
        Opened(host)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Its number, in one row with those of guests.
    pub id: u64,
    /// Who is visited.
    pub name: String,
    /// Who of the visitor's code listens.
    pub heard: Heard,
    host: Arc<Host>,
    stage: watch::Sender<Stage>,
    /// Whether the connection was ever there.
    was_there: AtomicBool,
    closed: CancellationToken,
}

/// How it is with the connection.
#[derive(Debug, Clone)]
enum Stage {
    Connecting,
    Here(Arc<Here>),
    There(Arc<There>),
    /// Not there at the moment, and why.
    Lost(Refusal),
}

/// A reply, if it is there at once.
pub(crate) enum Calling {
    /// It is.
    Now(Reply),
    /// It will be. Dropped, the call is cancelled.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Visit {
    /// Opens one; whether there is anybody, [`Visit::connected`] tells.
    pub fn open(host: &Arc<Host>, name: &str) -> Arc<Self> {
        let visit = Arc::new(Visit {
            id: next_id(),
            name: name.to_owned(),
            heard: Heard::from_the_start(),
            host: Arc::clone(host),
            stage: watch::Sender::new(Stage::Connecting),
            was_there: AtomicBool::new(false),
            closed: CancellationToken::new(),
        });
        let kept = Arc::clone(&visit);
        let make = move || keep(Arc::clone(&kept));
        tasks::keep_alive(&host.runtime, "a connection between daemons", make);
        visit
    }

    /// Waits until the first attempt has come to something.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connected(&self) -> Result<Credential, Refusal> {
        let mut stage = self.stage.subscribe();
        let is_decided = |stage: &Stage| !matches!(stage, Stage::Connecting);
        match stage.wait_for(is_decided).await.map(|stage| stage.clone()) {
            Ok(Stage::Here(here)) => here.credential(),
            Ok(Stage::There(there)) => Ok(there.credential()),
            Ok(Stage::Lost(refusal)) => Err(refusal),
            Ok(Stage::Connecting) | Err(_) => Err(self.is_closed()),
        }
    }

    /// Whether the connection is there at the moment.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Here(_) | Stage::There(_))
    }

    /// Whether the connection is or was there.
    pub(crate) fn was_there(&self) -> bool {
        self.was_there.load(Ordering::Relaxed)
    }

    /// Ends it for good, once what was sent has arrived.
    pub fn close(&self) {
        // In this order: that it ends is no loss to tell of.
        self.heard.end();
        self.closed.cancel();
    }

    /// Sends a command.
    pub fn call(self: &Arc<Self>, name: &str, arguments: &str) -> Calling {
        if self.closed.is_cancelled() {
            return Calling::Now(Err(self.is_closed()));
        }
        if let Some(calling) = self.call_now(name, arguments) {
            return calling;
        }
        // Between two connections a call waits as a line does between two instances.
        let visit = Arc::clone(self);
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        Calling::Later(Box::pin(async move {
            visit.wait_for_connection(&name).await?;
            match visit.call_now(&name, &arguments) {
                Some(Calling::Now(reply)) => reply,
                Some(Calling::Later(reply)) => reply.await,
                None => Err(visit.why_lost()),
            }
        }))
    }

    fn call_now(self: &Arc<Self>, name: &str, arguments: &str) -> Option<Calling> {
        let stage = self.stage.borrow();
        match &*stage {
            Stage::Here(here) => {
                let here = Arc::clone(here);
                drop(stage);
                Some(here.call(self, name, arguments))
            }
            Stage::There(there) if there.takes(name) => {
                let there = Arc::clone(there);
                drop(stage);
                Some(Calling::Later(Box::pin(there.call(
                    name,
                    arguments,
                    self.host.limits.command,
                ))))
            }
            Stage::There(_) | Stage::Connecting | Stage::Lost(_) => None,
        }
    }

    async fn wait_for_connection(&self, name: &str) -> Result<(), Refusal> {
        let mut stage = self.stage.subscribe();
        let is_new = !self.was_there();
        let is_there = |stage: &Stage| match stage {
            Stage::Here(_) => true,
            Stage::There(there) => there.takes(name),
            // The first attempt decides: a name that nobody has is told at once.
            Stage::Lost(_) => is_new,
            Stage::Connecting => false,
        };
        let waiting =
            tokio::time::timeout(self.host.limits.instance_wait, stage.wait_for(is_there));
        let there = tokio::select! {
            there = waiting => there.map(|_| ()),
            () = self.closed.cancelled() => return Err(self.is_closed()),
        };
        match there {
            Ok(()) if self.is_open() => Ok(()),
            _ => Err(self.why_lost()),
        }
    }

    /// Sends a line that expects no reply: an event, or the reply to what the other side has asked. False where it can't.
    pub(crate) fn emit(&self, line: &[u8]) -> bool {
        let Line::Message(message) = read_line(line) else {
            return false;
        };
        let stage = self.stage.borrow().clone();
        match stage {
            Stage::Here(here) => here.emit(&message),
            Stage::There(there) => there.emit(&message),
            Stage::Connecting | Stage::Lost(_) => false,
        }
    }

    /// A line of the other side that is no reply to ours; what is to be said to it, if anything.
    fn hear(&self, message: &Message<'_>, line: &[u8]) -> Option<Vec<u8>> {
        match (message.name, message.arguments) {
            ("dae" | "options", "" | "[]") => self.own_answer(message),
            // A reply to nothing of ours.
            ("dae" | "options", _) => None,
            (name, _) => {
                if !is_ours(name) {
                    self.heard.tell(line);
                }
                None
            }
        }
    }

    /// What every daemon answers whoever asks.
    fn own_answer(&self, message: &Message<'_>) -> Option<Vec<u8>> {
        let Host {
            visitor,
            neighbours,
            ..
        } = &*self.host;
        let answer = match message.name {
            "dae" => serde_json::to_string(&neighbours.credential(visitor)?).ok()?,
            _ => match &**neighbours.door(visitor)?.phase() {
                crate::session::gate::Phase::Open(lease) => {
                    lease.instance.commands.options().to_owned()
                }
                _ => return None,
            },
        };
        let mut line = Vec::new();
        write_message(
            &mut line,
            message.name,
            message.tag,
            format!("[{answer}]").as_bytes(),
        );
        line.pop();
        Some(line)
    }

    fn tell_worker(&self, state: VisitState) {
        if let Some(told) = self.host.told.get() {
            (told.0)(self.id, state);
        }
    }

    fn is_closed(&self) -> Refusal {
        let text = format!("the connection to {} is closed", self.name);
        Refusal::new(ErrorCode::Unavailable, text)
    }

    fn why_lost(&self) -> Refusal {
        match &*self.stage.borrow() {
            Stage::Lost(refusal) => refusal.clone(),
            _ => Refusal::new(
                ErrorCode::Unavailable,
                format!("there is no connection to {} at the moment", self.name),
            ),
        }
    }
}

/// Keeps a visit: connects, tends the connection until it is lost, and looks for the name again.
async fn keep(visit: Arc<Visit>) {
    let mut pause = PAUSE_MIN;
    while !visit.closed.is_cancelled() {
        let mut changes = visit.host.neighbours.changes();
        let began = Instant::now();
        // Both end by themselves once it is closed: what was sent is to arrive.
        let lost = match visit.host.neighbours.find(&visit.name) {
            Some(Found::Here(door)) => here::attend(&visit, &door).await,
            Some(Found::There(foreign)) => there::attend(&visit, &foreign).await,
            None => nobody(&visit.name),
        };
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        visit.is_lost(lost);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = changes.changed() => tokio::time::sleep(PAUSE_MIN).await,
            () = visit.closed.cancelled() => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    visit.tell_worker(VisitState::Over);
    visit.stage.send_replace(Stage::Lost(visit.is_closed()));
}

fn nobody(name: &str) -> Refusal {
    let text = format!("there is no daemon {name}; `list` of Dae tells who is there");
    Refusal::new(ErrorCode::Unavailable, text)
}

impl Visit {
    /// From now on the connection is there.
    fn is_connected(&self, stage: Stage, credential: &Credential) {
        // First of all: whoever hears that it is there may send something at once.
        self.tell_worker(VisitState::Open);
        let is_again = self.was_there.swap(true, Ordering::Relaxed);
        self.stage.send_replace(stage);
        if is_again {
            self.tell_connected(credential);
        }
    }

    /// The other side is there again.
    fn tell_connected(&self, credential: &Credential) {
        let credential = serde_json::json!([credential]);
        self.heard.tell(format!("connect {credential}").as_bytes());
    }

    /// The other side is not there, or what it knew of this connection is gone.
    fn tell_disconnected(&self, why: &str) {
        let reason = serde_json::json!([why]);
        self.heard.tell(format!("disconnect {reason}").as_bytes());
    }

    /// From now on it isn't.
    fn is_lost(&self, why: Refusal) {
        let was_open = self.is_open();
        let text = why.message.clone();
        self.stage.send_replace(Stage::Lost(why));
        if was_open {
            self.tell_worker(VisitState::Away);
            self.tell_disconnected(&text);
        }
    }
}
