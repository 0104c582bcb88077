//! Clients: connections that a daemon of this host has opened to other daemons, as seen from the opening side.
//!
//! A client to a daemon of the same host uses no socket ([`local`]); one to a daemon elsewhere on the machine uses TCP
//! ([`tcp`]). One to a daemon of another host is a local client of the bridge that provides it ([`local::remote`]). All give the same guarantees: lines arrive in the order in which they were sent, a reply goes to the
//! oldest call of its name, and a reload of the other side is not visible. If the connection is lost, the client emits
//! the event `disconnect`, tries the name again with growing pauses, and emits `connect` once it is connected.

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
use crate::peers::call_graph::PairCounts;
use crate::peers::directory::{Address, Directory};
use crate::plugin::completion::ClientState;
use crate::plugin::host_api::{ClientListener, StateKeeper};
use crate::session::gate::Gate;
use crate::threads::trace;
use dae_store::config::Limits;
use dae_store::report::Credential;
use dae_store::tasks;
use local::LocalClient;
use tcp::TcpClient;

/// The first and the longest pause before a reconnect. A daemon that is installed or found meanwhile is tried at once.
/// A connection that lasted no longer than the longest pause counts as one more failed attempt.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The daemon that opens clients, and the parts of its host that they need.
#[derive(Debug)]
pub struct Host {
    /// The daemon's name.
    pub visitor: String,
    /// The daemons that it can connect to.
    pub directory: Arc<Directory>,
    /// The limits for its calls.
    pub limits: Limits,
    /// The runtime of the connections' tasks.
    pub runtime: Handle,
    /// The listener for each connection's state, if the daemon runs in a worker, which answers its daemon by itself.
    pub client_listener: OnceLock<ClientListener>,
    /// The number of its open TCP connections, which must stay within its share of descriptors.
    pub opened: AtomicUsize,
    /// Keeps the daemon's state; `None` for the host itself.
    pub state_keeper: Option<Arc<dyn StateKeeper>>,
    /// The daemon's own gate, if it has the grant `bridge`: it may provide daemons of other hosts.
    pub bridge: Option<Arc<Gate>>,
}

/// A guard that counts a TCP connection of a daemon until it is dropped.
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

/// A client of a daemon.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its id, from the same sequence as those of guests.
    pub id: u64,
    /// The name of the other daemon.
    pub name: String,
    /// The event handlers of the daemon that opened it.
    pub heard: EventHandlers,
    /// The counts of its calls.
    pub counts: Arc<PairCounts>,
    host: Arc<Host>,
    stage: watch::Sender<ConnectionStage>,
    /// True once the connection was open for the first time.
    was_there: AtomicBool,
    closed: CancellationToken,
}

/// The state of the connection.
#[derive(Debug, Clone)]
enum ConnectionStage {
    Connecting,
    Local(Arc<LocalClient>),
    Tcp(Arc<TcpClient>),
    /// Not connected at the moment, and why.
    Lost(CallError),
}

/// The progress of a call.
pub(crate) enum CallProgress {
    /// The reply is there already.
    Now(CallReply),
    /// The reply comes later. Dropping the future cancels the call.
    Later(Pin<Box<dyn Future<Output = CallReply> + Send>>),
}

impl Client {
    /// Opens a client. [`Client::connected`] returns whether the first attempt succeeded.
    pub fn open(host: &Arc<Host>, name: &str) -> Arc<Self> {
        let client = Arc::new(Client {
            id: next_id(),
            name: name.to_owned(),
            heard: EventHandlers::from_the_start(),
            counts: host.directory.call_graph.pair(&host.visitor, name),
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

    /// Waits for the result of the first attempt.
    ///
    /// # Errors
    /// The reason why there is no connection.
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

    /// Returns whether the connection is open at the moment.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            *self.stage.borrow(),
            ConnectionStage::Local(_) | ConnectionStage::Tcp(_)
        )
    }

    /// Returns whether the connection is or was open.
    pub(crate) fn was_there(&self) -> bool {
        self.was_there.load(Ordering::Relaxed)
    }

    /// Closes the client once the lines that were sent have arrived.
    pub fn close(&self) {
        // In this order: a close is no loss to report.
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
        // Between two connections a call waits, as a line does between two instances.
        let client = Arc::clone(self);
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        let span = trace::current();
        CallProgress::Later(Box::pin(async move {
            client.wait_for_connection(&name).await?;
            match trace::during(span, || client.call_now(&name, &arguments)) {
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
            // The first attempt decides: an unknown name is reported at once.
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

    /// Sends a line that expects no reply: an event, or the reply to a call of the other side. Returns false if it
    /// can't.
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

    /// Handles a line of the other side that is no reply to a call. Returns the answer to it, if any.
    fn hear(&self, message: &Message<'_>, line: &[u8]) -> Option<Vec<u8>> {
        match (message.name, message.arguments) {
            ("dae" | "options", "" | "[]") => self.own_answer(message),
            // A reply to no call of ours.
            ("dae" | "options", _) => None,
            (name, _) => {
                if !is_ours(name) {
                    self.heard.notify(line);
                }
                None
            }
        }
    }

    /// Returns the reply to a command that every daemon answers.
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
        if let Some(listener) = self.host.client_listener.get() {
            (listener.0)(self.id, state);
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

/// Runs a client: connects, serves the connection until it is lost, and tries the name again.
async fn keep(client: Arc<Client>) {
    let mut pause = PAUSE_MIN;
    while !client.closed.is_cancelled() {
        let mut changes = client.host.directory.changes();
        let began = Instant::now();
        // Both end by themselves once the client is closed, after the lines that were sent have arrived.
        let lost = match client.host.directory.find(&client.name) {
            Some(Address::Here(gate)) => local::attend(&client, &gate, None).await,
            Some(Address::There(foreign)) => tcp::attend(&client, &foreign).await,
            Some(Address::Elsewhere(remote)) => {
                local::attend(&client, &remote.bridge, Some(remote.name)).await
            }
            Some(Address::Several(names)) => several(&client.name, &names),
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
    let text = format!("there is no daemon {name}; Dae's command `list` names those that run");
    CallError::new(ErrorCode::Unavailable, text)
}

fn several(name: &str, names: &[String]) -> CallError {
    let text = format!(
        "several hosts have a daemon {name}; name one of {}",
        names.join(", ")
    );
    CallError::new(ErrorCode::Unavailable, text)
}

impl Client {
    /// Notes that the connection is open.
    fn is_connected(&self, stage: ConnectionStage, credential: &Credential) {
        // The worker first: code that sees the open connection may send something at once.
        self.tell_worker(ClientState::Open);
        let is_again = self.was_there.swap(true, Ordering::Relaxed);
        self.stage.send_replace(stage);
        if is_again {
            self.tell_connected(credential);
        }
    }

    /// Emits `connect`: the other side is there again.
    fn tell_connected(&self, credential: &Credential) {
        let credential = serde_json::json!([credential]);
        self.heard
            .notify(format!("connect {credential}").as_bytes());
    }

    /// Emits `disconnect`: the other side has gone, or has lost its state for this connection.
    fn tell_disconnected(&self, why: &str) {
        let reason = serde_json::json!([why]);
        self.heard.notify(format!("disconnect {reason}").as_bytes());
    }

    /// Notes that the connection is lost.
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
