//! The hand-off of a guest to its daemon's own process: when it happens, why the guest is recalled, and how it
//! continues.
//!
//! A guest is handed off at rest: all its commands are answered, all replies are written, and nothing else is under
//! way. It returns with the input that the process has not handled, and continues as if it had always been here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dae_common_tcp::{Inbox, Line};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answers::ReplyRoute;
use super::{Guest, InboxLook, Stream};
use crate::hand_off::{HandOff, HandOffThreshold, RecallReason, Returned};
use crate::instance::reply::ReplyLines;
use crate::plugin::command_table::ResolvedCommand;
use crate::plugin::completion::Completion;
use crate::session::connect_hooks;
use crate::session::gate::{self, GatePhase, Lease};
use crate::threads::counters::{BatchCounts, NO_COMMAND};

/// The longest pause in reading before a hand-off, for commands in flight to finish. Quick commands need less.
pub(super) const REST_MAX: Duration = Duration::from_millis(5);
/// A hand-off, as the guest's task sees it.
pub(super) struct HandOffTask {
    hand_off: HandOff,
    /// Held until the guest returns: no reload proceeds without it.
    lease: Arc<Lease>,
    is_revoked: bool,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    gate_change: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S: Stream> Guest<S> {
    /// Returns whether the guest keeps its daemon's process busy enough for a hand-off.
    #[inline]
    pub(super) fn is_due_to_be_handed_off(&self) -> bool {
        S::CAN_BE_HANDED_OFF
            && self
                .hand_off_after
                .is_reached(self.answers.batches_in_a_row())
            && !self.gate_wait.has_hook()
            && !self.guest_handle.asked.is_any()
            // The command of that trace is still to come.
            && self.input.trace.is_none()
    }

    /// Waits until the guest may be read. Reading pauses for a due hand-off while commands are in flight, unless half a
    /// line has come. A slow command ends the pause after [`REST_MAX`], and the count of batches starts again.
    pub(super) fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_to_rest = self.is_due_to_be_handed_off() && self.answers.in_flight() > 0;
        if !is_to_rest || self.input.inbox.buffered() > 0 {
            self.rest = None;
            return Poll::Ready(());
        }
        let rest = self
            .rest
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(REST_MAX)));
        ready!(rest.as_mut().poll(context));
        self.rest = None;
        self.answers.begin_a_row();
        Poll::Ready(())
    }

    /// Returns whether nothing of the guest is under way.
    pub(super) fn is_at_rest(&self, taken: &InboxLook) -> bool {
        let is_answered = self.answers.in_flight() == 0 && self.input.deferred.is_none();
        let owes_nothing = is_answered && self.output.outbox.is_empty();
        let has_all = matches!(taken, InboxLook::All) && !self.input.inbox.is_mid_line();
        owes_nothing && has_all && !self.is_deaf() && !self.guest_handle.is_closing()
    }

    /// Hands the guest off, if that is possible now. Returns false if the connection is lost.
    pub(super) fn hand_off(&mut self) -> bool {
        self.answers.begin_a_row();
        let gate = Arc::clone(&self.gate);
        let phase = gate.phase();
        let GatePhase::Open(lease) = &**phase else {
            return true;
        };
        // The instance may differ from the one that answered the last batch.
        if connect_hooks::is_due(lease, &self.guest_handle) {
            return true;
        }
        let Some(Ok(socket)) = self.stream.take().map(S::part) else {
            return false;
        };
        let (line_bytes_max, limit) = (gate.limits.line_bytes_max, gate.limits.command);
        let handed_off =
            lease
                .instance
                .hand_off(self.guest_handle.id(), socket, (line_bytes_max, limit));
        match handed_off {
            Ok(hand_off) => {
                gate.stats.include(&hand_off.counting(), &lease.counts);
                self.handed_off = Some(Box::new(HandOffTask {
                    hand_off,
                    lease: Arc::clone(lease),
                    is_revoked: false,
                    revoked: Box::pin(lease.revoked.clone().cancelled_owned()),
                    gate_change: Box::pin(gate.changed()),
                }));
                true
            }
            Err(socket) => {
                self.hand_off_after.raise();
                self.rejoin(socket)
            }
        }
    }

    fn rejoin(&mut self, socket: std::net::TcpStream) -> bool {
        self.stream = S::rejoin(socket).ok();
        self.stream.is_some()
    }

    /// Waits until the guest returns. Returns false if the connection is lost.
    pub(super) fn poll_hand_off(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let why = self.reason_to_recall(context);
        let Some(handed_off) = &mut self.handed_off else {
            return Poll::Ready(true);
        };
        let (socket, back) = ready!(handed_off.hand_off.poll_back(why, context));
        let lease = Arc::clone(&handed_off.lease);
        self.handed_off = None;
        match back.is_unwanted || self.guest_handle.has_mail() {
            true => self.hand_off_after.raise(),
            false => self.hand_off_after = HandOffThreshold::default(),
        }
        let is_here = self.rejoin(socket);
        let bytes = back.handed.unread();
        self.answers.has_brought(&lease, &self.guest_handle, bytes);
        match is_here {
            true => self.take_back(back, &lease),
            // Its command ends with the connection.
            false => drop(lease.instance.begun_there(back.id, self.guest_handle.id())),
        }
        Poll::Ready(is_here)
    }

    /// Returns the reason to recall the guest, if there is one. The task is woken when that changes.
    fn reason_to_recall(&mut self, context: &mut Context<'_>) -> Option<RecallReason> {
        let handed_off = self.handed_off.as_mut()?;
        // The flag remembers the result: a future must not be polled again after it is ready.
        handed_off.is_revoked =
            handed_off.is_revoked || handed_off.revoked.as_mut().poll(context).is_ready();
        if handed_off.is_revoked {
            return Some(RecallReason::Revoked);
        }
        while handed_off.gate_change.as_mut().poll(context).is_ready() {
            handed_off.gate_change = Box::pin(self.gate.changed());
        }
        let is_same = |phase: &GatePhase| matches!(phase, GatePhase::Open(now) if Arc::ptr_eq(now, &handed_off.lease));
        let has_post = self.guest_handle.has_mail() || self.guest_handle.is_slow();
        let is_wanted = has_post || self.guest_handle.is_closing() || !is_same(&self.gate.phase());
        is_wanted.then_some(RecallReason::Recalled)
    }

    /// Continues where the daemon's process left off. The lease is on that process's instance.
    fn take_back(&mut self, back: Returned, lease: &Arc<Lease>) {
        let handed = back.handed;
        self.output.outbox.extend_from_slice(&handed.replies);
        if !handed.last.is_empty() {
            // Events emitted while that command ran come before its reply.
            self.guest_handle.take_into(&mut self.output.outbox);
            self.output.outbox.extend_from_slice(&handed.last);
        }
        if let Some(panicked) = handed.panicked {
            let counts = BatchCounts {
                calls: 1,
                errors: 1,
                panics: 1,
            };
            let took = Duration::from_nanos(panicked.took_ns);
            self.gate.count_one(lease, (panicked.command, counts), took);
        }
        if let Some((line, why)) = back.broken {
            self.answer_broken(&line, &why, lease);
        }
        if !handed.waiting.is_empty() {
            self.wait_for_begun(back.id, &handed.waiting, lease);
        }
        self.input
            .inbox
            .room(handed.rest.len())
            .extend_from_slice(&handed.rest);
    }

    /// Waits for the command of that line, which the daemon's process has begun and goes on with.
    fn wait_for_begun(&mut self, hand_off: u64, line: &[u8], lease: &Arc<Lease>) {
        let mut inbox = Inbox::resumed(line.len());
        inbox.room(line.len()).extend_from_slice(line);
        let guest = self.guest_handle.id();
        let instance = &lease.instance;
        let begun = instance.begun_there(hand_off, guest);
        if let Some(Line::Message(message)) = inbox.next()
            && let Some(known) = instance.commands.known(message.name)
            && let (Some(index), Some(pending)) = (known.index(), begun)
        {
            instance.note_at_once(index, false);
            let route = ReplyRoute::new(lease, &self.gate, &self.guest_handle);
            return self.answers.add_begun(&message, (index, pending), route);
        }
        tracing::error!(
            daemon = self.gate.name,
            "the process of a daemon waits for a line that is no command"
        );
    }

    /// Answers the line that the daemon's process was working on.
    fn answer_broken(&mut self, line: &[u8], why: &RecallReason, lease: &Lease) {
        let mut inbox = Inbox::resumed(line.len());
        inbox.room(line.len()).extend_from_slice(line);
        // It was a message when the process began with it.
        let Some(Line::Message(message)) = inbox.next() else {
            tracing::error!(
                daemon = self.gate.name,
                "the process of a daemon was at a line that is none"
            );
            return;
        };
        let limit = self.gate.limits.command;
        let known = lease.instance.commands.known(message.name);
        let command = known.and_then(ResolvedCommand::index);
        let command = command.unwrap_or(NO_COMMAND);
        let fate = lease.instance.fate(command);
        let (ended, took) = match why {
            RecallReason::TooLong(_) => (gate::too_long(message.name, limit, fate), limit),
            RecallReason::Revoked => (gate::let_go(message.name, fate), Duration::ZERO),
            RecallReason::Died(ended) => (ended.clone(), Duration::ZERO),
            RecallReason::Recalled => return,
        };
        let Completion { status, bytes } = ended;
        let mut counts = BatchCounts::default();
        let mut lines = ReplyLines {
            out: &mut self.output.outbox,
            tally: &mut counts,
        };
        lines.write_ended((&message).into(), status, &bytes);
        self.gate.count_one(lease, (command, counts), took);
    }
}
