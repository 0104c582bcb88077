//! A visit to a daemon of the same host: straight to its gate, by no socket.
//!
//! The visitor is a guest of that gate like any other, and what is pushed to it is taken by the visit. A call runs in the
//! task of whoever made it, where nothing that was sent before it still waits for its turn; else it waits behind that
//! ([`turns`]). So do lines that expect no reply: they must not run on the stack of whoever sends them, or two daemons that
//! tell each other things would call each other until it is used up. And so does all that comes from a process of its own:
//! what reads from that must not run another daemon's code.

mod turns;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use dae_common_tcp::{ErrorCode, Line, Message, read_line};
use tokio_util::task::AbortOnDropHandle;

use super::{CallProgress, Client, ConnectionStage};
use crate::connection::guest_handle::GuestHandle;
use crate::connection::pending_calls::{
    CallError, CallReply, LineMatch, PendingCalls, ReplyFuture, in_time,
};
use crate::session::connect_hooks;
use crate::session::dispatch::{self, DispatchedCommand};
use crate::session::gate::{Gate, GatePhase, Lease};
use dae_store::lock::lock;
use dae_store::report::Credential;
use turns::{TurnQueue, WaitingLine};

/// Calls of one visit that run or wait, as of one guest; past that, they are refused.
const IN_FLIGHT_MAX: usize = 1024;
/// So many calls deep one daemon's code may run inside another's; the next goes on a task of its own. A level costs some
/// 2 KiB of stack at most, of the 2 MiB that a thread has.
const DEPTH_MAX: usize = 16;

thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });

/// The connection.
#[derive(Debug)]
pub(super) struct LocalClient {
    gate: Arc<Gate>,
    guest: Arc<GuestHandle>,
    /// Who was there when it was made.
    credential: OnceLock<Credential>,
    /// What was asked that is no command, and is answered by an event.
    asked: PendingCalls,
    queue: TurnQueue,
    in_flight: Arc<AtomicUsize>,
    /// Held by whoever hands on what was pushed, so that it stays in order.
    handing_on: Mutex<()>,
    /// Whether somebody does.
    is_handed_on: AtomicBool,
}

/// One of the calls in flight, until it is dropped.
#[derive(Debug)]
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs another daemon's code inside a daemon's, and knows how deep that is.
fn deeper<T>(code: impl FnOnce() -> T) -> T {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    let result = code();
    DEPTH.set(depth);
    result
}

/// A future that knows how deep in others it is polled.
struct DepthGuard<F>(F);

impl<F: Future + Unpin> Future for DepthGuard<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        deeper(|| Pin::new(&mut self.0).poll(context))
    }
}

impl LocalClient {
    fn new(gate: &Arc<Gate>, guest: Arc<GuestHandle>) -> Self {
        LocalClient {
            guest,
            gate: Arc::clone(gate),
            credential: OnceLock::new(),
            asked: PendingCalls::default(),
            queue: TurnQueue::default(),
            in_flight: Arc::default(),
            handing_on: Mutex::default(),
            is_handed_on: AtomicBool::new(false),
        }
    }

    /// Who is visited.
    pub(super) fn credential(&self) -> Result<Credential, CallError> {
        let unavailable =
            || CallError::new(ErrorCode::Unavailable, dispatch::no_instance(&self.gate));
        self.credential.get().cloned().ok_or_else(unavailable)
    }

    /// Sends a command.
    pub(super) fn call(
        self: Arc<Self>,
        client: &Arc<Client>,
        name: &str,
        arguments: &str,
    ) -> CallProgress {
        let may_run =
            client.host.told.get().is_none() && self.queue.is_empty() && !self.guest.has_left();
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
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        if !(may_run && self.is_open_to_us()) {
            return self.call_in_turn(client, sent, in_flight);
        }
        let client = Arc::clone(client);
        let runtime = client.host.runtime.clone();
        let work = Box::pin(async move {
            let lease = dispatch::admitted(&self.gate, &self.guest).await?;
            let reply = self.run(lease, sent, true).await;
            self.hand_on(&client);
            drop(in_flight);
            reply
        });
        if DEPTH.get() < DEPTH_MAX {
            return CallProgress::Later(Box::pin(DepthGuard(work)));
        }
        let task = AbortOnDropHandle::new(runtime.spawn(work));
        CallProgress::Later(Box::pin(async move {
            let crashed = |error| CallError::new(ErrorCode::Crashed, format!("{error}"));
            task.await.map_err(crashed)?
        }))
    }

    /// Whether an instance is there that knows of us.
    fn is_open_to_us(&self) -> bool {
        matches!(&**self.gate.phase(), GatePhase::Open(lease) if !connect_hooks::is_due(lease, &self.guest))
    }

    fn call_in_turn(
        self: Arc<Self>,
        client: &Arc<Client>,
        sent: DispatchedCommand,
        in_flight: InFlight,
    ) -> CallProgress {
        let (waiting, reply) = WaitingLine::call(sent, in_flight);
        if !self.queue.put(waiting) {
            let text = format!(
                "{} doesn't take what it is sent at the moment",
                self.gate.name
            );
            return CallProgress::Now(Err(CallError::new(ErrorCode::Unavailable, text)));
        }
        let client = Arc::clone(client);
        CallProgress::Later(Box::pin(async move {
            let reply = reply.await.unwrap_or_else(|_| {
                Err(CallError::new(
                    ErrorCode::Unavailable,
                    "the connection was lost before it was the call's turn",
                ))
            });
            self.hand_on(&client);
            reply
        }))
    }

    /// Sends a line that expects no reply. False where the connection has ended, or ends now for want of room.
    pub(super) fn emit(&self, message: &Message<'_>) -> bool {
        if self.guest.asked.answer(message) == LineMatch::Ours {
            return true;
        }
        self.queue.put(WaitingLine::event(DispatchedCommand {
            name: message.name.to_owned(),
            arguments: message.arguments.to_owned(),
        }))
    }

    /// Runs a line: a command, or what is none and has a listener on the other side.
    async fn run(&self, lease: Arc<Lease>, sent: DispatchedCommand, is_call: bool) -> CallReply {
        let LocalClient { gate, guest, .. } = self;
        let is_command = lease.instance.commands.find(&sent.name).is_some();
        if !is_command && guest.heard.is_of_use() {
            let is_told = || dispatch::tell_event(guest, &sent.name, &sent.arguments);
            if !is_call && is_told() {
                return Ok(b"[]".to_vec());
            }
            if is_call && let Some(reply) = self.ask_listeners(&sent.name, is_told)? {
                // Nothing of the instance runs for it: its successor may answer as well.
                drop(lease);
                return in_time(reply, gate.limits.command, (&gate.name, &sent.name)).await;
            }
        }
        dispatch::run(lease, Arc::clone(gate), Arc::clone(guest), sent).await
    }

    /// Enters a call that is told to the other side's listeners, who answer by an event of its name; `None` where nobody
    /// listens any more.
    fn ask_listeners(
        &self,
        name: &str,
        is_told: impl FnOnce() -> bool,
    ) -> Result<Option<ReplyFuture>, CallError> {
        let mut has_listeners = true;
        let asked = self.asked.ask(name, None, || {
            has_listeners = is_told();
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

    /// Hands on what the other side has pushed: what came before a reply is heard before it.
    fn hand_on(&self, client: &Client) {
        if !self.guest.has_mail() && !self.is_handed_on.load(Ordering::Acquire) {
            return;
        }
        let _turn = lock(&self.handing_on);
        // Set before the mail is taken: who sees none any more sees this.
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

    fn is_to_be_greeted(&self) -> bool {
        matches!(&**self.gate.phase(), GatePhase::Open(lease) if connect_hooks::is_due(lease, &self.guest))
    }
}

/// Goes in, and tends the connection until it is lost; why it was.
pub(super) async fn attend(client: &Client, gate: &Arc<Gate>) -> CallError {
    let limit = gate.limits.guests_max;
    let Some(guest) = gate.guests.enter_below(limit) else {
        let text = format!("{} has {limit} guests, as many as it may", gate.name);
        return CallError::new(ErrorCode::TooManyGuests, text);
    };
    // It has no connection that could be closed to make room.
    guest.note_line();
    let entered = GuestGuard(Arc::new(LocalClient::new(gate, guest)));
    let here = &entered.0;
    // Beside each other: a daemon may ask its guest something while it is told of it.
    tokio::select! {
        text = listen(client, here) => CallError::new(ErrorCode::Unavailable, text),
        refusal = stay(client, here) => refusal,
    }
}

/// Is let in, and sends what is to be sent, until it is closed; why there is no connection any more.
async fn stay(client: &Client, here: &Arc<LocalClient>) -> CallError {
    let lease = tokio::select! {
        admitted = dispatch::admitted(&here.gate, &here.guest) => match admitted {
            Ok(lease) => lease,
            Err(refusal) => return refusal,
        },
        () = client.closed.cancelled() => return client.is_closed(),
    };
    let credential = lease.instance.identity.credential();
    drop(lease);
    let _ = here.credential.set(credential.clone());
    client.is_connected(ConnectionStage::Local(Arc::clone(here)), &credential);
    turns::take(client, here).await
}

/// What the other side pushes, until the connection ends; why it did.
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
        if here.is_to_be_greeted() {
            // A successor that is there now.
            here.queue.wake();
        }
        end.map_or(Poll::Pending, Poll::Ready)
    });
    format!("{} has closed the connection: {}", client.name, why.await)
}

/// What the visitor knows of the other side's crashes: its own connection stands, and what the one that crashed knew of it
/// is gone.
struct CrashCount {
    seen: u64,
    /// The successor is still to be told of.
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
            client.tell_connected(&lease.instance.identity.credential());
        }
    }
}

/// A guest at that gate, until it is dropped.
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
