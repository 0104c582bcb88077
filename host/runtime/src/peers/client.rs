//! A visit: a connection that a daemon of this host has opened to another, as the one who opened it sees it.
//!
//! To a daemon of the same host it goes by no socket ([`local`]), to one elsewhere on the machine by TCP ([`tcp`]); what is
//! promised is the same: lines arrive in the order in which they were sent, a reply goes to the oldest call of its name, and a
//! reload of the other side is not seen. Where the connection is lost, the visit says so by an event, `disconnect`, looks for
//! the name again, with growing pauses, and says `connect` once it is there.

mod local;
mod tcp;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dae_common_tcp::{ErrorCode, Line, Message, read_line, write_message};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::event_handlers::{EventHandlers, is_ours};
use crate::connection::guest_handle::next_id;
use crate::connection::pending_calls::{CallError, CallReply};
use crate::peers::directory::{Address, Directory};
use crate::plugin::completion::ClientState;
use crate::plugin::host_api::ClientListener;
use dae_store::config::Limits;
use dae_store::report::Credential;
use dae_store::tasks;
use local::LocalClient;
use tcp::TcpClient;

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
    pub directory: Arc<Directory>,
    /// What a call is held to.
    pub limits: Limits,
    /// Where connections are tended.
    pub runtime: Handle,
    /// Who else is told whether a connection is there, by its number: a worker, which answers its daemon by itself.
    pub told: OnceLock<ClientListener>,
    /// Connections over TCP that he has opened, which are held to the share of one daemon.
    pub opened: AtomicUsize,
}

/// A connection over TCP, as long as it is counted among those of its visitor.
struct OpenedConnection<'h>(&'h Host);

impl<'h> OpenedConnection<'h> {
    fn by(host: &'h Host) -> Self {
        host.opened.fetch_add(1, Ordering::Relaxed);
        OpenedConnection(host)
    }
}

impl Drop for OpenedConnection<'_> {
    fn drop(&mut self) {
        self.0.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number, in one row with those of guests.
    pub id: u64,
    /// Who is visited.
    pub name: String,
    /// Who of the visitor's code listens.
    pub heard: EventHandlers,
    host: Arc<Host>,
    stage: watch::Sender<ConnectionStage>,
    /// Whether the connection was ever there.
    was_there: AtomicBool,
    closed: CancellationToken,
}

/// How it is with the connection.
#[derive(Debug, Clone)]
enum ConnectionStage {
    Connecting,
    Local(Arc<LocalClient>),
    Tcp(Arc<TcpClient>),
    /// Not there at the moment, and why.
    Lost(CallError),
}

/// A reply, if it is there at once.
pub(crate) enum CallProgress {
    /// It is.
    Now(CallReply),
    /// It will be. Dropped, the call is cancelled.
    Later(Pin<Box<dyn Future<Output = CallReply> + Send>>),
}

impl Client {
    /// Opens one; whether there is anybody, [`Client::connected`] tells.
    pub fn open(host: &Arc<Host>, name: &str) -> Arc<Self> {
        let client = Arc::new(Client {
            id: next_id(),
            name: name.to_owned(),
            heard: EventHandlers::from_the_start(),
            host: Arc::clone(host),
            stage: watch::Sender::new(ConnectionStage::Connecting),
            was_there: AtomicBool::new(false),
            closed: CancellationToken::new(),
        });
        let kept = Arc::clone(&client);
        let make = move || keep(Arc::clone(&kept));
        tasks::keep_alive(&host.runtime, "a connection between daemons", make);
        client
    }

    /// Waits until the first attempt has come to something.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connected(&self) -> Result<Credential, CallError> {
        let mut stage = self.stage.subscribe();
        let is_decided = |stage: &ConnectionStage| !matches!(stage, ConnectionStage::Connecting);
        match stage.wait_for(is_decided).await.map(|stage| stage.clone()) {
            Ok(ConnectionStage::Local(here)) => here.credential(),
            Ok(ConnectionStage::Tcp(there)) => Ok(there.credential()),
            Ok(ConnectionStage::Lost(refusal)) => Err(refusal),
            Ok(ConnectionStage::Connecting) | Err(_) => Err(self.is_closed()),
        }
    }

    /// Whether the connection is there at the moment.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            *self.stage.borrow(),
            ConnectionStage::Local(_) | ConnectionStage::Tcp(_)
        )
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
    pub fn call(self: &Arc<Self>, name: &str, arguments: &str) -> CallProgress {
        if self.closed.is_cancelled() {
            return CallProgress::Now(Err(self.is_closed()));
        }
        if let Some(calling) = self.call_now(name, arguments) {
            return calling;
        }
        // Between two connections a call waits as a line does between two instances.
        let client = Arc::clone(self);
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        CallProgress::Later(Box::pin(async move {
            client.wait_for_connection(&name).await?;
            match client.call_now(&name, &arguments) {
                Some(CallProgress::Now(reply)) => reply,
                Some(CallProgress::Later(reply)) => reply.await,
                None => Err(client.why_lost()),
            }
        }))
    }

    fn call_now(self: &Arc<Self>, name: &str, arguments: &str) -> Option<CallProgress> {
        let stage = self.stage.borrow();
        match &*stage {
            ConnectionStage::Local(here) => {
                let here = Arc::clone(here);
                drop(stage);
                Some(here.call(self, name, arguments))
            }
            ConnectionStage::Tcp(there) if there.takes(name) => {
                let there = Arc::clone(there);
                drop(stage);
                Some(CallProgress::Later(Box::pin(there.call(
                    name,
                    arguments,
                    self.host.limits.command,
                ))))
            }
            ConnectionStage::Tcp(_) | ConnectionStage::Connecting | ConnectionStage::Lost(_) => {
                None
            }
        }
    }

    async fn wait_for_connection(&self, name: &str) -> Result<(), CallError> {
        let mut stage = self.stage.subscribe();
        let is_new = !self.was_there();
        let is_there = |stage: &ConnectionStage| match stage {
            ConnectionStage::Local(_) => true,
            ConnectionStage::Tcp(there) => there.takes(name),
            // The first attempt decides: a name that nobody has is told at once.
            ConnectionStage::Lost(_) => is_new,
            ConnectionStage::Connecting => false,
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
            ConnectionStage::Local(here) => here.emit(&message),
            ConnectionStage::Tcp(there) => there.emit(&message),
            ConnectionStage::Connecting | ConnectionStage::Lost(_) => false,
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
            visitor, directory, ..
        } = &*self.host;
        let answer = match message.name {
            "dae" => serde_json::to_string(&directory.credential(visitor)?).ok()?,
            _ => match &**directory.gate(visitor)?.phase() {
                crate::session::gate::GatePhase::Open(lease) => {
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

    fn tell_worker(&self, state: ClientState) {
        if let Some(told) = self.host.told.get() {
            (told.0)(self.id, state);
        }
    }

    fn is_closed(&self) -> CallError {
        let text = format!("the connection to {} is closed", self.name);
        CallError::new(ErrorCode::Unavailable, text)
    }

    fn why_lost(&self) -> CallError {
        match &*self.stage.borrow() {
            ConnectionStage::Lost(refusal) => refusal.clone(),
            _ => CallError::new(
                ErrorCode::Unavailable,
                format!("there is no connection to {} at the moment", self.name),
            ),
        }
    }
}

/// Keeps a visit: connects, tends the connection until it is lost, and looks for the name again.
async fn keep(client: Arc<Client>) {
    let mut pause = PAUSE_MIN;
    while !client.closed.is_cancelled() {
        let mut changes = client.host.directory.changes();
        let began = Instant::now();
        // Both end by themselves once it is closed: what was sent is to arrive.
        let lost = match client.host.directory.find(&client.name) {
            Some(Address::Here(gate)) => local::attend(&client, &gate).await,
            Some(Address::There(foreign)) => tcp::attend(&client, &foreign).await,
            None => nobody(&client.name),
        };
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        client.is_lost(lost);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = changes.changed() => tokio::time::sleep(PAUSE_MIN).await,
            () = client.closed.cancelled() => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    client.tell_worker(ClientState::Over);
    client
        .stage
        .send_replace(ConnectionStage::Lost(client.is_closed()));
}

fn nobody(name: &str) -> CallError {
    let text = format!("there is no daemon {name}; `list` of Dae tells who is there");
    CallError::new(ErrorCode::Unavailable, text)
}

impl Client {
    /// From now on the connection is there.
    fn is_connected(&self, stage: ConnectionStage, credential: &Credential) {
        // First of all: whoever hears that it is there may send something at once.
        self.tell_worker(ClientState::Open);
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
    fn is_lost(&self, why: CallError) {
        let was_open = self.is_open();
        let text = why.message.clone();
        self.stage.send_replace(ConnectionStage::Lost(why));
        if was_open {
            self.tell_worker(ClientState::Away);
            self.tell_disconnected(&text);
        }
    }
}
