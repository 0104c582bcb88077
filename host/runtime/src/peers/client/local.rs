//! A client to a daemon of the same host: it uses the gate directly, without a socket.
//!
//! The client is a guest of that gate like any other, and takes the lines that are pushed to this guest. A call runs in
//! its caller's task if no earlier line of the client is waiting. Otherwise it waits behind that line ([`queue`]).
//! Lines that expect no reply always wait: if they ran on the sender's stack, two daemons that send each other events
//! would call each other until the stack overflows. Lines from a subprocess always wait too, since the task that reads
//! its frames must not run another daemon's code. While there is no instance, or its connect hook is due, calls wait,
//! too: only the client's own task runs the hook.
//!
//! On the other side a line runs as a line of any guest does, with the same limits ([`crate::session::dispatch`]).
//!
//! A client of a daemon of another host is a guest of the bridge that provides it. Its lines are wrapped in the bridge's
//! command for them ([`remote`]), and so have all that a line of a guest has: order, limits, waiting over a reload.

mod queue;
pub(crate) mod remote;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use dae_common_tcp::{ErrorCode, Line, Message, read_line};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{CallProgress, Client, ConnectionStage};
use crate::connection::guest_handle::GuestHandle;
use crate::connection::pending_calls::{
    CallError, CallReply, LineMatch, PendingCalls, ReplyFuture, in_time,
};
use crate::session::admission;
use crate::session::connect_hooks;
use crate::session::dispatch::{self, DispatchedCommand, IN_FLIGHT_MAX};
use crate::session::gate::{Gate, GatePhase, Lease};
use crate::threads::trace;
use dae_store::lock::lock;
use dae_store::report::Credential;
use queue::{LineQueue, WaitingLine};

/// The limit for nested calls of daemons' code on one stack. A deeper call gets its own task. A level costs at most
/// some 2 KiB of stack, of the 2 MiB that a thread has.
const DEPTH_MAX: usize = 16;

thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });

/// A connection to a daemon of this host.
#[derive(Debug)]
pub(super) struct LocalClient {
    gate: Arc<Gate>,
    guest: Arc<GuestHandle>,
    /// The daemon of another host that the lines are for, by the name that its bridge knows.
    remote: Option<String>,
    /// The credential of the instance that was there when it connected.
    credential: OnceLock<Credential>,
    /// Calls without a command of that name, which the other side's event handlers answer by an event.
    asked: PendingCalls,
    queue: LineQueue,
    in_flight: Arc<AtomicUsize>,
    /// Held while pushed lines are handled, so that they stay in order.
    handing_on: Mutex<()>,
    /// True while pushed lines are handled.
    is_handed_on: AtomicBool,
}

/// A guard that counts a call in flight until it is dropped.
#[derive(Debug)]
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs another daemon's code inside a daemon's, and counts the depth.
fn deeper<T>(code: impl FnOnce() -> T) -> T {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    let result = code();
    DEPTH.set(depth);
    result
}

/// A future that counts the depth while it is polled.
struct DepthGuard<F>(F);

impl<F: Future + Unpin> Future for DepthGuard<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        deeper(|| Pin::new(&mut self.0).poll(context))
    }
}

impl LocalClient {
    fn new(gate: &Arc<Gate>, guest: Arc<GuestHandle>, remote: Option<String>) -> Self {
        LocalClient {
            guest,
            remote,
            gate: Arc::clone(gate),
            credential: OnceLock::new(),
            asked: PendingCalls::default(),
            queue: LineQueue::default(),
            in_flight: Arc::default(),
            handing_on: Mutex::default(),
            is_handed_on: AtomicBool::new(false),
        }
    }

    /// Returns the credential of the daemon on the other side.
    pub(super) fn credential(&self) -> Result<Credential, CallError> {
        let unavailable =
            || CallError::new(ErrorCode::Unavailable, admission::no_instance(&self.gate));
        self.credential.get().cloned().ok_or_else(unavailable)
    }

    /// Sends a command.
    pub(super) fn call(
        self: Arc<Self>,
        client: &Arc<Client>,
        name: &str,
        arguments: &str,
    ) -> CallProgress {
        match self.remote.clone() {
            Some(daemon) => remote::call(self, client, daemon, (name, arguments)),
            None => self.call_gate(client, name, arguments),
        }
    }

    /// Sends a command to the gate.
    fn call_gate(
        self: Arc<Self>,
        client: &Arc<Client>,
        name: &str,
        arguments: &str,
    ) -> CallProgress {
        let may_run = client.host.client_listener.get().is_none()
            && self.queue.is_empty()
            && !self.guest.has_left();
        if may_run && DEPTH.get() < DEPTH_MAX {
            let at_once = deeper(|| dispatch::at_once(&self.gate, &self.guest, (name, arguments)));
            if let Some(reply) = at_once {
                self.hand_on(client);
                return CallProgress::Now(reply);
            }
        }
        let in_flight = match self.enter() {
            Ok(in_flight) => in_flight,
            Err(refusal) => return CallProgress::Now(Err(refusal)),
        };
        let sent = DispatchedCommand {
            guest: self.guest.id(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            trace: trace::current_parent(),
        };
        if !(may_run && self.gate.phase().admits(&self.guest).is_some()) {
            return self.call_in_queue(client, sent, in_flight);
        }
        let runtime = client.host.runtime.clone();
        let work = Box::pin(self.call_here(Arc::clone(client), sent, in_flight));
        if DEPTH.get() < DEPTH_MAX {
            return CallProgress::Later(Box::pin(DepthGuard(work)));
        }
        let task = AbortOnDropHandle::new(runtime.spawn(work));
        CallProgress::Later(Box::pin(async move {
            let crashed = |error| CallError::new(ErrorCode::Crashed, format!("{error}"));
            task.await.map_err(crashed)?
        }))
    }

    /// Runs a call in the task that polls it. If the gate has changed since the call, it waits in the queue.
    async fn call_here(
        self: Arc<Self>,
        client: Arc<Client>,
        sent: DispatchedCommand,
        in_flight: InFlight,
    ) -> CallReply {
        let lease = self.gate.phase().admits(&self.guest).cloned();
        let reply = match lease {
            Some(lease) => {
                let reply = self.run(lease, sent, true).await;
                drop(in_flight);
                reply
            }
            None => match self.queue_call(sent, in_flight) {
                Ok(waiting) => reply_of(waiting).await,
                Err(refusal) => Err(refusal),
            },
        };
        self.hand_on(&client);
        reply
    }

    fn call_in_queue(
        self: Arc<Self>,
        client: &Arc<Client>,
        sent: DispatchedCommand,
        in_flight: InFlight,
    ) -> CallProgress {
        let waiting = match self.queue_call(sent, in_flight) {
            Ok(waiting) => waiting,
            Err(refusal) => return CallProgress::Now(Err(refusal)),
        };
        let client = Arc::clone(client);
        CallProgress::Later(Box::pin(async move {
            let reply = reply_of(waiting).await;
            self.hand_on(&client);
            reply
        }))
    }

    /// Queues a call behind the lines that wait.
    fn queue_call(
        &self,
        sent: DispatchedCommand,
        in_flight: InFlight,
    ) -> Result<oneshot::Receiver<CallReply>, CallError> {
        let (waiting, reply) = WaitingLine::call(sent, in_flight);
        match self.queue.put(waiting) {
            true => Ok(reply),
            false => {
                let text = format!(
                    "{} doesn't take what it is sent at the moment",
                    self.gate.name
                );
                Err(CallError::new(ErrorCode::Unavailable, text))
            }
        }
    }

    /// Sends a line that expects no reply. Returns false if the connection has ended, or ends now because too much
    /// waits.
    pub(super) fn emit(&self, message: &Message<'_>) -> bool {
        if self.guest.asked.answer(message) == LineMatch::Ours {
            return true;
        }
        let Some((name, arguments)) = remote::event(self.remote.as_deref(), message) else {
            return false;
        };
        self.queue.put(WaitingLine::event(DispatchedCommand {
            guest: self.guest.id(),
            name: name.to_owned(),
            arguments,
            trace: trace::current_parent(),
        }))
    }

    /// Runs a line. If the name is no command and the other side has event handlers, they get the line. `is_call` is
    /// true if the sender waits for a reply.
    async fn run(&self, lease: Arc<Lease>, sent: DispatchedCommand, is_call: bool) -> CallReply {
        let LocalClient { gate, guest, .. } = self;
        let entry = lease.instance.commands.find(&sent.name);
        if entry.is_none() && guest.heard.is_of_use() {
            let is_notified = || dispatch::notify_handlers(guest, &sent.name, &sent.arguments);
            if !is_call && is_notified() {
                return Ok(b"[]".to_vec());
            }
            if is_call && let Some(reply) = self.ask_listeners(&sent.name, is_notified)? {
                // The call needs nothing of this instance: its successor may answer as well.
                drop(lease);
                return in_time(reply, gate.limits.command, (&gate.name, &sent.name)).await;
            }
        }
        dispatch::call(lease, gate, entry, sent).await
    }

    /// Adds a call for the other side's event handlers, which answer by an event of its name. Returns `None` if there
    /// is no handler any more.
    fn ask_listeners(
        &self,
        name: &str,
        is_notified: impl FnOnce() -> bool,
    ) -> Result<Option<ReplyFuture>, CallError> {
        let mut has_listeners = true;
        let asked = self.asked.ask(name, None, || {
            has_listeners = is_notified();
            match has_listeners {
                true => Ok(()),
                false => Err(CallError::new(ErrorCode::UnknownCommand, "nobody listens")),
            }
        });
        match asked {
            Ok(reply) => Ok(Some(reply)),
            Err(_) if !has_listeners => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn is_gone(&self) -> CallError {
        let text = format!("the connection to {} was lost", self.gate.name);
        CallError::new(ErrorCode::Crashed, text)
    }

    fn enter(&self) -> Result<InFlight, CallError> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= IN_FLIGHT_MAX {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let text = format!(
                "{IN_FLIGHT_MAX} calls to {} are under way on this connection already; wait for some of them",
                self.gate.name
            );
            return Err(CallError::new(ErrorCode::Unavailable, text));
        }
        Ok(InFlight(Arc::clone(&self.in_flight)))
    }

    /// Handles the lines that the other side has pushed. Lines that came before a reply are handled before it.
    fn hand_on(&self, client: &Client) {
        if !self.guest.has_mail() && !self.is_handed_on.load(Ordering::Acquire) {
            return;
        }
        let _handing_on = lock(&self.handing_on);
        // Set before the lines are taken: a caller that sees no more lines sees this.
        self.is_handed_on.store(true, Ordering::Release);
        let mut lines = Vec::new();
        self.guest.take_into(&mut lines);
        let lines = lines.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            if let Line::Message(message) = read_line(line)
                && self.asked.answer(&message) != LineMatch::Ours
                && let Some(answer) = client.hear(&message, line)
                && let Line::Message(answer) = read_line(&answer)
            {
                self.guest.asked.answer(&answer);
            }
        }
        self.is_handed_on.store(false, Ordering::Release);
    }

    /// Returns whether the connect hook of the instance is due for this client.
    fn is_unannounced(&self) -> bool {
        self.gate.phase().is_unannounced(&self.guest)
    }
}

/// Waits for the reply to a queued call.
async fn reply_of(waiting: oneshot::Receiver<CallReply>) -> CallReply {
    waiting.await.unwrap_or_else(|_| {
        Err(CallError::new(
            ErrorCode::Unavailable,
            "the connection was lost before it was the call's turn",
        ))
    })
}

/// Connects, and serves the connection until it is lost. Returns why. `remote` is the daemon of another host that the
/// lines are for, if the gate is that of its bridge.
pub(super) async fn attend(client: &Client, gate: &Arc<Gate>, remote: Option<String>) -> CallError {
    let limit = gate.limits.guests_max;
    let Some(guest) = gate.guests.enter_below(limit) else {
        let text = format!("{} has {limit} guests, as many as it may", gate.name);
        return CallError::new(ErrorCode::TooManyGuests, text);
    };
    // It has no socket that could be closed in favour of another guest.
    guest.note_line();
    let entered = GuestGuard(Arc::new(LocalClient::new(gate, guest, remote)));
    let here = &entered.0;
    // Concurrently: a daemon may call its guest while its connect hook runs.
    tokio::select! {
        text = listen(client, here) => CallError::new(ErrorCode::Unavailable, text),
        refusal = stay(client, here) => refusal,
    }
}

/// Waits for the gate, and sends lines until the client is closed. Returns why there is no connection any more.
async fn stay(client: &Client, here: &Arc<LocalClient>) -> CallError {
    let credential = tokio::select! {
        welcomed = welcomed(here) => match welcomed {
            Ok(credential) => credential,
            Err(refusal) => return refusal,
        },
        () = client.closed.cancelled() => return client.is_closed(),
    };
    let _ = here.credential.set(credential.clone());
    client.is_connected(ConnectionStage::Local(Arc::clone(here)), &credential);
    queue::run(client, here).await
}

/// Waits until the other side is there, and returns its credential. A daemon that sleeps is there: the first call wakes
/// it.
async fn welcomed(here: &LocalClient) -> Result<Credential, CallError> {
    if here.remote.is_none()
        && let GatePhase::Asleep(sleeping) = &**here.gate.phase()
    {
        return Ok(sleeping.credential());
    }
    let lease = admission::admitted(&here.gate, &here.guest, "dae").await?;
    match &here.remote {
        None => Ok(lease.instance.identity.credential()),
        Some(daemon) => remote::welcomed(here, daemon, lease).await,
    }
}

/// Handles the lines that the other side pushes, until the connection ends. Returns why it did.
async fn listen(client: &Client, here: &LocalClient) -> String {
    let mut ends = CrashCount::of(here);
    let why = poll_fn(|context| {
        here.guest.watch(context);
        ends.tell(client, here);
        let end = match () {
            () if here.guest.is_slow() => Some("slow-guest: too many of its events wait"),
            () if here.guest.is_closing() => Some("it was stopped"),
            () => None,
        };
        here.hand_on(client);
        if here.is_unannounced() {
            // The successor's connect hook is due.
            here.queue.wake();
        }
        end.map_or(Poll::Pending, Poll::Ready)
    });
    format!("{} has closed the connection: {}", client.name, why.await)
}

/// The crashes of the other side that the client has seen. The client's guest outlives a crash, but the crashed
/// instance's state for it is gone.
struct CrashCount {
    seen: u64,
    /// True while the client has not been notified of the successor.
    is_away: bool,
}

impl CrashCount {
    fn of(here: &LocalClient) -> Self {
        CrashCount {
            seen: here.gate.ends(),
            is_away: false,
        }
    }

    fn tell(&mut self, client: &Client, here: &LocalClient) {
        if here.credential.get().is_none() {
            // It wasn't there before either.
            self.seen = here.gate.ends();
            return;
        }
        if here.gate.ends() != self.seen {
            self.seen = here.gate.ends();
            if !std::mem::replace(&mut self.is_away, true) {
                client.tell_disconnected(&here.gate.last_end());
            }
        }
        if self.is_away
            && let GatePhase::Open(lease) = &**here.gate.phase()
        {
            self.is_away = false;
            match &here.remote {
                None => client.tell_connected(&lease.instance.identity.credential()),
                Some(_) => here
                    .credential
                    .get()
                    .iter()
                    .for_each(|one| client.tell_connected(one)),
            }
        }
    }
}

/// A guard that keeps a guest at that gate until it is dropped.
struct GuestGuard(Arc<LocalClient>);

impl Drop for GuestGuard {
    fn drop(&mut self) {
        let LocalClient { gate, guest, .. } = &*self.0;
        gate.guests.leave(guest.id());
        self.0.queue.end();
        self.0.asked.end(&self.0.is_gone());
        if let GatePhase::Open(lease) = &**gate.phase() {
            connect_hooks::goodbye(lease, guest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use dae_plugin_api::abi::status;
    use dae_store::config::Config;
    use dae_store::manifest::Manifest;
    use futures_util::FutureExt as _;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::connection::event_handlers::EventHandlers;
    use crate::connection::guest_handle::next_id;
    use crate::peers::client::Host;
    use crate::plugin::completion::Completion;
    use crate::session::test_daemon::{TestDaemon, command, gate_of, instance};

    type CallFuture = Pin<Box<dyn Future<Output = CallReply> + Send>>;

    fn client() -> Arc<Client> {
        let host = Host {
            visitor: "B".to_owned(),
            directory: Arc::default(),
            limits: Config::default().limits(),
            runtime: tokio::runtime::Handle::current(),
            client_listener: OnceLock::new(),
            opened: AtomicUsize::new(0),
            state_keeper: None,
            bridge: None,
        };
        Arc::new(Client {
            id: next_id(),
            name: "A".to_owned(),
            heard: EventHandlers::from_the_start(),
            counts: Arc::default(),
            host: Arc::new(host),
            stage: watch::Sender::new(ConnectionStage::Connecting),
            was_there: AtomicBool::new(true),
            closed: CancellationToken::new(),
        })
    }

    fn manifest() -> Manifest {
        Manifest {
            connect: Some("async".to_owned()),
            commands: vec![command("slow")],
            ..Manifest::default()
        }
    }

    /// The client's own task runs the hook. A second run at the same time would greet the client twice.
    #[tokio::test]
    async fn a_call_that_is_polled_after_a_reload_leaves_the_connect_hook_to_the_clients_task() {
        let (gate, _lease_return) = gate_of(TestDaemon::that_waits().0, manifest());
        let guest = gate.guests.enter();
        assert!(admission::admitted(&gate, &guest, "slow").await.is_ok());
        let here = Arc::new(LocalClient::new(&gate, Arc::clone(&guest), None));
        let CallProgress::Later(mut reply) = Arc::clone(&here).call(&client(), "slow", "") else {
            panic!("it ends later");
        };
        assert!(here.queue.is_empty(), "it runs in its caller's task");
        let successor = instance(TestDaemon::that_waits().0, manifest());
        let number = successor.number();
        let _lease_return = gate.open(successor);
        assert!((&mut reply).now_or_never().is_none());
        assert!(!here.queue.is_empty() && !guest.is_greeted_by(number));
    }

    /// Queues calls of `slow` during a change. Returns them, and the gate behind which they wait.
    fn queued<const CALLS: usize>() -> (Arc<Gate>, Arc<LocalClient>, [CallFuture; CALLS]) {
        let (gate, _) = gate_of(TestDaemon::that_waits().0, of_one_command());
        let here = Arc::new(LocalClient::new(&gate, gate.guests.enter(), None));
        gate.hold_for_change();
        let client = client();
        let calls = [(); CALLS].map(|()| match Arc::clone(&here).call(&client, "slow", "") {
            CallProgress::Later(reply) => reply,
            CallProgress::Now(reply) => panic!("it ends at once: {reply:?}"),
        });
        (gate, here, calls)
    }

    fn of_one_command() -> Manifest {
        Manifest {
            commands: vec![command("slow")],
            ..Manifest::default()
        }
    }

    /// The daemon takes one command, so that the call that was given up would stand in the other's way.
    #[tokio::test]
    async fn a_call_that_was_given_up_in_the_queue_does_not_begin() {
        let (gate, here, [given_up, kept]) = queued();
        drop(given_up);
        let (daemon, end) = TestDaemon::that_waits();
        let _lease_return = gate.open(instance(daemon, of_one_command()));
        let ended = Completion {
            status: status::DONE,
            bytes: b"3".to_vec(),
        };
        end.send(ended).unwrap();
        let client = client();
        tokio::select! {
            ended = queue::run(&client, &here) => panic!("{ended:?}"),
            reply = kept => assert_eq!(reply.unwrap(), b"[3]"),
        }
        assert!(here.queue.is_empty());
    }

    #[tokio::test]
    async fn a_queued_call_that_is_given_up_while_it_runs_is_cancelled() {
        let (gate, here, [reply]) = queued();
        let (daemon, end) = TestDaemon::that_waits();
        let _lease_return = gate.open(instance(daemon, of_one_command()));
        let client = client();
        let mut run = pin!(queue::run(&client, &here));
        assert!(run.as_mut().now_or_never().is_none());
        assert!(here.queue.is_empty() && !end.is_closed(), "it runs");
        drop(reply);
        assert!(run.as_mut().now_or_never().is_none());
        assert!(end.is_closed(), "it is cancelled");
    }
}
