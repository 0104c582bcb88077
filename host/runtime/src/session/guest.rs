//! A guest: one Common TCP connection, from accept to close.
//!
//! Each connection has one task with a single poll function, because all its steps share two buffers. The function
//! collects finished replies, answers all whole lines, writes what is ready and reads again. A command that answers on
//! the spot goes from the read buffer to the write buffer without an allocation or a task switch. A quiet guest has no
//! buffers: it uses the thread's spare ones for the length of a poll.
//!
//! A line that needs an instance waits while there is none ([`gate`]). Each wait has its own limit ([`limits`]).
//!
//! Order: an untagged reply waits in `ordered` for those before it; a tagged one doesn't.
//!
//! A connection ends when the guest has closed it and all it sent is answered, or when its daemon asks it to end. It
//! also ends for another protocol, for half a line older than its limit, and for a guest that doesn't read what is
//! pushed to it. An error of the socket ends it without an error line, since nobody would read one.
//!
//! A guest that keeps its daemon's subprocess busy is handed off to it ([`hand_off`]). Its task then only waits for the
//! return.

mod answers;
mod batches;
mod buffers;
mod gate;
mod hand_off;
mod limits;
mod lines;
mod running;
mod sent_batch;
mod stream;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use dae_common_tcp::{ErrorCode, Inbox, write_error};
use tokio::time::Sleep;

use crate::connection::guest_handle::GuestHandle;
use crate::connection::reply_budget::GUEST_BYTES_MAX;
use crate::hand_off::HandOffThreshold;
use crate::session::connect_hooks::{self, ConnectHook};
use crate::session::gate::{Gate, GatePhase};
use crate::threads::fd_limits::CountedConnection;
use answers::ReplyQueue;
use dae_store::tasks;
use hand_off::HandOffTask;
use limits::{LimitPassed, Timers};

pub use stream::Stream;

/// The most reply bytes that wait for a guest before reading from it stops (Common TCP, hostile input).
const OUTBOX_BYTES_MAX: usize = GUEST_BYTES_MAX;
/// The most commands of one guest that run or wait for their reply. Bounds the memory that a flood of slow commands
/// holds; further commands stay in the socket.
const IN_FLIGHT_MAX: usize = 1024;
/// A placeholder for a command that is not known yet.
const ANY: u32 = u32::MAX;
/// The size of one read (bytes): as much as a socket's buffer usually holds.
const READ_BYTES: usize = 16 << 10;

/// A guest that was admitted.
pub(crate) struct AdmittedGuest {
    /// The handle for pushing to the guest. It leaves the gate's guests when the connection has been served.
    pub(crate) guest_handle: Arc<GuestHandle>,
    /// The connection's entry in the count of file descriptors; `None` if it isn't counted.
    pub counted: Option<CountedConnection>,
}

/// Registers the thread-local buffers ([`crate::session::thread_start::prepare`]).
pub(crate) fn prepare_thread() {
    buffers::prepare_thread();
    batches::prepare_thread();
}

/// Serves one connection until it ends. The guest leaves when the future is dropped.
pub(crate) fn serve<S: Stream>(
    stream: S,
    gate: Arc<Gate>,
    entered: AdmittedGuest,
) -> impl Future<Output = ()> + Send {
    let mut guest = Guest::new(stream, gate, entered);
    async move { std::future::poll_fn(|context| guest.poll(context)).await }
}

/// Sends a guest the reason for refusing it. The caller closes the connection.
pub fn turn_away(stream: &impl Stream, text: &str) {
    let mut out = Vec::new();
    write_error(&mut out, "", None, ErrorCode::TooManyGuests, text);
    // A fresh socket takes so few bytes at once; one that doesn't is closed without a message.
    let _ = stream.try_write(&out);
}

struct Guest<S> {
    /// `None` while the guest is handed off.
    stream: Option<S>,
    // Dropped after the stream: a connection counts until it is closed.
    _counted: Option<CountedConnection>,
    handed_off: Option<Box<HandOffTask>>,
    /// The batches in a row after which the guest is handed off.
    hand_off_after: HandOffThreshold,
    /// The time limit for commands in flight to finish before a hand-off.
    rest: Option<Pin<Box<Sleep>>>,
    gate: Arc<Gate>,
    guest_handle: Arc<GuestHandle>,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// The bytes of the outbox that have been written.
    sent: usize,
    answers: ReplyQueue,
    /// Ends when the gate has changed; set while lines wait at the gate.
    gate_change: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The connect hook for this guest, while it runs.
    greeting: Option<ConnectHook>,
    timers: Timers,
    has_spoken: bool,
    /// A command that waits for reply budget: its index and its line.
    deferred: Option<(u32, Vec<u8>)>,
    /// True while the reply budget counts bytes that wait for this guest.
    is_counted: bool,
    has_ended: bool,
    is_closing: bool,
}

/// The result of taking lines from the inbox.
enum InboxLook {
    /// All whole lines are answered or under way.
    All,
    /// Some lines stay until there is reply budget or an instance.
    Some,
}

impl<S: Stream> Guest<S> {
    fn new(stream: S, gate: Arc<Gate>, entered: AdmittedGuest) -> Self {
        Guest {
            guest_handle: entered.guest_handle,
            _counted: entered.counted,
            inbox: Inbox::new(gate.limits.line_bytes_max),
            stream: Some(stream),
            handed_off: None,
            hand_off_after: HandOffThreshold::default(),
            rest: None,
            gate,
            outbox: Vec::new(),
            sent: 0,
            answers: ReplyQueue::default(),
            gate_change: None,
            greeting: None,
            timers: Timers::default(),
            has_spoken: false,
            deferred: None,
            is_counted: false,
            has_ended: false,
            is_closing: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        buffers::hand_off(&mut self.inbox, &mut self.outbox);
        let polled = self.poll_with_buffers(context);
        buffers::reclaim(&mut self.inbox, &mut self.outbox);
        polled
    }

    fn poll_with_buffers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Register the waker first, so that nothing pushed after this is missed.
        self.guest_handle.watch(context);
        // Read first: most wake-ups are due to new input, and then one pass of the loop is enough.
        if self.is_idle() && matches!(self.read(context), Poll::Ready(false)) {
            return Poll::Ready(());
        }
        loop {
            if self.handed_off.is_some() && !ready!(self.poll_hand_off(context)) {
                return Poll::Ready(());
            }
            let taken = self.answer_all(context);
            self.take_pushed();
            let was_full = !self.has_room();
            if self.flush(context).is_err() {
                return Poll::Ready(());
            }
            if was_full && self.has_room() {
                // Lines and events that found the outbox full are taken now: nothing else would wake this task.
                continue;
            }
            if self.is_due_to_be_handed_off() && self.is_at_rest(&taken) {
                if !self.hand_off() {
                    return Poll::Ready(());
                }
                continue;
            }
            if self.is_done(&taken) {
                return self.poll_shutdown(context);
            }
            match self.poll_more(&taken, context) {
                Poll::Ready(true) => continue,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match self.poll_limits(&taken, context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(LimitPassed::Instance) => self.give_up_waiting(),
                Poll::Ready(LimitPassed::Unread) => {
                    self.log_unread();
                    return Poll::Ready(());
                }
                Poll::Ready(LimitPassed::HalfLine | LimitPassed::Goodbye) => {
                    self.log_given_up();
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Returns true if there is more to do at once, and false if the guest has gone.
    fn poll_more(&mut self, taken: &InboxLook, context: &mut Context<'_>) -> Poll<bool> {
        let is_deferred = matches!(taken, InboxLook::Some) && self.deferred.is_some();
        if self.gate.room.is_tight() || is_deferred {
            // Register before the check, so that budget released in between isn't missed.
            self.gate.room.want(context);
        }
        let is_open = matches!(taken, InboxLook::All) && self.has_room() && !self.is_deaf();
        if is_open && self.poll_rest(context).is_ready() {
            return self.read(context);
        }
        let waits = self.gate_change.is_some() || self.greeting.is_some();
        match taken {
            InboxLook::Some if !waits && self.has_room() && !self.is_held_up() => Poll::Ready(true),
            _ => Poll::Pending,
        }
    }

    /// Returns whether no reply is owed and no input waits for an answer.
    fn is_idle(&self) -> bool {
        let has_nothing =
            self.inbox.buffered() == 0 && self.outbox.is_empty() && self.deferred.is_none();
        let waits_for_nothing = self.gate_change.is_none() && self.greeting.is_none();
        has_nothing && waits_for_nothing && self.answers.in_flight() == 0 && !self.is_deaf()
    }

    fn is_deaf(&self) -> bool {
        self.has_ended || self.is_closing
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.outbox.len() - self.sent < OUTBOX_BYTES_MAX
            && self.answers.in_flight() < IN_FLIGHT_MAX
            && self.answers.arguments() < OUTBOX_BYTES_MAX
            && (!self.gate.room.is_tight() || self.may_begin())
    }

    /// Returns whether the daemon's reply budget allows the guest's next command.
    #[cold]
    fn may_begin(&self) -> bool {
        let command = self.deferred.as_ref().map_or(ANY, |(command, _)| *command);
        self.gate.room.may_begin(self.guest_handle.id(), command)
    }

    /// Returns whether the deferred command, if there is one, must still wait for a reservation.
    #[inline]
    fn is_held_up(&self) -> bool {
        let deferred = self.deferred.as_ref();
        deferred.is_some_and(|(command, _)| self.gate.room.is_reserved(*command))
    }

    /// Reports the bytes that wait for this guest to the daemon's reply budget.
    fn count_unread(&mut self) {
        let waits = self.outbox.len() - self.sent + self.answers.held();
        if waits != 0 || self.is_counted {
            self.is_counted = waits != 0;
            self.gate.room.set(self.guest_handle.id(), waits);
            self.guest_handle.count_unread(waits);
        }
        // While the guest has something to read, the reply that the held ones wait for can wait, too. The held ones
        // are counted by now: they may be what makes the budget tight.
        let is_all_sent = self.sent == self.outbox.len();
        if is_all_sent {
            self.answers.is_written();
        }
        if is_all_sent && self.answers.held() > 0 && self.gate.room.is_tight() {
            self.answers.go_on();
        }
    }

    /// Returns whether nothing is owed and no more input is expected.
    fn is_done(&self, taken: &InboxLook) -> bool {
        let is_answered = self.answers.in_flight() == 0 && self.deferred.is_none();
        let owes_nothing = is_answered && self.sent == self.outbox.len();
        let expects_nothing =
            self.is_closing || (self.has_ended && matches!(taken, InboxLook::All));
        owes_nothing && expects_nothing
    }

    fn take_pushed(&mut self) {
        if self.guest_handle.is_slow() && !self.is_closing {
            let text = "too many events wait for this guest to read them; the connection is closed";
            write_error(&mut self.outbox, "", None, ErrorCode::SlowGuest, text);
            self.is_closing = true;
        } else if self.outbox.len() - self.sent < OUTBOX_BYTES_MAX {
            // An event waits behind the replies that are ready, but not for commands that still run.
            self.guest_handle.take_into(&mut self.outbox);
        }
    }

    /// Writes what is ready. An error means that the guest has gone.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.sent < self.outbox.len() {
            let Some(stream) = &mut self.stream else {
                break;
            };
            match Pin::new(stream).poll_write(context, &self.outbox[self.sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    self.timers.on_written();
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.sent == self.outbox.len() {
            self.outbox.clear();
            self.sent = 0;
        } else if self.sent > self.outbox.len() / 2 {
            // Not sooner: moving the rest of a huge reply again and again would take quadratic time.
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        self.count_unread();
        Ok(())
    }

    /// Reads once. Returns false if the connection has failed; a guest that has only finished sending is still there.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(stream) = &mut self.stream else {
            return Poll::Pending;
        };
        let room = self.inbox.room(READ_BYTES);
        let read = ready!(tokio_util::io::poll_read_buf(
            Pin::new(stream),
            context,
            room
        ));
        self.has_ended = matches!(read, Ok(0));
        Poll::Ready(read.is_ok())
    }

    /// Logs that half a line is too old, or that a closed guest doesn't read its last messages.
    fn log_given_up(&self) {
        let (daemon, peer) = (&self.gate.name, self.peer());
        tracing::debug!(daemon, peer, "a guest was given up on");
    }

    /// Logs that the guest doesn't read a reply that delays other guests' replies.
    #[cold]
    fn log_unread(&self) {
        tracing::warn!(
            daemon = self.gate.name,
            peer = self.peer(),
            bytes = self.outbox.len() - self.sent,
            "a guest took nothing of a large reply for {:?} (half_line_ms), and other guests' large replies wait for that; \
             its connection is closed",
            self.gate.limits.half_line
        );
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(());
        };
        // The connection is over either way, so an error of the shutdown is ignored.
        Pin::new(stream).poll_shutdown(context).map(drop)
    }

    fn peer(&self) -> String {
        let peer = self.stream.as_ref().map(Stream::peer);
        peer.unwrap_or_else(|| "a guest that is handed off".to_owned())
    }
}

impl<S> Drop for Guest<S> {
    fn drop(&mut self) {
        tasks::tell_if_panicking(|| format!("a connection of {}", self.gate.name));
        self.gate.guests.leave(self.guest_handle.id());
        self.gate.room.set(self.guest_handle.id(), 0);
        if let GatePhase::Open(lease) = &**self.gate.phase() {
            connect_hooks::goodbye(lease, &self.guest_handle);
        }
    }
}
