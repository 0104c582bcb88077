//! The waiting lines of a local client. They begin one after the other.
//!
//! The client's own task runs them. The amount that may wait is bounded. Past the limit the connection ends, as for a
//! guest that doesn't read, since nobody would notice a single dropped line.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use dae_common_tcp::ErrorCode;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, oneshot};

use super::{InFlight, LocalClient, lock};
use crate::connection::event_queue::EVENT_QUEUE_BYTES_MAX;
use crate::connection::pending_calls::{CallError, CallReply};
use crate::peers::client::Client;
use crate::session::admission;
use crate::session::dispatch::{DispatchedCommand, IN_FLIGHT_MAX};
use crate::session::gate::Lease;
use crate::session::sleeping;

/// The limit for waiting lines (bytes): as much as may be pushed to a guest.
const WAITING_BYTES_MAX: usize = EVENT_QUEUE_BYTES_MAX;

/// A waiting line.
#[derive(Debug)]
pub(super) struct WaitingLine {
    sent: DispatchedCommand,
    reply: Option<oneshot::Sender<CallReply>>,
    _in_flight: Option<InFlight>,
}

impl WaitingLine {
    /// Makes a line for a command, and the receiver of its reply.
    pub(super) fn call(
        sent: DispatchedCommand,
        in_flight: InFlight,
    ) -> (Self, oneshot::Receiver<CallReply>) {
        let (sender, reply) = oneshot::channel();
        let waiting = WaitingLine {
            sent,
            reply: Some(sender),
            _in_flight: Some(in_flight),
        };
        (waiting, reply)
    }

    /// Makes a line that expects no reply.
    pub(super) fn event(sent: DispatchedCommand) -> Self {
        WaitingLine {
            sent,
            reply: None,
            _in_flight: None,
        }
    }

    fn bytes(&self) -> usize {
        self.sent.name.len() + self.sent.arguments.len()
    }
}

/// The queue of waiting lines.
#[derive(Debug, Default)]
pub(super) struct LineQueue {
    lines: Mutex<QueuedLines>,
    /// The number of lines that were sent and have not begun to run.
    not_begun: AtomicUsize,
    more: Notify,
}

#[derive(Debug, Default)]
struct QueuedLines {
    waiting: VecDeque<WaitingLine>,
    bytes: usize,
    is_full: bool,
    is_over: bool,
}

impl LineQueue {
    /// Returns whether all lines that were sent have begun to run.
    pub(super) fn is_empty(&self) -> bool {
        self.not_begun.load(Ordering::Acquire) == 0
    }

    /// Queues a line behind the others. Returns false if the queue is full or has ended.
    pub(super) fn put(&self, line: WaitingLine) -> bool {
        let mut lines = lock(&self.lines);
        let fits = lines.bytes + line.bytes() <= WAITING_BYTES_MAX;
        // A call can be refused, but nobody would notice a dropped event.
        lines.is_full |= !fits && line.reply.is_none();
        let is_taken = fits && !lines.is_full && !lines.is_over;
        if is_taken {
            lines.bytes += line.bytes();
            lines.waiting.push_back(line);
            self.not_begun.fetch_add(1, Ordering::AcqRel);
        }
        drop(lines);
        self.wake();
        is_taken
    }

    /// Wakes the task for a reason other than a queued line.
    pub(super) fn wake(&self) {
        self.more.notify_one();
    }

    /// Ends the queue: it accepts no more lines, and the calls that wait fail.
    pub(super) fn end(&self) {
        let mut lines = lock(&self.lines);
        lines.is_over = true;
        let left = std::mem::take(&mut lines.waiting);
        drop(lines);
        self.not_begun.store(0, Ordering::Release);
        drop(left);
    }

    fn next(&self) -> Option<WaitingLine> {
        let mut lines = lock(&self.lines);
        let line = lines.waiting.pop_front()?;
        lines.bytes -= line.bytes();
        Some(line)
    }

    fn is_full(&self) -> bool {
        lock(&self.lines).is_full
    }

    fn has_begun(&self) {
        self.not_begun.fetch_sub(1, Ordering::AcqRel);
    }
}

type Running<'v> = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'v>>>;

/// Runs the waiting lines until the client is closed and all of them are done, or too many wait.
pub(super) async fn run(client: &Client, here: &LocalClient) -> CallError {
    let mut running = Running::new();
    while !here.queue.is_full() {
        if here.is_unannounced() {
            // The result is ignored: each line waits to be admitted itself.
            let _ = meanwhile(&mut running, admission::announced(&here.gate, &here.guest)).await;
        }
        let has_space = running.len() < IN_FLIGHT_MAX;
        if let Some(line) = has_space.then(|| here.queue.next()).flatten() {
            begin(client, here, line, &mut running).await;
            continue;
        }
        let is_closed = client.closed.is_cancelled();
        if is_closed && running.is_empty() {
            return client.is_closed();
        }
        tokio::select! {
            () = here.queue.more.notified() => {}
            () = client.closed.cancelled(), if !is_closed => {}
            Some(()) = running.next(), if !running.is_empty() => {}
        }
    }
    let text = format!(
        "slow-guest: {} doesn't take what it is sent; more than {WAITING_BYTES_MAX} bytes wait",
        here.gate.name
    );
    CallError::new(ErrorCode::SlowGuest, text)
}

/// Begins a line. Until it has begun, no later line may begin.
async fn begin<'v>(
    client: &'v Client,
    here: &'v LocalClient,
    line: WaitingLine,
    running: &mut Running<'v>,
) {
    let has_begun = Arc::new(AtomicBool::new(false));
    let mut begun = Box::pin(run_line(client, here, line, Arc::clone(&has_begun)));
    let is_over = poll_fn(|context| {
        let polled = begun.as_mut().poll(context);
        match polled.is_ready() || has_begun.load(Ordering::Relaxed) {
            true => Poll::Ready(polled.is_ready()),
            false => Poll::Pending,
        }
    });
    if !meanwhile(running, is_over).await {
        running.push(begun);
    }
}

/// Waits for `work` while running lines go on: `work` may depend on one of them.
async fn meanwhile<T>(running: &mut Running<'_>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {}
        work.as_mut().poll(context)
    })
    .await
}

/// Runs a line once the client is admitted. A call whose caller has given it up does not begin, or is cancelled.
async fn run_line(
    client: &Client,
    here: &LocalClient,
    line: WaitingLine,
    has_begun: Arc<AtomicBool>,
) {
    let WaitingLine {
        sent,
        mut reply,
        _in_flight,
    } = line;
    let command = sent.name.clone();
    if let Some(result) = sleeping::reply(&here.gate, (&command, &sent.arguments)) {
        has_begun.store(true, Ordering::Relaxed);
        here.queue.has_begun();
        return conclude(client, &command, reply, result);
    }
    let admitted = admission::admitted(&here.gate, &here.guest, &command).await;
    has_begun.store(true, Ordering::Relaxed);
    let result = match admitted {
        Ok(_) if reply.as_ref().is_some_and(oneshot::Sender::is_closed) => {
            return here.queue.has_begun();
        }
        Ok(lease) => match run_admitted(here, (lease, sent), &mut reply).await {
            Some(result) => result,
            None => return,
        },
        Err(refusal) => {
            here.queue.has_begun();
            Err(refusal)
        }
    };
    conclude(client, &command, reply, result);
}

/// Runs a line. Returns `None` if its caller has given it up.
async fn run_admitted(
    here: &LocalClient,
    (lease, sent): (Arc<Lease>, DispatchedCommand),
    reply: &mut Option<oneshot::Sender<CallReply>>,
) -> Option<CallReply> {
    let mut running = Box::pin(here.run(lease, sent, reply.is_some()));
    // The first poll begins it; only then may the next line begin.
    let first = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
    here.queue.has_begun();
    match first {
        Poll::Ready(result) => Some(result),
        Poll::Pending => tokio::select! {
            result = running => Some(result),
            () = given_up(reply.as_mut()) => None,
        },
    }
}

/// Passes the result of a line to its caller, or to the event handlers if it is the refusal of an event.
fn conclude(
    client: &Client,
    command: &str,
    reply: Option<oneshot::Sender<CallReply>>,
    result: CallReply,
) {
    match (reply, result) {
        // The caller may have given up.
        (Some(waiting), reply) => drop(waiting.send(reply)),
        (None, Err(refusal)) => tell_error(client, command, &refusal),
        (None, Ok(_)) => {}
    }
}

/// Ends when the caller of a call has given it up.
async fn given_up(reply: Option<&mut oneshot::Sender<CallReply>>) {
    match reply {
        Some(waiting) => waiting.closed().await,
        None => std::future::pending().await,
    }
}

/// Passes the refusal of an event to the event handlers as an `error` event.
fn tell_error(client: &Client, command: &str, refusal: &CallError) {
    let mut line = Vec::new();
    refusal.write_line(&mut line, command, None);
    line.pop();
    client.heard.notify(&line);
}
