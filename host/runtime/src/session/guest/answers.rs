//! The replies that one guest is owed: those ready now, those under way, and their order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dae_common_tcp::{ErrorCode, Message, close_reply, open_reply, write_error};
use futures_util::stream::{FuturesUnordered, Stream as _};

use super::batches::{GuestBatches, ReplySink};
use super::running::{GuestCommand, ReplyPlace};
use crate::connection::guest_handle::{GuestHandle, PartsTicket};
use crate::connection::reply_budget::Reservation;
use crate::instance::Pending;
use crate::instance::reply::{ImmediateCommand, ReplyLines, ReplyTo};
use crate::plugin::command_table::{
    CachedLookup, CommandEntry, HostCommand, OwnCommand, ResolvedCommand, RunsOn,
};
use crate::plugin::completion::{Call, Completion};
use crate::process::ipc::LARGE_BYTES;
use crate::process::subprocess::UnreadBytes;
use crate::session::dispatch;
use crate::session::dispatch::run::{BudgetShare, CommandRun, RunOf};
use crate::session::gate::{Gate, Lease};
use crate::threads::counters::{BatchCounts, BatchTally};
use crate::threads::trace;

/// The replies owed to one guest.
#[derive(Default)]
pub(super) struct ReplyQueue {
    /// The untagged replies from the first unfinished one on: `None` for one under way, else the reply's line.
    ordered: VecDeque<Option<Vec<u8>>>,
    /// The number of replies that have left the front of `ordered`, which is also the number of its first entry.
    left: u64,
    /// The running commands. Created with the first: the set takes more memory than the rest of a quiet guest.
    running: Option<FuturesUnordered<GuestCommand>>,
    /// The commands that the daemon's own process answers on the spot.
    batches: GuestBatches,
    /// The batches handed over since anything else was answered. Commands that don't wait, and were started together,
    /// count as a batch.
    in_a_row: u32,
    /// The number of running commands that may wait.
    others: u16,
    /// True if a command that doesn't wait was started since the last batch.
    has_brief: bool,
    /// The size of the lines in `ordered` (bytes).
    held: usize,
    /// The size of the running commands' arguments (bytes).
    arguments: usize,
    /// The replies from the daemon's own process that are not written yet.
    unread: Option<UnreadBytes>,
}

/// The lease, gate and guest that replies belong to.
#[derive(Clone, Copy)]
pub(super) struct ReplyRoute<'a> {
    pub lease: &'a Arc<Lease>,
    pub gate: &'a Gate,
    pub guest: &'a Arc<GuestHandle>,
    /// The reservation of the command that is answered next, if it needs one.
    pub reservation: Option<&'a Arc<Reservation>>,
}

/// The means to answer a line: the buffer for replies that are ready, and the waker of the guest's task.
pub(super) struct AnswerSink<'a, 'w> {
    pub lines: ReplyLines<'a>,
    pub context: &'a mut Context<'w>,
}

impl<'a, 'w> AnswerSink<'a, 'w> {
    #[inline(always)]
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        tally: &'a mut BatchCounts,
        context: &'a mut Context<'w>,
    ) -> Self {
        let lines = ReplyLines { out, tally };
        AnswerSink { lines, context }
    }
}

/// The counts and the cached lookup for lines that are taken together.
#[derive(Default)]
pub(super) struct LineBatch<'a> {
    pub tally: BatchTally,
    pub found: CachedLookup<'a>,
}

impl<'a> ReplyRoute<'a> {
    #[inline(always)]
    pub(super) fn new(lease: &'a Arc<Lease>, gate: &'a Gate, guest: &'a Arc<GuestHandle>) -> Self {
        ReplyRoute {
            lease,
            gate,
            guest,
            reservation: None,
        }
    }

    /// Returns a command of the guest that ends on the spot.
    #[inline(always)]
    fn command<'k>(&self, index: u32, known: &'k ResolvedCommand) -> ImmediateCommand<'k> {
        ImmediateCommand {
            guest: self.guest.id(),
            index,
            known,
        }
    }

    /// Enters a command whose parts the guest takes. Only a tag ties a part to its command.
    fn enter_parts(&self, message: &Message<'_>, index: u32) -> Option<PartsTicket> {
        let tag = message.tag?;
        let sends_parts = self.lease.instance.commands.sends_parts(index);
        sends_parts.then(|| self.guest.enter_parts(message.name, tag))?
    }

    /// Returns the time limit of a command that has none of its own.
    pub(super) fn limit(&self) -> Duration {
        self.gate.limits.command
    }
}

impl ReplyQueue {
    /// Returns the number of running commands and of replies that wait for them.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        let running = self.running.as_ref().map_or(0, FuturesUnordered::len);
        self.ordered.len() + running + self.batches.unanswered()
    }

    /// Returns how many batches in a row the daemon's own process was handed, with nothing else between them. The
    /// number is 0 while a command runs that may wait.
    #[inline]
    pub(super) fn batches_in_a_row(&self) -> u32 {
        match self.others {
            0 => self.in_a_row,
            _ => 0,
        }
    }

    /// Restarts the count of batches in a row.
    pub(super) fn begin_a_row(&mut self) {
        self.in_a_row = 0;
    }

    /// Moves the replies that have finished since the last call to their places. Returns true if the reply budget
    /// counts bytes of them, which the guest must count anew once they are sent.
    pub(super) fn collect(
        &mut self,
        outbox: &mut Vec<u8>,
        of: (&Gate, &GuestHandle),
        context: &mut Context<'_>,
    ) -> bool {
        let mut is_counted = false;
        while let Some(running) = &mut self.running
            && let Poll::Ready(Some(finished)) = Pin::new(running).poll_next(context)
        {
            let (gate, guest) = of;
            gate.count_one(&finished.lease, finished.counts, finished.took);
            self.arguments -= finished.arguments;
            self.others -= u16::from(!finished.is_brief);
            self.has_come(&finished.lease, guest, finished.result);
            is_counted |= finished.result > 0;
            match finished.place {
                ReplyPlace::Tagged => {
                    if finished.emits_first {
                        guest.take_into(outbox);
                    }
                    append(outbox, finished.line);
                }
                ReplyPlace::Ordered(number) => self.settle(number, finished.line),
            }
            self.release(outbox, guest);
        }
        self.collect_batches(outbox, of, context);
        is_counted
    }

    fn collect_batches(
        &mut self,
        outbox: &mut Vec<u8>,
        (gate, guest): (&Gate, &GuestHandle),
        context: &mut Context<'_>,
    ) {
        let mut is_over = true;
        while is_over {
            let mut out = ReplySink {
                outbox: &mut *outbox,
                guest,
                next: self.left,
                tally: BatchTally::default(),
            };
            let collected = self.batches.collect(&mut out, gate.limits.command, context);
            let Some(came) = collected else { return };
            gate.count(&came.bytes.1, &came.tally, came.took);
            self.has_come(&came.bytes.1, guest, came.bytes.0);
            if let Some((number, lines)) = came.place {
                self.settle(number, lines);
                self.release(outbox, guest);
            }
            is_over = came.is_over;
        }
    }

    /// Stores the reply with that number in the order.
    fn settle(&mut self, number: u64, line: Vec<u8>) {
        let at = usize::try_from(number - self.left).unwrap_or(usize::MAX);
        if let Some(slot) = self.ordered.get_mut(at) {
            self.held += line.len();
            *slot = Some(line);
        }
    }

    /// Appends the finished replies at the front of the order to the outbox.
    fn release(&mut self, outbox: &mut Vec<u8>, guest: &GuestHandle) {
        while let Some(Some(_)) = self.ordered.front() {
            guest.take_into(outbox);
            let line = self.ordered.pop_front().flatten().unwrap_or_default();
            self.held -= line.len();
            append(outbox, line);
            self.left += 1;
        }
    }

    /// Counts reply bytes that came by that lease.
    fn has_come(&mut self, lease: &Lease, guest: &GuestHandle, bytes: usize) {
        if bytes > 0 {
            let before = self.unread.take();
            self.unread = lease.instance.unread(guest.id(), before);
            if let Some(unread) = &mut self.unread {
                unread.add(bytes);
            }
        }
    }

    /// Counts reply bytes that the guest has brought back from a hand-off.
    pub(super) fn has_brought(&mut self, lease: &Lease, guest: &GuestHandle, bytes: usize) {
        self.has_come(lease, guest, bytes);
    }

    /// Notes that the whole outbox is written.
    #[inline]
    pub(super) fn is_written(&mut self) {
        if self
            .unread
            .as_ref()
            .is_some_and(|unread| !unread.is_empty())
            && self.held() == 0
        {
            self.unread = None;
        }
    }

    /// Lets the command continue that the held replies wait for, however much waits for the guest. Otherwise neither
    /// its reply nor theirs would ever be sent.
    pub(super) fn go_on(&mut self) {
        let next = self.left;
        self.batches.go_on(next);
        let mut running = self.running.iter_mut().flat_map(|all| all.iter_mut());
        let is_next = |command: &&mut GuestCommand| matches!(command.place, ReplyPlace::Ordered(place) if place == next);
        if let Some(command) = running.find(is_next) {
            command.run.go_on();
        }
    }

    /// Returns the size of the replies that wait for those before them (bytes).
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.held + self.batches.held()
    }

    /// Returns the size of the arguments under way (bytes).
    #[inline]
    pub(super) fn arguments(&self) -> usize {
        self.arguments + self.batches.arguments()
    }

    /// Puts a whole reply in its place.
    pub(super) fn put(&mut self, outbox: &mut Vec<u8>, is_tagged: bool, line: &[u8]) {
        self.in_a_row = 0;
        match is_tagged || self.ordered.is_empty() {
            true => outbox.extend_from_slice(line),
            false => {
                self.batches.cut();
                self.held += line.len();
                self.ordered.push_back(Some(line.to_vec()));
            }
        }
    }

    /// Hands the collected batch over to the daemon's own process.
    pub(super) fn hand_over(&mut self, route: ReplyRoute<'_>, context: &mut Context<'_>) {
        if self.batches.hand_over(route, context) | std::mem::take(&mut self.has_brief) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
    }

    /// Returns whether a reply that is ready now waits for none before it.
    #[inline(always)]
    fn goes_out(&self, message: &Message<'_>) -> bool {
        message.tag.is_some() || self.ordered.is_empty()
    }

    /// Puts the reply of a command that has ended at once in its place.
    fn put_ended(&mut self, message: &Message<'_>, ended: &Completion, lines: &mut ReplyLines<'_>) {
        let (to, status) = (message.into(), ended.status);
        if self.goes_out(message) {
            return lines.write_ended(to, status, &ended.bytes);
        }
        let mut line = Vec::new();
        let mut waiting = ReplyLines {
            out: &mut line,
            tally: lines.tally,
        };
        waiting.write_ended(to, status, &ended.bytes);
        self.put(lines.out, false, &line);
    }

    /// Adds a command to the batch for the daemon's own process. One that belongs to a trace is handed over by itself.
    fn answer_there(
        &mut self,
        message: Message<'_>,
        index: u32,
        route: ReplyRoute<'_>,
        sink: AnswerSink<'_, '_>,
    ) {
        let runs = RunsOn::There;
        if trace::current().is_some() {
            self.batches.hand_over(route, sink.context);
            return self.start(message, OwnCommand { index, runs }, route, sink);
        }
        if self.batches.is_full() {
            self.batches.hand_over(route, sink.context);
        }
        let (ordered, left) = (&mut self.ordered, self.left);
        self.batches.add(&message, index, || {
            // The guest keeps this slot, and often needs no other.
            if ordered.capacity() == 0 {
                ordered.reserve_exact(1);
            }
            ordered.push_back(None);
            left + ordered.len() as u64 - 1
        });
    }

    /// Answers a command, or starts it.
    #[inline(always)]
    pub(super) fn answer(
        &mut self,
        message: Message<'_>,
        known: Option<&ResolvedCommand>,
        route: ReplyRoute<'_>,
        mut sink: AnswerSink<'_, '_>,
    ) {
        if let Some(known) = known
            && let Some((index, _)) = known.here()
            && self.goes_out(&message)
        {
            return answer_here(message, route.command(index, known), route, &mut sink.lines);
        }
        self.answer_other(message, known, route, sink);
    }

    /// Answers or starts a command that can't be answered here at once.
    #[inline(never)]
    fn answer_other(
        &mut self,
        message: Message<'_>,
        known: Option<&ResolvedCommand>,
        route: ReplyRoute<'_>,
        mut sink: AnswerSink<'_, '_>,
    ) {
        let Some(known) = known else {
            return self.answer_unknown(message, route, &mut sink.lines);
        };
        match known.entry {
            CommandEntry::Own {
                index,
                runs: RunsOn::Here,
            } => {
                let mut line = Vec::new();
                let mut lines = ReplyLines {
                    out: &mut line,
                    tally: sink.lines.tally,
                };
                answer_here(message, route.command(index, known), route, &mut lines);
                self.held += line.len();
                self.ordered.push_back(Some(line));
            }
            CommandEntry::Own {
                index,
                runs: RunsOn::There,
            } => self.answer_there(message, index, route, sink),
            CommandEntry::Own { index, runs } => {
                // The commands before it begin first.
                self.batches.hand_over(route, sink.context);
                self.start(message, OwnCommand { index, runs }, route, sink);
            }
            // Not counted: the daemon takes no part in it, and other hosts ask each daemon for its identity.
            CommandEntry::Host(command) => {
                let line = host_answer(message, command, route);
                self.put(sink.lines.out, message.tag.is_some(), &line);
            }
        }
    }

    /// Passes a line that is no command to the event handlers, or answers that there is no such command.
    fn answer_unknown(
        &mut self,
        message: Message<'_>,
        route: ReplyRoute<'_>,
        lines: &mut ReplyLines<'_>,
    ) {
        if dispatch::notify_handlers(route.guest, message.name, message.arguments) {
            return;
        }
        lines.tally.calls += 1;
        lines.tally.errors += 1;
        let text = dispatch::unknown(message.name, &route.lease.instance.commands);
        let line = error((&message).into(), ErrorCode::UnknownCommand, &text);
        self.put(lines.out, message.tag.is_some(), &line);
    }

    /// Starts a command that may end later. If it ends at once, its reply is placed like that of a command answered
    /// here.
    fn start(
        &mut self,
        message: Message<'_>,
        OwnCommand { index, runs }: OwnCommand,
        route: ReplyRoute<'_>,
        mut sink: AnswerSink<'_, '_>,
    ) {
        let began = Instant::now();
        let instance = &route.lease.instance;
        let is_brief = self.note_start(instance.ends_at_once(index));
        let parts = route.enter_parts(&message, index);
        let call = Call {
            index,
            guest: route.guest.id(),
            arguments: message.arguments,
            parts: parts.as_ref().map_or(0, PartsTicket::number),
        };
        let mut pending = instance.answer_later(runs, call, route.reservation);
        if let Poll::Ready(ended) = Pin::new(&mut pending).poll(sink.context) {
            if pending.emits_first() && self.goes_out(&message) {
                route.guest.take_into(sink.lines.out);
            }
            let (arguments, result) = (message.arguments.len(), ended.bytes.len());
            route.gate.budget.note(index, arguments, result);
            self.has_come(route.lease, route.guest, result);
            self.put_ended(&message, &ended, &mut sink.lines);
            return pending.give_back(ended.bytes);
        }
        let of = RunOf {
            name: message.name.into(),
            index,
            began,
            limit: instance.commands.limit(index, route.limit()),
            parts,
            span: trace::current(),
        };
        self.enter(&message, (of, is_brief), pending, route);
        sink.context.waker().wake_by_ref();
    }

    /// Notes that a command is started that may end later. Returns whether it counts as one that doesn't wait: it is not
    /// expected to, and belongs to no trace. The host runs those of a trace by frames in any case.
    fn note_start(&mut self, ends_at_once: bool) -> bool {
        let is_brief = ends_at_once && trace::current().is_none();
        match is_brief {
            true => self.has_brief = true,
            false => self.in_a_row = 0,
        }
        is_brief
    }

    /// Adds a command that is under way. Its first poll used the connection's waker. The set has a waker for each command,
    /// so the caller must have the set polled once more.
    /// `is_brief` is true if the command is not expected to wait.
    fn enter(
        &mut self,
        message: &Message<'_>,
        (of, is_brief): (RunOf, bool),
        pending: Pending,
        route: ReplyRoute<'_>,
    ) {
        let place = match message.tag {
            Some(_) => ReplyPlace::Tagged,
            None => {
                self.ordered.push_back(None);
                ReplyPlace::Ordered(self.left + self.ordered.len() as u64 - 1)
            }
        };
        let arguments = message.arguments.len();
        self.arguments += arguments;
        let is_blocking = matches!(pending, Pending::Blocking(_));
        let reservation = route.reservation.filter(|_| is_blocking).cloned();
        let of_guest = (route.guest.id(), arguments);
        let share = BudgetShare::new(&route.gate.budget, of_guest, reservation);
        let emits_first = pending.emits_first();
        // There are fewer than [`IN_FLIGHT_MAX`](dispatch::IN_FLIGHT_MAX).
        self.others += u16::from(!is_brief);
        let running = self.running.get_or_insert_default();
        running.push(GuestCommand {
            run: CommandRun::new(of, pending, Arc::clone(route.lease), Some(share)),
            place,
            tag: message.tag.map(Into::into),
            emits_first,
            is_brief,
            arguments,
        });
    }

    /// Adds a command that the daemon's own process has begun for the guest, while that was handed off.
    pub(super) fn add_begun(
        &mut self,
        message: &Message<'_>,
        (index, pending): (u32, Pending),
        route: ReplyRoute<'_>,
    ) {
        let commands = &route.lease.instance.commands;
        let of = RunOf {
            name: message.name.into(),
            index,
            began: Instant::now(),
            limit: commands.limit(index, route.limit()),
            parts: None,
            span: None,
        };
        self.enter(message, (of, false), pending, route);
    }
}

/// Appends a line. A large line is not copied if the outbox is empty.
fn append(outbox: &mut Vec<u8>, line: Vec<u8>) {
    match outbox.is_empty() && line.len() >= LARGE_BYTES {
        true => *outbox = line,
        false => outbox.extend_from_slice(&line),
    }
}

/// Answers a command that ends on the spot, from the guest's read buffer into its write buffer. This is the hot path.
#[inline(always)]
fn answer_here(
    message: Message<'_>,
    command: ImmediateCommand<'_>,
    route: ReplyRoute<'_>,
    lines: &mut ReplyLines<'_>,
) {
    let start = lines.out.len();
    let arguments = message.arguments.len();
    lines.answer_on_the_spot(&route.lease.instance, message, command);
    let out = &mut *lines.out;
    if out.len() - start >= LARGE_BYTES {
        let made = out.len() - start;
        route.gate.budget.note(command.index, arguments, made);
    }
    // Events emitted while the command ran come before its reply.
    if route.guest.has_mail() {
        let reply = out.split_off(start);
        route.guest.take_into(out);
        out.extend_from_slice(&reply);
    }
}

/// Returns a whole error line.
pub(super) fn error(to: ReplyTo<'_>, code: ErrorCode, text: &str) -> Vec<u8> {
    let mut line = Vec::new();
    write_error(&mut line, to.name, to.tag, code, text);
    line
}

/// Returns the reply with that body.
pub(super) fn reply(message: &Message<'_>, body: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    let start = open_reply(&mut line, message.name, message.tag);
    line.extend_from_slice(body);
    close_reply(&mut line, start);
    line
}

/// Returns the reply to a command that the host answers for a daemon.
fn host_answer(message: Message<'_>, command: HostCommand, route: ReplyRoute<'_>) -> Vec<u8> {
    route.gate.note_host_answer();
    let mut line = Vec::new();
    let start = open_reply(&mut line, message.name, message.tag);
    let asked = (command, message.arguments);
    match dispatch::host_body(asked, route.lease, route.gate, &mut line) {
        Ok(()) => {
            close_reply(&mut line, start);
            line
        }
        Err(text) => {
            let (name, tag) = (message.name, message.tag);
            error(ReplyTo { name, tag }, ErrorCode::UnknownCommand, &text)
        }
    }
}
