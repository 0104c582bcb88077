//! Takes the whole lines of a guest from its inbox and routes each to the code that answers it.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use dae_common_tcp::{ErrorCode, Fault, Inbox, Line, Message, Protocol};

use super::answers::{self, LineBatch};
use super::{Guest, InboxLook, Stream};
use crate::connection::pending_calls::LineMatch;
use crate::connection::reply_budget::ReservationBusy;
use crate::plugin::command_table::{CommandEntry, RunsOn};
use crate::session::admission::{Admission, LineTarget};
use crate::session::connect_hooks;
use crate::session::dispatch;
use crate::session::gate::{GatePhase, Lease};
use crate::threads::counters::BatchCounts;
use crate::threads::latency;

impl<S: Stream> Guest<S> {
    /// Answers what has finished and what has come, and counts it.
    pub(super) fn answer_all(&mut self, context: &mut Context<'_>) -> InboxLook {
        let began = Instant::now();
        self.is_counted |=
            self.answers
                .collect(&mut self.outbox, (&self.gate, &self.guest_handle), context);
        let (taken, tally, instance) = self.take_lines(context);
        if tally.calls > 0 {
            let took = began.elapsed();
            self.gate.count(instance, tally, took);
            if took >= latency::SLOW && tally.calls > 1 {
                self.doubt();
            }
        }
        taken
    }

    /// Marks the instance's commands as possibly slow: one of a batch was, and the next ones will show which.
    #[cold]
    fn doubt(&self) {
        if let GatePhase::Open(lease) = &**self.gate.phase() {
            lease.instance.doubt();
        }
    }

    /// Answers whole lines while there is reply budget, once the gate is open or shut and the connect hook has ended.
    /// Also returns the number of the instance that answered; 0 if none did.
    fn take_lines(&mut self, context: &mut Context<'_>) -> (InboxLook, BatchCounts, u64) {
        let nothing = |taken| (taken, BatchCounts::default(), 0);
        // Poll the connect hook in every phase of the gate: a hook that isn't polled would hold its lease forever.
        let is_greeted = !self.is_greeting_on(context);
        if self.guest_handle.is_closing() || self.is_closing {
            self.is_closing = true;
            let mut tally = BatchCounts::default();
            self.refuse_deferred(&dispatch::closing(&self.gate), &mut tally);
            return (InboxLook::All, tally, 0);
        }
        let phase = self.gate.phase();
        let target = match phase.admit(&self.guest_handle) {
            Admission::Waits { .. } => {
                let (taken, tally) = self.wait_at_gate(context);
                return (taken, tally, 0);
            }
            Admission::Decided(target) if is_greeted => target,
            Admission::Unannounced(lease)
                if is_greeted && !self.is_to_be_greeted(lease, context) =>
            {
                LineTarget::Instance(lease)
            }
            Admission::Decided(_) | Admission::Unannounced(_) => {
                self.gate_change = None;
                return nothing(InboxLook::Some);
            }
        };
        self.gate_change = None;
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        let (taken, tally) = self.answer_lines(&mut inbox, target, context);
        self.inbox = inbox;
        let mut instance = 0;
        if let LineTarget::Instance(lease) = target {
            let turn = answers::ReplyContext {
                lease,
                gate: &self.gate,
                guest: &self.guest_handle,
            };
            self.answers.hand_over(turn, context);
            lease.instance.flush();
            instance = lease.instance.number();
        }
        (taken, tally, instance)
    }

    fn answer_lines<'a>(
        &mut self,
        inbox: &'a mut Inbox,
        target: LineTarget<'a>,
        context: &mut Context<'_>,
    ) -> (InboxLook, BatchCounts) {
        if self.has_ended {
            inbox.end();
        }
        let mut lines = inbox.lines();
        let mut batch = LineBatch::default();
        let mut is_any = false;
        let taken = loop {
            if !self.has_room() {
                break InboxLook::Some;
            }
            if let Some((_, line)) = self.deferred.take() {
                is_any = true;
                batch
                    .tally
                    .add(self.answer_deferred(&line, target, context));
                match self.deferred {
                    None => continue,
                    // It still waits.
                    Some(_) => break InboxLook::Some,
                }
            }
            if let Some(message) = lines.next_plain() {
                is_any = true;
                self.answer(message, target, &mut batch, context);
                continue;
            }
            let Some(line) = lines.next() else {
                break InboxLook::All;
            };
            is_any = true;
            self.answer_any(line, target, &mut batch, context);
            if self.is_closing {
                break InboxLook::All;
            }
        };
        if is_any {
            self.on_lines();
        }
        (taken, batch.tally)
    }

    /// Notes that whole lines were taken.
    #[inline]
    pub(super) fn on_lines(&mut self) {
        self.timers.on_line();
        if !self.has_spoken {
            self.has_spoken = true;
            self.guest_handle.note_line();
        }
    }

    /// Answers any line; [`Guest::answer`] is for messages on the hot path. Lines end where another protocol opens.
    #[inline(never)]
    fn answer_any<'a>(
        &mut self,
        line: Line<'a>,
        target: LineTarget<'a>,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        match line {
            Line::Message(message) => self.answer(message, target, batch, context),
            // A reply to the daemon's own call that can't be read: the call gets the error, and the guest gets none.
            Line::Fault(fault)
                if self.guest_handle.asked.answer_fault(&fault) != LineMatch::NotOurs => {}
            Line::Fault(fault) => self.refuse_fault(&fault, &mut batch.tally),
            Line::OtherProtocol(protocol) => self.refuse_protocol(protocol),
        }
    }

    pub(super) fn refuse_fault(&mut self, fault: &Fault<'_>, tally: &mut BatchCounts) {
        let of = (fault.command, fault.tag);
        self.refuse(of, (fault.code, &fault.message), tally);
    }

    /// Closes a connection of another protocol.
    pub(super) fn refuse_protocol(&mut self, protocol: Protocol) {
        self.is_closing = true;
        let Some(skipped) = self.gate.other_protocols.is_due() else {
            return;
        };
        tracing::warn!(
            daemon = self.gate.name,
            peer = self.peer(),
            skipped,
            "a guest opened its connection with {protocol}, and this port speaks Common TCP; the connection was closed and \
             nothing of it was run"
        );
    }

    #[inline(always)]
    fn answer<'a>(
        &mut self,
        message: Message<'a>,
        target: LineTarget<'a>,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        if self.is_reply(&message) || is_stray(&message) {
            return;
        }
        match target {
            LineTarget::Instance(lease) => {
                let turn = answers::ReplyContext {
                    lease,
                    gate: &self.gate,
                    guest: &self.guest_handle,
                };
                let room = &self.gate.room;
                let commands = &lease.instance.commands;
                let known = batch
                    .found
                    .known(commands, message.name, |index| !room.is_unguarded(index));
                if (room.is_tight() || batch.found.is_guarded())
                    && let Some(CommandEntry::Own { index, runs }) = known.map(|known| known.entry)
                {
                    return self.answer_if_room(message, (index, runs), lease, (batch, context));
                }
                let rest = (&mut self.outbox, &mut batch.tally, context);
                self.answers.answer(message, known, turn, rest);
            }
            LineTarget::Refusal(reason) => {
                let of = (message.name, message.tag);
                self.refuse(of, (ErrorCode::Unavailable, reason), &mut batch.tally);
            }
        }
    }

    /// Answers a command, if there is budget for its reply now. If not, its line is kept until there is.
    #[cold]
    fn answer_if_room<'a>(
        &mut self,
        message: Message<'a>,
        (index, runs): (u32, RunsOn),
        lease: &'a Arc<Lease>,
        (batch, context): (&mut LineBatch<'a>, &mut Context<'_>),
    ) {
        let room = &self.gate.room;
        let reserved = match room.may_begin(self.guest_handle.id(), index) {
            true if lease.instance.is_in_process() => room.reserve(index),
            true => Ok(None),
            false => Err(ReservationBusy),
        };
        let Ok(reservation) = reserved else {
            self.deferred = Some((index, line_of(&message)));
            return;
        };
        let is_reserved = reservation.is_some();
        let turn = answers::ReplyContext {
            lease,
            gate: &self.gate,
            guest: &self.guest_handle,
        };
        let known = lease.instance.commands.known(message.name);
        self.answers.set_reservation(reservation);
        let rest = (&mut self.outbox, &mut batch.tally, context);
        self.answers.answer(message, known, turn, rest);
        if is_reserved {
            // Count the reply before other commands may make theirs.
            self.count_unread();
            self.answers.set_reservation(None);
        }
        // Other commands note the size of their reply when they end.
        if runs == RunsOn::Here || !lease.instance.is_in_process() {
            self.gate.room.note_end(index);
        }
    }

    /// Answers a command that was kept.
    #[cold]
    fn answer_deferred(
        &mut self,
        line: &[u8],
        target: LineTarget<'_>,
        context: &mut Context<'_>,
    ) -> BatchCounts {
        let mut inbox = kept(line);
        let mut batch = LineBatch::default();
        // It was a message when it came.
        if let Some(Line::Message(message)) = inbox.next() {
            self.answer(message, target, &mut batch, context);
        }
        batch.tally
    }

    /// Answers a line with an error, in its place in the order.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        (command, tag): (&str, Option<&str>),
        (code, text): (ErrorCode, &str),
        tally: &mut BatchCounts,
    ) {
        tally.calls += 1;
        tally.errors += 1;
        let error = answers::error(command, tag, code, text);
        self.answers.put(&mut self.outbox, tag.is_some(), &error);
    }

    /// Returns whether the message is the reply to a call of the daemon to this guest.
    #[inline]
    pub(super) fn is_reply(&self, message: &Message<'_>) -> bool {
        self.guest_handle.asked.is_any()
            && self.guest_handle.asked.answer(message) != LineMatch::NotOurs
    }

    /// Returns whether the connect hook for this guest is running. Lines wait until it ends.
    fn is_greeting_on(&mut self, context: &mut Context<'_>) -> bool {
        let is_on = match &mut self.greeting {
            Some(greeting) => greeting.as_mut().poll(context).is_pending(),
            None => false,
        };
        if !is_on {
            self.greeting = None;
        }
        is_on
    }

    /// Starts the connect hook for this guest. Returns whether it is still running.
    #[cold]
    fn is_to_be_greeted(&mut self, lease: &Arc<Lease>, context: &mut Context<'_>) -> bool {
        self.greeting = connect_hooks::due(lease, &self.guest_handle, self.gate.limits.command);
        self.is_greeting_on(context)
    }
}

/// Returns whether the message is a reply to no call of ours. No such line is answered: two daemons could otherwise
/// answer each other forever.
#[inline]
pub(super) fn is_stray(message: &Message<'_>) -> bool {
    match message.name {
        "error" => true,
        "dae" | "options" => !matches!(message.arguments, "" | "[]"),
        _ => false,
    }
}

/// Returns an inbox that holds the line of a deferred command.
pub(super) fn kept(line: &[u8]) -> Inbox {
    let mut inbox = Inbox::resumed(line.len());
    inbox.room(line.len()).extend_from_slice(line);
    inbox
}

/// Returns the line of a command.
fn line_of(message: &Message<'_>) -> Vec<u8> {
    let (name, arguments) = (message.name, message.arguments);
    let line = match message.tag {
        Some(tag) => format!("{name}#{tag} {arguments}\n"),
        None => format!("{name} {arguments}\n"),
    };
    line.into_bytes()
}
