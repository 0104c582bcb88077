//! Takes the whole lines of a guest from its inbox and routes each to the code that answers it.
//!
//! While there is no instance, a message waits in the inbox, and the connection is not read further. A line that every
//! instance would refuse needs no instance. If no message waits before it, it is answered at once; a connection of
//! another protocol is closed.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use dae_common_tcp::{
    ErrorCode, Fault, Front, Inbox, Line, Message, Protocol, asks_for_parts, trace_of,
};

use super::answers::{self, AnswerSink, LineBatch, ReplyRoute};
use super::input::DeferredCommand;
use super::{ANY, Guest, InboxLook, Stream};
use crate::connection::pending_calls::LineMatch;
use crate::connection::reply_budget::ReservationBusy;
use crate::instance::reply::ReplyTo;
use crate::plugin::command_table::{CommandEntry, OwnCommand, RunsOn};
use crate::session::admission::{self, Admission, LineTarget};
use crate::session::dispatch;
use crate::session::gate::Lease;
use crate::session::sleeping::{SleepAnswer, SleepingDaemon};
use crate::threads::counters::{BatchCounts, BatchTally, NO_COMMAND};
use crate::threads::latency;
use crate::threads::trace::{self, TraceSpan};
use dae_store::json5_text;

/// A command that may have to wait for reply budget or a reservation.
struct GuardedCommand<'a> {
    message: Message<'a>,
    own: OwnCommand,
    lease: &'a Arc<Lease>,
}

impl<S: Stream> Guest<S> {
    /// Answers what has finished and what has come, and counts it.
    pub(super) fn answer_all(&mut self, context: &mut Context<'_>) -> InboxLook {
        let began = Instant::now();
        let of = (&*self.gate, &*self.guest_handle);
        self.output.is_counted |= self.answers.collect(&mut self.output.outbox, of, context);
        self.take_lines(began, context)
    }

    /// Counts lines that no instance has answered.
    fn count_other(&self, counts: BatchCounts, began: Instant) {
        if counts.calls > 0 {
            self.gate.stats.add_other(counts, began.elapsed());
        }
    }

    /// Answers whole lines while there is reply budget, once the gate is open or shut and the connect hook has ended.
    fn take_lines(&mut self, began: Instant, context: &mut Context<'_>) -> InboxLook {
        // Poll the connect hook in every phase of the gate: a hook that isn't polled would hold its lease forever.
        let is_greeted = !self.gate_wait.poll_hook(context);
        if self.guest_handle.is_closing() || self.input.is_closing() {
            return self.end_input(began);
        }
        let phase = self.gate.phase();
        let target = match phase.admit(&self.guest_handle) {
            Admission::Waits { .. } => return self.wait_at_gate(began, context),
            Admission::Decided(target) if is_greeted => target,
            Admission::Unannounced(lease) if is_greeted && !self.runs_hook(lease, context) => {
                LineTarget::Instance(lease)
            }
            Admission::Decided(_) | Admission::Unannounced(_) => {
                self.gate_wait.end();
                return InboxLook::Some;
            }
        };
        self.gate_wait.end();
        let mut inbox = self.input.take_inbox();
        let (look, tally) = self.answer_lines(&mut inbox, target, context);
        self.input.inbox = inbox;
        let LineTarget::Instance(lease) = target else {
            self.count_other(tally.total(), began);
            return look;
        };
        let route = ReplyRoute::new(lease, &self.gate, &self.guest_handle);
        self.answers.hand_over(route, context);
        lease.instance.flush();
        let calls = tally.total().calls;
        if calls > 0 {
            let took = began.elapsed();
            self.gate.count(lease, &tally, took);
            if took >= latency::SLOW && calls > 1 {
                // One command of the batch was slow, and the next ones will show which.
                lease.instance.doubt();
            }
        }
        look
    }

    /// Answers the command that was kept: no line is taken any more.
    #[cold]
    fn end_input(&mut self, began: Instant) -> InboxLook {
        self.input.close();
        let mut counts = BatchCounts::default();
        self.refuse_deferred(&dispatch::closing(&self.gate), &mut counts);
        self.count_other(counts, began);
        InboxLook::All
    }

    fn answer_lines<'a>(
        &mut self,
        inbox: &'a mut Inbox,
        target: LineTarget<'a>,
        context: &mut Context<'_>,
    ) -> (InboxLook, BatchTally) {
        let (mut lines, mut batch) = (inbox.lines(), LineBatch::default());
        let mut is_any = false;
        let taken = loop {
            if !self.has_space() {
                break InboxLook::Some;
            }
            if let Some(deferred) = self.input.deferred.take() {
                is_any = true;
                self.answer_deferred(&deferred, target, &mut batch.tally, context);
                match self.input.deferred {
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
            if self.input.is_closing() {
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
    fn on_lines(&mut self) {
        self.timers.on_line();
        if self.input.note_lines() {
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
            Line::Fault(fault) => {
                let mut counts = BatchCounts::default();
                self.refuse_fault(&fault, &mut counts);
                batch.tally.add_to(NO_COMMAND, counts);
            }
            Line::OtherProtocol(protocol) => self.refuse_protocol(protocol),
        }
    }

    fn refuse_fault(&mut self, fault: &Fault<'_>, tally: &mut BatchCounts) {
        let to = ReplyTo {
            name: fault.command,
            tag: fault.tag,
        };
        self.refuse(to, (fault.code, &fault.message), tally);
    }

    /// Closes a connection of another protocol.
    fn refuse_protocol(&mut self, protocol: Protocol) {
        self.input.close();
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
        if self.is_reply(&message) {
            return;
        }
        if is_stray(&message) {
            return self.note_request(&message);
        }
        if self.input.trace.is_some() {
            return self.answer_traced(message, target, batch, context);
        }
        match target {
            LineTarget::Instance(lease) => {
                let route = ReplyRoute::new(lease, &self.gate, &self.guest_handle);
                let budget = &self.gate.budget;
                let commands = &lease.instance.commands;
                let tally = &mut batch.tally;
                let known = batch.found.known(commands, message.name, |index| {
                    tally.turn_to(index.unwrap_or(NO_COMMAND));
                    index.is_some_and(|index| !budget.is_unguarded(index))
                });
                if (budget.is_tight() || batch.found.is_guarded())
                    && let Some(CommandEntry::Own { index, runs }) = known.map(|known| known.entry)
                {
                    let command = GuardedCommand {
                        message,
                        own: OwnCommand { index, runs },
                        lease,
                    };
                    return self.answer_if_budget(command, batch, context);
                }
                let counts = batch.tally.current();
                let sink = AnswerSink::new(&mut self.output.outbox, counts, context);
                self.answers.answer(message, known, route, sink);
            }
            other => self.answer_without_code(&message, other, batch),
        }
    }

    /// Answers a command for which the guest has named a trace: its code runs in a span of its own.
    #[cold]
    fn answer_traced<'a>(
        &mut self,
        message: Message<'a>,
        target: LineTarget<'a>,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        let Some(parent) = self.input.trace.take() else {
            return;
        };
        let LineTarget::Instance(lease) = target else {
            self.answer(message, target, batch, context);
            if self.input.deferred.is_some() {
                self.input.trace = Some(parent);
            }
            return;
        };
        let known = lease.instance.commands.known(message.name);
        let is_own = known.is_some_and(|known| known.index().is_some());
        let span = is_own.then(|| TraceSpan::below(*parent));
        let (began, before) = (Instant::now(), batch.tally.total());
        trace::during(span, || self.answer(message, target, batch, context));
        if self.input.deferred.is_some() {
            // It has not begun.
            self.input.trace = Some(parent);
            return;
        }
        let after = batch.tally.total();
        // A command that is under way ends its span itself.
        if after.calls > before.calls
            && let Some(span) = span
        {
            let is_error = after.errors > before.errors;
            span.end((&self.gate.name, message.name), began.elapsed(), is_error);
        }
    }

    /// Answers a command for a daemon that has no instance now.
    #[cold]
    fn answer_without_code(
        &mut self,
        message: &Message<'_>,
        target: LineTarget<'_>,
        batch: &mut LineBatch<'_>,
    ) {
        match target {
            // The caller has passed the command to the instance already.
            LineTarget::Instance(_) => {}
            LineTarget::Asleep(sleeping) => self.answer_asleep(message, sleeping, batch),
            LineTarget::Refusal(reason) => {
                let refusal = (ErrorCode::Unavailable, reason);
                self.refuse_counted(message, refusal, &mut batch.tally);
            }
        }
    }

    /// Answers a command for a daemon that sleeps. If only its code can answer, the command wakes it, and its line is
    /// kept until then.
    fn answer_asleep(
        &mut self,
        message: &Message<'_>,
        sleeping: &SleepingDaemon,
        batch: &mut LineBatch<'_>,
    ) {
        let asked = (message.name, message.arguments);
        match sleeping.answer(&self.gate, asked) {
            SleepAnswer::Body(body) => {
                let counts = BatchCounts {
                    calls: 1,
                    ..BatchCounts::default()
                };
                batch.tally.add_to(NO_COMMAND, counts);
                let reply = answers::reply(message, &body);
                self.answers
                    .put(&mut self.output.outbox, message.tag.is_some(), &reply);
            }
            SleepAnswer::Unknown(text) => {
                let refusal = (ErrorCode::UnknownCommand, &*text);
                self.refuse_counted(message, refusal, &mut batch.tally);
            }
            SleepAnswer::Wakes => {
                self.input.deferred = Some(DeferredCommand::of(message, ANY));
                self.gate.wake(message.name);
            }
        }
    }

    /// Answers a command, if there is budget for its reply now. If not, its line is kept until there is.
    #[cold]
    fn answer_if_budget<'a>(
        &mut self,
        command: GuardedCommand<'a>,
        batch: &mut LineBatch<'a>,
        context: &mut Context<'_>,
    ) {
        let GuardedCommand {
            message,
            own: OwnCommand { index, runs },
            lease,
        } = command;
        let budget = &self.gate.budget;
        let reserved = match budget.may_begin(self.guest_handle.id(), index) {
            true if lease.instance.is_in_process() => budget.reserve(index),
            true => Ok(None),
            false => Err(ReservationBusy),
        };
        let Ok(reservation) = reserved else {
            self.input.deferred = Some(DeferredCommand::of(&message, index));
            return;
        };
        let mut route = ReplyRoute::new(lease, &self.gate, &self.guest_handle);
        route.reservation = reservation.as_ref();
        let known = lease.instance.commands.known(message.name);
        let counts = batch.tally.current();
        let sink = AnswerSink::new(&mut self.output.outbox, counts, context);
        self.answers.answer(message, known, route, sink);
        if reservation.is_some() {
            // Count the reply before other commands may make theirs.
            self.count_unread();
            drop(reservation);
        }
        // Other commands note the size of their reply when they end.
        if runs == RunsOn::Here || !lease.instance.is_in_process() {
            self.gate.budget.note_end(index);
        }
    }

    /// Answers a command that was kept.
    #[cold]
    fn answer_deferred(
        &mut self,
        deferred: &DeferredCommand,
        target: LineTarget<'_>,
        tally: &mut BatchTally,
        context: &mut Context<'_>,
    ) {
        let mut inbox = deferred.inbox();
        let mut batch = LineBatch::default();
        // It was a message when it came.
        if let Some(Line::Message(message)) = inbox.next() {
            self.answer(message, target, &mut batch, context);
        }
        tally.add_all(&batch.tally);
    }

    /// Answers a message with an error, which counts as no command of the daemon.
    #[cold]
    fn refuse_counted(
        &mut self,
        message: &Message<'_>,
        refusal: (ErrorCode, &str),
        tally: &mut BatchTally,
    ) {
        let mut counts = BatchCounts::default();
        self.refuse(message.into(), refusal, &mut counts);
        tally.add_to(NO_COMMAND, counts);
    }

    /// Answers a line with an error, in its place in the order.
    #[cold]
    fn refuse(
        &mut self,
        to: ReplyTo<'_>,
        (code, text): (ErrorCode, &str),
        tally: &mut BatchCounts,
    ) {
        tally.calls += 1;
        tally.errors += 1;
        let error = answers::error(to, code, text);
        self.answers
            .put(&mut self.output.outbox, to.tag.is_some(), &error);
    }

    /// Returns whether the message is the reply to a call of the daemon to this guest.
    #[inline]
    fn is_reply(&self, message: &Message<'_>) -> bool {
        self.guest_handle.asked.is_any()
            && self.guest_handle.asked.answer(message) != LineMatch::NotOurs
    }

    /// Starts the connect hook for this guest. Returns whether it is still running.
    #[cold]
    fn runs_hook(&mut self, lease: &Arc<Lease>, context: &mut Context<'_>) -> bool {
        let of = (&*self.gate, lease);
        self.gate_wait.start_hook(of, &self.guest_handle, context)
    }

    /// Answers lines that need no instance. Waits for an instance if a message is next.
    fn wait_at_gate(&mut self, began: Instant, context: &mut Context<'_>) -> InboxLook {
        let mut counts = BatchCounts::default();
        let mut inbox = self.input.take_inbox();
        let look = self.refuse_at_front(&mut inbox, &mut counts);
        self.input.inbox = inbox;
        match look {
            InboxLook::All => self.gate_wait.end(),
            InboxLook::Some => self.gate_wait.watch(&self.gate, context),
        }
        self.count_other(counts, began);
        look
    }

    /// Refuses lines up to the first message: every instance would refuse them. So they get the same replies, in the
    /// same order, as with an instance. Returns [`InboxLook::Some`] if there is a message or no reply budget.
    fn refuse_at_front(&mut self, inbox: &mut Inbox, tally: &mut BatchCounts) -> InboxLook {
        // A command that waits for a reservation came before all of them, and waits for the instance, too.
        if self.input.deferred.is_some() {
            return InboxLook::Some;
        }
        while self.has_space() {
            match inbox.front() {
                Front::Message => return InboxLook::Some,
                Front::Nothing => return InboxLook::All,
                Front::Fault(fault) => self.refuse_fault(&fault, tally),
                Front::OtherProtocol(protocol) => {
                    self.refuse_protocol(protocol);
                    return InboxLook::All;
                }
            }
            self.on_lines();
        }
        InboxLook::Some
    }

    /// Answers the command that waits for a reservation, if there is one, with `unavailable`.
    fn refuse_deferred(&mut self, text: &str, tally: &mut BatchCounts) {
        let Some(deferred) = self.input.deferred.take() else {
            return;
        };
        if let Some(Line::Message(message)) = deferred.inbox().next() {
            let refusal = (ErrorCode::Unavailable, text);
            self.refuse((&message).into(), refusal, tally);
        }
    }

    /// Answers all lines that have waited too long for an instance, in their order.
    pub(super) fn give_up_waiting(&mut self) {
        let text = admission::no_instance(&self.gate);
        let mut tally = BatchCounts::default();
        self.refuse_deferred(&text, &mut tally);
        let mut inbox = self.input.take_inbox();
        for line in inbox.lines() {
            match line {
                Line::Message(message) if self.is_reply(&message) => {}
                Line::Message(message) if is_stray(&message) => self.note_request(&message),
                Line::Message(message) => {
                    let refusal = (ErrorCode::Unavailable, &*text);
                    self.refuse((&message).into(), refusal, &mut tally);
                }
                Line::Fault(fault) => self.refuse_fault(&fault, &mut tally),
                Line::OtherProtocol(protocol) => self.refuse_protocol(protocol),
            }
        }
        self.input.inbox = inbox;
        self.on_lines();
        self.input.trace = None;
        let waited = self.gate.limits.instance_wait;
        self.gate.stats.add_other(tally, waited);
    }

    /// Notes that the guest asks for parts, or names the trace of its next command, if this line does so. That takes
    /// effect at once.
    #[cold]
    fn note_request(&mut self, message: &Message<'_>) {
        if message.name != "dae" {
            return;
        }
        let arguments = match json5_text::to_strict(message.arguments) {
            Ok(strict) => Cow::Owned(strict),
            Err(_) => Cow::Borrowed(message.arguments),
        };
        if let Some(wants) = asks_for_parts(&arguments) {
            self.guest_handle.want_parts(wants);
        }
        if let Some(parent) = trace_of(&arguments) {
            self.input.trace = Some(Box::new(parent));
        }
    }
}

/// Returns whether the message is a reply to no call of ours. No such line is answered: two daemons could otherwise
/// answer each other forever. A `dae` with arguments may ask for parts, or name a trace.
#[inline]
fn is_stray(message: &Message<'_>) -> bool {
    match message.name {
        "error" => true,
        "dae" | "options" => !matches!(message.arguments, "" | "[]"),
        _ => false,
    }
}
