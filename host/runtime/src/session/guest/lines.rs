//! The lines of a guest that are there, each handed to whoever answers it.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use dae_common_tcp::{ErrorCode, Fault, Inbox, Line, Message, Protocol};

use super::answers::{self, LineBatch};
use super::{Guest, InboxLook, Stream};
use crate::connection::pending_calls::LineMatch;
use crate::connection::reply_budget::ReservationBusy;
use crate::plugin::command_table::{CommandEntry, RunsOn};
use crate::session::connect_hooks;
use crate::session::gate::{GatePhase, Lease};
use crate::threads::counters::BatchCounts;
use crate::threads::latency;

impl<S: Stream> Guest<S> {
    /// Answers what has finished and what is there, and counts it.
    pub(super) fn answer_all(&mut self, context: &mut Context<'_>) -> InboxLook {
        let began = Instant::now();
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

    /// One command of a batch was slow; the next ones will show which.
    #[cold]
    fn doubt(&self) {
        if let GatePhase::Open(lease) = &**self.gate.phase() {
            lease.instance.doubt();
        }
    }

    /// Answers whole lines while there is room for their replies, where somebody is there to do it. Returns besides the
    /// number of the instance that did; 0 where none did.
    fn take_lines(&mut self, context: &mut Context<'_>) -> (InboxLook, BatchCounts, u64) {
        let nothing = |taken| (taken, BatchCounts::default(), 0);
        // Whatever the gate is like by now: what nobody polls would hold its instance for ever.
        let is_greeted = !self.is_greeting_on(context);
        if self.guest_handle.is_closing() || self.is_closing {
            self.is_closing = true;
            return nothing(InboxLook::All);
        }
        let phase = self.gate.phase();
        if matches!(**phase, GatePhase::Waiting | GatePhase::Changing) {
            let (taken, tally) = self.wait_at_gate(context);
            return (taken, tally, 0);
        }
        self.gate_change = None;
        if !is_greeted || self.is_to_be_greeted(&phase, context) {
            return nothing(InboxLook::Some);
        }
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        let (taken, tally) = self.answer_lines(&mut inbox, &phase, context);
        self.inbox = inbox;
        let mut instance = 0;
        if let GatePhase::Open(lease) = &**phase {
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
        phase: &'a GatePhase,
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
                batch.tally.add(self.answer_deferred(&line, phase, context));
                match self.deferred {
                    None => continue,
                    // It waits on.
                    Some(_) => break InboxLook::Some,
                }
            }
            if let Some(message) = lines.next_plain() {
                is_any = true;
                self.answer(message, phase, &mut batch, context);
                continue;
            }
            let Some(line) = lines.next() else {
                break InboxLook::All;
            };
            is_any = true;
            self.answer_any(line, phase, &mut batch, context);
            if self.is_closing {
                break InboxLook::All;
            }
        };
        if is_any {
            self.on_lines();
        }
        (taken, batch.tally)
    }

    /// Whole lines were taken.
    #[inline]
    pub(super) fn on_lines(&mut self) {
        self.timers.on_line();
        if !self.has_spoken {
            self.has_spoken = true;
            self.guest_handle.note_line();
        }
    }

    /// The same as [`Guest::answer`], which is for the hot path alone, for any line. Nothing behind another protocol's opening is one.
    #[inline(never)]
    fn answer_any<'a>(
        &mut self,
        line: Line<'a>,
        phase: &'a GatePhase,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        match line {
            Line::Message(message) => self.answer(message, phase, batch, context),
            // A reply to this side that can't be read: its call is answered so, and the guest isn't.
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
        phase: &'a GatePhase,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        if self.is_reply(&message) || is_stray(&message) {
            return;
        }
        match phase {
            GatePhase::Open(lease) => {
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
            GatePhase::Shut(reason) => {
                let of = (message.name, message.tag);
                self.refuse(of, (ErrorCode::Unavailable, reason), &mut batch.tally);
            }
            GatePhase::Waiting | GatePhase::Changing => {
                unreachable!("lines before a waiting door are not taken")
            }
        }
    }

    /// Answers a command, if there is room for its reply now. If not, its line is kept until there is.
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
            // First what has been made is counted, then others may make theirs.
            self.count_unread();
            self.answers.set_reservation(None);
        }
        // Others tell the size of their reply at their end.
        if runs == RunsOn::Here || !lease.instance.is_in_process() {
            self.gate.room.note_end(index);
        }
    }

    /// Answers a command that was kept.
    #[cold]
    fn answer_deferred(
        &mut self,
        line: &[u8],
        phase: &GatePhase,
        context: &mut Context<'_>,
    ) -> BatchCounts {
        let mut inbox = Inbox::resumed(line.len());
        inbox.room(line.len()).extend_from_slice(line);
        let mut batch = LineBatch::default();
        // It was a message when it came.
        if let Some(Line::Message(message)) = inbox.next() {
            self.answer(message, phase, &mut batch, context);
        }
        batch.tally
    }

    /// Answers a line with an error, in its turn.
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

    /// Whether it is the reply to something that the daemon has asked this guest.
    #[inline]
    pub(super) fn is_reply(&self, message: &Message<'_>) -> bool {
        self.guest_handle.asked.is_any()
            && self.guest_handle.asked.answer(message) != LineMatch::NotOurs
    }

    /// Whether an instance is being told of this guest; until it has been, lines wait.
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

    /// Begins to tell the instance of this guest, if that is due; whether that goes on.
    fn is_to_be_greeted(&mut self, phase: &GatePhase, context: &mut Context<'_>) -> bool {
        let GatePhase::Open(lease) = phase else {
            return false;
        };
        self.greeting = connect_hooks::due(lease, &self.guest_handle, self.gate.limits.command);
        self.is_greeting_on(context)
    }
}

/// A reply to nothing we asked: never answered, lest two daemons answer each other for ever.
#[inline]
pub(super) fn is_stray(message: &Message<'_>) -> bool {
    match message.name {
        "error" => true,
        "dae" | "options" => !matches!(message.arguments, "" | "[]"),
        _ => false,
    }
}

/// The line of a command.
fn line_of(message: &Message<'_>) -> Vec<u8> {
    let (name, arguments) = (message.name, message.arguments);
    let line = match message.tag {
        Some(tag) => format!("{name}#{tag} {arguments}\n"),
        None => format!("{name} {arguments}\n"),
    };
    line.into_bytes()
}
