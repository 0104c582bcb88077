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
mod input;
mod limits;
mod lines;
mod output;
mod running;
mod sent_batch;
mod stream;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use dae_common_tcp::{ErrorCode, write_error};
use tokio::time::Sleep;

use crate::connection::guest_handle::GuestHandle;
use crate::connection::reply_budget;
use crate::hand_off::HandOffThreshold;
use crate::session::connect_hooks;
use crate::session::dispatch::IN_FLIGHT_MAX;
use crate::session::gate::{Gate, GatePhase};
use crate::threads::fd_limits::CountedConnection;
use answers::ReplyQueue;
use dae_store::tasks;
use gate::GateWait;
use hand_off::HandOffTask;
use input::Input;
use limits::{LimitPassed, LimitedWaits, Timers};
use output::{OUTBOX_BYTES_MAX, Output};

pub use stream::Stream;

/// A placeholder for a command that is not known yet.
const ANY: u32 = u32::MAX;

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
pub fn reject(stream: &impl Stream, text: &str) {
    let mut out = Vec::new();
    write_error(&mut out, "", None, ErrorCode::TooManyGuests, text);
    // A fresh socket takes so few bytes at once; one that doesn't is closed without a message.
    let _ = stream.try_write(&out);
}

/// A guest's connection, and its state: the input and output sides, the replies that it is owed, and its waits.
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
    input: Input,
    output: Output,
    answers: ReplyQueue,
    gate_wait: GateWait,
    timers: Timers,
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
            input: Input::new(gate.limits.line_bytes_max),
            stream: Some(stream),
            handed_off: None,
            hand_off_after: HandOffThreshold::default(),
            rest: None,
            gate,
            output: Output::default(),
            answers: ReplyQueue::default(),
            gate_wait: GateWait::default(),
            timers: Timers::default(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        buffers::hand_off(&mut self.input.inbox, &mut self.output.outbox);
        let polled = self.poll_with_buffers(context);
        buffers::reclaim(&mut self.input.inbox, &mut self.output.outbox);
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
            let was_full = !self.has_space();
            if self.flush(context).is_err() {
                return Poll::Ready(());
            }
            if was_full && self.has_space() {
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
            let waits = self.limited_waits(&taken);
            match self.timers.poll(waits, &self.gate.limits, context) {
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
        let is_deferred = matches!(taken, InboxLook::Some) && self.input.deferred.is_some();
        if self.gate.budget.is_tight() || is_deferred {
            // Register before the check, so that budget released in between isn't missed.
            self.gate.budget.want(context);
        }
        let is_open = matches!(taken, InboxLook::All) && self.has_space() && !self.is_deaf();
        if is_open && self.poll_rest(context).is_ready() {
            return self.read(context);
        }
        match taken {
            InboxLook::Some
                if !self.gate_wait.is_on() && self.has_space() && !self.is_held_up() =>
            {
                Poll::Ready(true)
            }
            _ => Poll::Pending,
        }
    }

    /// Returns whether no reply is owed and no input waits for an answer.
    fn is_idle(&self) -> bool {
        let has_nothing = self.input.is_empty() && self.output.outbox.is_empty();
        let waits_for_nothing = !self.gate_wait.is_on() && self.answers.in_flight() == 0;
        has_nothing && waits_for_nothing && !self.is_deaf()
    }

    fn is_deaf(&self) -> bool {
        self.input.is_deaf()
    }

    #[inline]
    fn has_space(&self) -> bool {
        self.output.has_space()
            && self.answers.in_flight() < IN_FLIGHT_MAX
            && self.answers.arguments() < OUTBOX_BYTES_MAX
            && (!self.gate.budget.is_tight() || self.may_begin())
    }

    /// Returns whether the daemon's reply budget allows the guest's next command.
    #[cold]
    fn may_begin(&self) -> bool {
        let deferred = self.input.deferred.as_ref();
        let command = deferred.map_or(ANY, |deferred| deferred.index);
        self.gate.budget.may_begin(self.guest_handle.id(), command)
    }

    /// Returns whether the deferred command, if there is one, must still wait for a reservation.
    #[inline]
    fn is_held_up(&self) -> bool {
        let deferred = self.input.deferred.as_ref();
        deferred.is_some_and(|deferred| self.gate.budget.is_reserved(deferred.index))
    }

    /// Reports the bytes that wait for this guest to the daemon's reply budget.
    fn count_unread(&mut self) {
        self.output
            .count(self.answers.held(), &self.gate.budget, &self.guest_handle);
        // While the guest has something to read, the reply that the held ones wait for can wait, too. The held ones
        // are counted by now: they may be what makes the budget tight.
        let is_all_sent = self.output.is_written();
        if is_all_sent {
            self.answers.is_written();
        }
        if is_all_sent && self.answers.held() > 0 && self.gate.budget.is_tight() {
            self.answers.go_on();
        }
    }

    /// Returns whether nothing is owed and no more input is expected.
    fn is_done(&self, taken: &InboxLook) -> bool {
        let owes_nothing = self.answers.in_flight() == 0 && self.output.is_written();
        owes_nothing && self.input.is_over(matches!(taken, InboxLook::All))
    }

    /// Returns the waits with a limit that are under way.
    fn limited_waits(&self, taken: &InboxLook) -> LimitedWaits {
        let has_all = matches!(taken, InboxLook::All);
        LimitedWaits {
            // Half a line behind waiting lines is younger than they are, and is not read further.
            half_line: has_all && self.input.inbox.is_mid_line() && !self.is_deaf(),
            instance: !has_all && self.gate_wait.is_limited(&self.gate),
            // The daemon's other large replies wait for this one.
            unread: self.output.waiting() > reply_budget::BULK_BYTES_MIN,
            goodbye: has_all && self.input.is_closing() && self.answers.in_flight() == 0,
        }
    }

    fn take_pushed(&mut self) {
        if self.guest_handle.is_slow() && !self.input.is_closing() {
            let text = "too many events wait for this guest to read them; the connection is closed";
            write_error(
                &mut self.output.outbox,
                "",
                None,
                ErrorCode::SlowGuest,
                text,
            );
            self.input.close();
        } else if self.output.has_space() {
            // An event waits behind the replies that are ready, but not for commands that still run.
            self.guest_handle.take_into(&mut self.output.outbox);
        }
    }

    /// Writes what is ready. An error means that the guest has gone.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(stream) = &mut self.stream
            && self.output.flush(stream, context)?
        {
            self.timers.on_written();
        }
        self.count_unread();
        Ok(())
    }

    /// Reads once. Returns false if the connection has failed; a guest that has only finished sending is still there.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(stream) = &mut self.stream else {
            return Poll::Pending;
        };
        self.input.read(stream, context)
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
            bytes = self.output.waiting(),
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
        self.gate.budget.set(self.guest_handle.id(), 0);
        if let GatePhase::Open(lease) = &**self.gate.phase() {
            connect_hooks::goodbye(lease, &self.guest_handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use dae_plugin_api::abi::status;
    use dae_store::manifest::Manifest;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::plugin::completion::Completion;
    use crate::session::test_daemon::{self, TestDaemon, gate_of};

    /// A stream that has sent some bytes, and takes all that is written.
    struct TestStream {
        sent: &'static [u8],
        written: Vec<u8>,
    }

    impl AsyncRead for TestStream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match std::mem::take(&mut self.sent) {
                [] => Poll::Pending,
                sent => {
                    buffer.put_slice(sent);
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    impl AsyncWrite for TestStream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Stream for TestStream {
        const CAN_BE_HANDED_OFF: bool = false;

        fn peer(&self) -> String {
            "a test".to_owned()
        }

        fn try_write(&self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn part(self) -> io::Result<std::net::TcpStream> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn rejoin(_: std::net::TcpStream) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Ten thousand quiet guests are usual, and each holds one of these.
    #[test]
    fn a_quiet_guest_takes_few_bytes() {
        use tokio::net::TcpStream;
        // The size of the stream depends on the system.
        assert!(size_of::<Guest<TcpStream>>() - size_of::<TcpStream>() <= 368);
    }

    /// Nothing else would wake the task for such an event: the guest's lines wait for an instance.
    #[test]
    fn an_event_that_meets_a_full_outbox_is_sent_by_the_poll_that_empties_it() {
        let (daemon, end) = TestDaemon::that_waits();
        let manifest = Manifest {
            commands: vec![test_daemon::command("slow")],
            ..Manifest::default()
        };
        let (gate, _lease_return) = gate_of(daemon, manifest);
        let guest_handle = gate.guests.enter();
        let stream = TestStream {
            sent: b"slow#1\n",
            written: Vec::new(),
        };
        let entered = AdmittedGuest {
            guest_handle: Arc::clone(&guest_handle),
            counted: None,
        };
        let mut guest = Guest::new(stream, Arc::clone(&gate), entered);
        let mut poll = || {
            let polled = guest.poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            let stream = guest.stream.as_mut().expect("the guest is here");
            std::mem::take(&mut stream.written)
        };
        assert_eq!(poll(), b"");
        gate.hold_for_change();
        guest_handle.push(b"tick [1]");
        let ended = Completion {
            status: status::DONE,
            bytes: vec![b'1'; OUTBOX_BYTES_MAX],
        };
        end.send(ended).expect("the command runs");
        let written = poll();
        assert!(written.starts_with(b"slow#1 [11") && written.len() > OUTBOX_BYTES_MAX);
        assert!(written.ends_with(b"1]\ntick [1]\n"));
    }
}
