//! A visit to a daemon of the same host: straight to its door, by no socket.
//!
//! The visitor is a guest of that door like any other, and what is pushed to it is taken by the visit. A call runs in the
//! task of whoever made it, where nothing that was sent before it still waits for its turn; else it waits behind that. So do
//! lines that expect no reply: they must not run on the stack of whoever sends them, or two daemons that tell each other
//! things would call each other until it is used up.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use dae_common_tcp::{ErrorCode, Line, Message, read_line, write_error};
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{Calling, Stage, Visit};
use crate::asked::{Answered, Asked, Refusal, Reply, in_time};
use crate::door::{Door, Lease, Phase};
use crate::greet;
use crate::mailbox::Mailbox;
use crate::report::Credential;
use crate::turn::{self, Sent};

/// Commands of one visit that run or wait, as of one guest; past that, they are refused.
const IN_FLIGHT_MAX: usize = 1024;
/// So many calls deep one daemon's future may run inside another's; the next goes on a task of its own. A level costs some
/// 2 KiB of stack at most, of the 2 MiB that a thread has.
const DEPTH_MAX: usize = 16;

thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });

/// The connection.
#[derive(Debug)]
pub(super) struct Here {
    door: Arc<Door>,
    guest: Arc<Mailbox>,
    /// What was asked that is no command, and is answered by an event.
    asked: Asked,
    waiting: Mutex<VecDeque<Waiting>>,
    /// Lines that were sent and have not begun to run.
    not_begun: AtomicUsize,
    in_flight: Arc<AtomicUsize>,
    more: Notify,
}

/// A line that waits for its turn.
#[derive(Debug)]
struct Waiting {
    sent: Sent,
    reply: Option<oneshot::Sender<Reply>>,
    _in_flight: InFlight,
}

/// One of the commands in flight, until it is dropped.
#[derive(Debug)]
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A future that knows how deep in others it is polled.
struct Nested<F>(F);

impl<F: Future + Unpin> Future for Nested<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let depth = DEPTH.get();
        DEPTH.set(depth + 1);
        let polled = Pin::new(&mut self.0).poll(context);
        DEPTH.set(depth);
        polled
    }
}

impl Here {
    /// Who is visited.
    pub(super) fn credential(&self) -> Result<Credential, Refusal> {
        match &**self.door.phase() {
            Phase::Open(lease) => Ok(lease.instance.identity.credential()),
            _ => Err(Refusal::new(
                ErrorCode::Unavailable,
                turn::no_instance(&self.door),
            )),
        }
    }

    /// Sends a command.
    pub(super) fn call(self: Arc<Self>, name: &str, arguments: &str, runtime: &Handle) -> Calling {
        let is_next = self.not_begun.load(Ordering::Acquire) == 0;
        if is_next && let Some(reply) = turn::at_once(&self.door, &self.guest, (name, arguments)) {
            return Calling::Now(reply);
        }
        let in_flight = match self.enter() {
            Ok(in_flight) => in_flight,
            Err(refusal) => return Calling::Now(Err(refusal)),
        };
        let sent = Sent {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let is_open = matches!(**self.door.phase(), Phase::Open(_));
        if !(is_next && is_open) {
            return self.call_in_turn(sent, in_flight);
        }
        let work = Box::pin(async move {
            let lease = turn::admitted(&self.door, &self.guest).await?;
            let reply = self.run(lease, sent, true).await;
            drop(in_flight);
            reply
        });
        if DEPTH.get() < DEPTH_MAX {
            return Calling::Later(Box::pin(Nested(work)));
        }
        let task = AbortOnDropHandle::new(runtime.spawn(work));
        Calling::Later(Box::pin(async move {
            let crashed = |error| Refusal::new(ErrorCode::Crashed, format!("{error}"));
            task.await.map_err(crashed)?
        }))
    }

    fn call_in_turn(self: Arc<Self>, sent: Sent, in_flight: InFlight) -> Calling {
        let (sender, reply) = oneshot::channel();
        self.put(Waiting {
            sent,
            reply: Some(sender),
            _in_flight: in_flight,
        });
        Calling::Later(Box::pin(async move {
            reply.await.unwrap_or_else(|_| {
                Err(Refusal::new(
                    ErrorCode::Unavailable,
                    "the connection was lost before it was the call's turn",
                ))
            })
        }))
    }

    /// Sends a line that expects no reply.
    pub(super) fn emit(&self, message: &Message<'_>) -> bool {
        if self.guest.asked.answer(message) == Answered::Ours {
            return true;
        }
        let Ok(in_flight) = self.enter() else {
            return false;
        };
        self.put(Waiting {
            sent: Sent {
                name: message.name.to_owned(),
                arguments: message.arguments.to_owned(),
            },
            reply: None,
            _in_flight: in_flight,
        });
        true
    }

    /// Runs a line: a command, or what is none and has a listener on the other side.
    async fn run(&self, lease: Arc<Lease>, sent: Sent, is_call: bool) -> Reply {
        let Here { door, guest, .. } = self;
        let is_command = lease.instance.commands.find(&sent.name).is_some();
        if !is_command && guest.heard.is_of_use() {
            let reply = match is_call {
                true => Some(self.asked.ask(&sent.name, None)?),
                false => None,
            };
            if turn::tell_event(guest, &sent.name, &sent.arguments) {
                return match reply {
                    Some(reply) => {
                        in_time(reply, door.limits.command, (&door.name, &sent.name)).await
                    }
                    None => Ok(b"[]".to_vec()),
                };
            }
        }
        turn::run(lease, Arc::clone(door), Arc::clone(guest), sent).await
    }

    fn enter(&self) -> Result<InFlight, Refusal> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= IN_FLIGHT_MAX {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let text = format!(
                "{IN_FLIGHT_MAX} calls to {} are under way on this connection already; wait for some of them",
                self.door.name
            );
            return Err(Refusal::new(ErrorCode::Unavailable, text));
        }
        Ok(InFlight(Arc::clone(&self.in_flight)))
    }

    fn put(&self, waiting: Waiting) {
        self.not_begun.fetch_add(1, Ordering::AcqRel);
        lock(&self.waiting).push_back(waiting);
        self.more.notify_one();
    }
}

/// Goes in, and tends the connection until it is lost; why it was.
pub(super) async fn attend(visit: &Visit, door: &Arc<Door>) -> Refusal {
    let unavailable = |text: String| Refusal::new(ErrorCode::Unavailable, text);
    let limit = door.limits.guests_max;
    if door.guests.count() >= limit {
        let text = format!("{} has {limit} guests, as many as it may", door.name);
        return Refusal::new(ErrorCode::TooManyGuests, text);
    }
    let entered = Entered(Arc::new(Here {
        guest: door.guests.enter(),
        door: Arc::clone(door),
        asked: Asked::default(),
        waiting: Mutex::default(),
        not_begun: AtomicUsize::new(0),
        in_flight: Arc::default(),
        more: Notify::new(),
    }));
    let here = &entered.0;
    let credential = match turn::admitted(door, &here.guest).await {
        Ok(lease) => lease.instance.identity.credential(),
        Err(refusal) => return refusal,
    };
    visit.is_connected(Stage::Here(Arc::clone(here)), &credential);
    let text = tokio::select! {
        text = listen(visit, here) => text,
        never = take_turns(visit, here) => match never {},
    };
    unavailable(text)
}

/// What the other side pushes, until the connection ends; why it did.
async fn listen(visit: &Visit, here: &Here) -> String {
    loop {
        let mut lines = Vec::new();
        let end = poll_fn(|context| {
            here.guest.watch(context);
            here.guest.take_into(&mut lines);
            let end = match () {
                () if here.guest.is_slow() => Some("slow-guest: too many of its events wait"),
                () if here.guest.is_closing() => Some("it was stopped"),
                () => None,
            };
            match lines.is_empty() && end.is_none() && !is_to_be_greeted(here) {
                true => Poll::Pending,
                false => Poll::Ready(end),
            }
        })
        .await;
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if let Line::Message(message) = read_line(line)
                && here.asked.answer(&message) != Answered::Ours
                && let Some(answer) = visit.hear(&message, line)
                && let Line::Message(answer) = read_line(&answer)
            {
                here.guest.asked.answer(&answer);
            }
        }
        if let Some(end) = end {
            return format!("{} has closed the connection: {end}", visit.name);
        }
        if is_to_be_greeted(here) {
            // A successor that is there now; what comes of it is no concern of ours.
            let _ = turn::admitted(&here.door, &here.guest).await;
        }
    }
}

fn is_to_be_greeted(here: &Here) -> bool {
    match &**here.door.phase() {
        Phase::Open(lease) => greet::is_due(lease, &here.guest),
        _ => false,
    }
}

/// Has the lines that wait run, each begun after the one before it.
async fn take_turns(visit: &Visit, here: &Here) -> std::convert::Infallible {
    let mut running = FuturesUnordered::new();
    loop {
        let next = lock(&here.waiting).pop_front();
        let Some(waiting) = next else {
            tokio::select! {
                () = here.more.notified() => {}
                Some(()) = running.next(), if !running.is_empty() => {}
            }
            continue;
        };
        let has_begun = Arc::new(AtomicBool::new(false));
        let mut turn = Box::pin(take_turn(visit, here, waiting, Arc::clone(&has_begun)));
        // Until it has begun, nothing behind it may.
        let is_over = poll_fn(|context| {
            let polled = turn.as_mut().poll(context);
            match polled.is_ready() || has_begun.load(Ordering::Relaxed) {
                true => Poll::Ready(polled.is_ready()),
                false => Poll::Pending,
            }
        });
        if !is_over.await {
            running.push(turn);
        }
        while let Some(Some(())) = running.next().now_or_never() {}
    }
}

async fn take_turn(visit: &Visit, here: &Here, waiting: Waiting, has_begun: Arc<AtomicBool>) {
    let Waiting {
        sent,
        reply,
        _in_flight,
    } = waiting;
    let command = sent.name.clone();
    let admitted = turn::admitted(&here.door, &here.guest).await;
    has_begun.store(true, Ordering::Relaxed);
    let result = match admitted {
        Ok(lease) => {
            let mut running = Box::pin(here.run(lease, sent, reply.is_some()));
            // Its first poll begins it; only then may the next one.
            let first = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
            here.not_begun.fetch_sub(1, Ordering::AcqRel);
            match first {
                Poll::Ready(reply) => reply,
                Poll::Pending => running.await,
            }
        }
        Err(refusal) => {
            here.not_begun.fetch_sub(1, Ordering::AcqRel);
            Err(refusal)
        }
    };
    match (reply, result) {
        // Whoever waited may have given up.
        (Some(waiting), reply) => drop(waiting.send(reply)),
        (None, Err(refusal)) => tell_error(visit, &command, &refusal),
        (None, Ok(_)) => {}
    }
}

/// An event that was refused is told as one.
fn tell_error(visit: &Visit, command: &str, refusal: &Refusal) {
    let mut line = Vec::new();
    let code = refusal.code.parse().unwrap_or(ErrorCode::Failed);
    write_error(&mut line, command, None, code, &refusal.message);
    line.pop();
    visit.heard.tell(&line);
}

/// A guest at that door, until it is dropped.
struct Entered(Arc<Here>);

impl Drop for Entered {
    fn drop(&mut self) {
        let Here { door, guest, .. } = &*self.0;
        door.guests.leave(guest.id());
        lock(&self.0.waiting).clear();
        self.0.not_begun.store(0, Ordering::Release);
        if let Phase::Open(lease) = &**door.phase() {
            greet::goodbye(lease, guest);
        }
    }
}

/// No code of others runs under these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
