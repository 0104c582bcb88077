//! A guest: one Common TCP connection, from accept to close.
//!
//! One task a connection, written as one poll function, because all of it shares two buffers: take what has finished,
//! answer all whole lines that are there, write all that is ready at once, read again. A command that answers on the spot
//! goes from the read buffer to the write buffer without an allocation and without a task switch. A quiet guest has no
//! buffers: those in use are a thread's, lent for the length of a poll.
//!
//! A line for which there is no instance waits ([`gate`]); each wait has a limit of its own ([`limits`]).
//!
//! Order: an untagged reply waits in `ordered` for those before it; a tagged one doesn't.
//! What ends a connection: the guest (once all it sent is answered), its daemon's end, another protocol, half a line older than its
//! limit, or not reading what is pushed to it. A guest that keeps a daemon busy whose code has a process of its own is lent
//! to that ([`hand_off`]), and its task only waits until it is back. Errors of the socket end it without a word, since nobody
//! would read one.

mod answers;
mod batches;
mod buffers;
mod gate;
mod hand_off;
mod limits;
mod lines;
mod running;
mod stream;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use dae_common_tcp::{ErrorCode, Inbox, write_error};
use tokio::time::Sleep;

use crate::connection::guest_handle::GuestHandle;
use crate::connection::reply_budget::GUEST_BYTES_MAX;
use crate::session::connect_hooks::{self, ConnectHook};
use crate::session::gate::{Gate, GatePhase};
use crate::threads::fd_limits::CountedConnection;
use answers::ReplyQueue;
use dae_store::tasks;
use hand_off::HandOffTask;
use limits::{LimitPassed, Timers};

pub use stream::Stream;

/// Replies that wait for a guest before no more is read from it, in bytes (Common TCP, hostile input).
const OUTBOX_BYTES_MAX: usize = GUEST_BYTES_MAX;
/// Commands of one guest that run or wait for their turn to be answered. Bounds the memory that a flood of slow commands
/// holds; more of them stay in the socket.
const IN_FLIGHT_MAX: usize = 1024;
/// Stands for a command of which nothing is known.
const ANY: u32 = u32::MAX;
/// One read, in bytes: as much as a socket's buffer usually holds.
const READ_BYTES: usize = 16 << 10;

/// A guest that was let in.
pub(crate) struct AdmittedGuest {
    /// What others push to it. It leaves its gate's guests when it has been served.
    pub(crate) guest_handle: Arc<GuestHandle>,
    /// Its connection, where that counts against those of others.
    pub counted: Option<CountedConnection>,
}

/// Registers what this thread undoes at its end ([`crate::session::thread_start::prepare`]).
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

/// Tells a guest why it isn't let in. The caller closes the connection.
pub fn turn_away(stream: &impl Stream, text: &str) {
    let mut out = Vec::new();
    write_error(&mut out, "", None, ErrorCode::TooManyGuests, text);
    // A fresh socket takes so few bytes at once; one that doesn't is closed without a word.
    let _ = stream.try_write(&out);
}

struct Guest<S> {
    /// `None` while it is lent.
    stream: Option<S>,
    // Dropped behind the stream: a connection counts until it is closed.
    _counted: Option<CountedConnection>,
    handed_off: Option<Box<HandOffTask>>,
    /// Batches that it has to come to before it is lent.
    lends_after: u32,
    /// Ends with the time that it has to come to rest.
    rest: Option<Pin<Box<Sleep>>>,
    gate: Arc<Gate>,
    guest_handle: Arc<GuestHandle>,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// How much of the outbox has been written.
    sent: usize,
    answers: ReplyQueue,
    /// Ends when the gate has changed; there while lines wait before it.
    gate_change: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// There while the instance is being told of this guest.
    greeting: Option<ConnectHook>,
    timers: Timers,
    has_spoken: bool,
    /// A command that waits for room, and its line.
    deferred: Option<(u32, Vec<u8>)>,
    /// Whether the daemon's room counts something that waits for this guest.
    is_counted: bool,
    has_ended: bool,
    is_closing: bool,
}

/// What a look at the inbox came to.
enum InboxLook {
    /// All whole lines are answered or under way.
    All,
    /// Some are left for when there is room, or an instance.
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
            lends_after: hand_off::LENDS_AFTER,
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
        // First, so that nothing pushed from here on is missed.
        self.guest_handle.watch(context);
        // Mostly it is the guest who has something to say, and then once around is enough.
        if self.is_idle() && matches!(self.read(context), Poll::Ready(false)) {
            return Poll::Ready(());
        }
        loop {
            if self.handed_off.is_some() && !ready!(self.poll_hand_off(context)) {
                return Poll::Ready(());
            }
            let taken = self.answer_all(context);
            self.take_pushed();
            if self.flush(context).is_err() {
                return Poll::Ready(());
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

    /// Whether there is more to do at once; false where the guest is gone.
    fn poll_more(&mut self, taken: &InboxLook, context: &mut Context<'_>) -> Poll<bool> {
        let is_deferred = matches!(taken, InboxLook::Some) && self.deferred.is_some();
        if self.gate.room.is_tight() || is_deferred {
            // Before the look: room that appears from here on isn't missed.
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

    /// Nothing is owed, and nothing is there that an answer could be owed to.
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

    /// Whether there is room for the reply to a command, by what waits for all guests of the daemon.
    #[cold]
    fn may_begin(&self) -> bool {
        let command = self.deferred.as_ref().map_or(ANY, |(command, _)| *command);
        self.gate.room.may_begin(self.guest_handle.id(), command)
    }

    /// Whether the command that waits for room, if there is one, would have to wait on for a reservation.
    #[inline]
    fn is_held_up(&self) -> bool {
        let deferred = self.deferred.as_ref();
        deferred.is_some_and(|(command, _)| self.gate.room.is_reserved(*command))
    }

    /// Tells the daemon's room what waits for this guest.
    fn count_unread(&mut self) {
        let waits = self.outbox.len() - self.sent + self.answers.held();
        // While the guest has something to read, the reply that the held ones wait for can wait, too.
        let is_all_sent = self.sent == self.outbox.len();
        if is_all_sent {
            self.answers.is_written();
        }
        if is_all_sent && self.answers.held() > 0 && self.gate.room.is_tight() {
            self.answers.go_on();
        }
        if waits != 0 || self.is_counted {
            self.is_counted = waits != 0;
            self.gate.room.set(self.guest_handle.id(), waits);
            self.guest_handle.count_unread(waits);
        }
    }

    /// Nothing more will come, and nothing is owed.
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

    /// Writes what is ready; an error means that the guest has gone.
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
            // Not sooner: moving the rest of a huge reply again and again would take its time squared.
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        self.count_unread();
        Ok(())
    }

    /// Reads once; false where the guest is gone for good, and not only silent from now on.
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

    /// Half a line is too old, or the guest doesn't read the last that is said to it.
    fn log_given_up(&self) {
        let (daemon, peer) = (&self.gate.name, self.peer());
        tracing::debug!(daemon, peer, "a guest was given up on");
    }

    /// The guest doesn't read a reply that keeps others from getting theirs.
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
        // Whether the other side still takes part in the goodbye is of no account.
        Pin::new(stream).poll_shutdown(context).map(drop)
    }

    fn peer(&self) -> String {
        let peer = self.stream.as_ref().map(Stream::peer);
        peer.unwrap_or_else(|| "a guest that is lent".to_owned())
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
