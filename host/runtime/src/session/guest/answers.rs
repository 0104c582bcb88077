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
use crate::connection::guest_handle::GuestHandle;
use crate::connection::reply_budget::Reservation;
use crate::instance::Pending;
use crate::instance::reply::{self, write_ended};
use crate::plugin::command_table::{
    CachedLookup, CommandEntry, HostCommand, ResolvedCommand, RunsOn,
};
use crate::plugin::completion::{Call, Completion};
use crate::process::ipc::LARGE_BYTES;
use crate::process::subprocess::UnreadBytes;
use crate::session::dispatch;
use crate::session::dispatch::run::{BudgetShare, CommandRun, RunOf};
use crate::session::gate::{Gate, Lease};
use crate::threads::counters::BatchCounts;

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
    /// The batches handed over since anything else was answered.
    in_a_row: u32,
    /// The size of the lines in `ordered` (bytes).
    held: usize,
    /// The size of the running commands' arguments (bytes).
    arguments: usize,
    /// The replies from the daemon's own process that are not written yet.
    unread: Option<UnreadBytes>,
}

/// The lease, gate and guest that replies belong to.
#[derive(Clone, Copy)]
pub(super) struct ReplyContext<'a> {
    pub lease: &'a Arc<Lease>,
    pub gate: &'a Gate,
    pub guest: &'a Arc<GuestHandle>,
    /// The reservation of the command that is answered next, if it needs one.
    pub reservation: Option<&'a Arc<Reservation>>,
}

/// The counts and the cached lookup for lines that are taken together.
#[derive(Default)]
pub(super) struct LineBatch<'a> {
    pub tally: BatchCounts,
    pub found: CachedLookup<'a>,
}

impl ReplyContext<'_> {
    /// Returns the time limit of a command.
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
    /// number is 0 while another command runs, since that may take long.
    #[inline]
    pub(super) fn batches_in_a_row(&self) -> u32 {
        match &self.running {
            Some(running) if !running.is_empty() => 0,
            _ => self.in_a_row,
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
        turn: (&Gate, &GuestHandle),
        context: &mut Context<'_>,
    ) -> bool {
        let mut is_counted = false;
        while let Some(running) = &mut self.running
            && let Poll::Ready(Some(finished)) = Pin::new(running).poll_next(context)
        {
            let (gate, guest) = turn;
            gate.count(
                finished.lease.instance.number(),
                finished.tally,
                finished.took,
            );
            self.arguments -= finished.arguments;
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
        self.collect_batches(outbox, turn, context);
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
                turn: self.left,
            };
            let collected = self.batches.collect(&mut out, gate.limits.command, context);
            let Some(came) = collected else { return };
            gate.count(came.instance, came.tally, came.took);
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
    pub(super) fn hand_over(&mut self, turn: ReplyContext<'_>, context: &mut Context<'_>) {
        if self.batches.hand_over(turn, context) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
    }

    /// Returns whether a reply that is ready now waits for none before it.
    #[inline(always)]
    fn goes_out(&self, message: &Message<'_>) -> bool {
        message.tag.is_some() || self.ordered.is_empty()
    }

    /// Puts the reply of a command that has ended at once in its place.
    fn put_ended(
        &mut self,
        message: &Message<'_>,
        ended: &Completion,
        (outbox, tally): (&mut Vec<u8>, &mut BatchCounts),
    ) {
        let of = (message.name, message.tag);
        let told = (ended.status, &ended.bytes[..]);
        if self.goes_out(message) {
            return write_ended(outbox, of, told, tally);
        }
        let mut line = Vec::new();
        write_ended(&mut line, of, told, tally);
        self.put(outbox, false, &line);
    }

    /// Adds a command to the batch for the daemon's own process.
    fn answer_there(
        &mut self,
        message: &Message<'_>,
        index: u32,
        turn: ReplyContext<'_>,
        context: &mut Context<'_>,
    ) {
        if self.batches.is_full() {
            self.batches.hand_over(turn, context);
        }
        let (ordered, left) = (&mut self.ordered, self.left);
        self.batches.add(message, index, || {
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
        turn: ReplyContext<'_>,
        (outbox, tally, context): (&mut Vec<u8>, &mut BatchCounts, &mut Context<'_>),
    ) {
        if let Some(known) = known
            && let CommandEntry::Own {
                index,
                runs: RunsOn::Here,
            } = known.entry
            && self.goes_out(&message)
        {
            return answer_here(message, (index, known), turn, (outbox, tally));
        }
        self.answer_other(message, known, turn, (outbox, tally, context));
    }

    /// Answers or starts a command that can't be answered here at once.
    #[inline(never)]
    fn answer_other(
        &mut self,
        message: Message<'_>,
        known: Option<&ResolvedCommand>,
        turn: ReplyContext<'_>,
        (outbox, tally, context): (&mut Vec<u8>, &mut BatchCounts, &mut Context<'_>),
    ) {
        let Some(known) = known else {
            return self.answer_unknown(message, turn, (outbox, tally));
        };
        match known.entry {
            CommandEntry::Own {
                index,
                runs: RunsOn::Here,
            } => {
                let mut line = Vec::new();
                answer_here(message, (index, known), turn, (&mut line, tally));
                self.held += line.len();
                self.ordered.push_back(Some(line));
            }
            CommandEntry::Own { index, runs } => {
                self.begin(message, (index, runs), turn, (outbox, tally, context));
            }
            // Not counted: the daemon takes no part in it, and other hosts ask each daemon for its identity.
            CommandEntry::Host(command) => {
                let line = host_answer(message, command, turn);
                self.put(outbox, message.tag.is_some(), &line);
            }
        }
    }

    /// Passes a line that is no command to the event handlers, or answers that there is no such command.
    fn answer_unknown(
        &mut self,
        message: Message<'_>,
        turn: ReplyContext<'_>,
        (outbox, tally): (&mut Vec<u8>, &mut BatchCounts),
    ) {
        if dispatch::tell_event(turn.guest, message.name, message.arguments) {
            return;
        }
        tally.calls += 1;
        tally.errors += 1;
        let text = dispatch::unknown(message.name, &turn.lease.instance.commands);
        let line = error(message.name, message.tag, ErrorCode::UnknownCommand, &text);
        self.put(outbox, message.tag.is_some(), &line);
    }

    /// Starts a command that isn't answered here.
    fn begin(
        &mut self,
        message: Message<'_>,
        (index, runs): (u32, RunsOn),
        turn: ReplyContext<'_>,
        (outbox, tally, context): (&mut Vec<u8>, &mut BatchCounts, &mut Context<'_>),
    ) {
        if runs == RunsOn::There {
            return self.answer_there(&message, index, turn, context);
        }
        // The commands before it begin first.
        self.batches.hand_over(turn, context);
        self.start(message, (index, runs), turn, (outbox, tally, context));
    }

    /// Starts a command that may end later. If it ends at once, its reply is placed like that of a command answered
    /// here.
    fn start(
        &mut self,
        message: Message<'_>,
        (index, runs): (u32, RunsOn),
        turn: ReplyContext<'_>,
        (outbox, tally, context): (&mut Vec<u8>, &mut BatchCounts, &mut Context<'_>),
    ) {
        self.in_a_row = 0;
        let began = Instant::now();
        let call = Call {
            index,
            guest: turn.guest.id(),
            arguments: message.arguments,
        };
        let mut pending = turn
            .lease
            .instance
            .answer_later(runs, call, turn.reservation);
        if let Poll::Ready(ended) = Pin::new(&mut pending).poll(context) {
            if pending.emits_first() && self.goes_out(&message) {
                turn.guest.take_into(outbox);
            }
            turn.gate
                .room
                .note(index, message.arguments.len(), ended.bytes.len());
            self.has_come(turn.lease, turn.guest, ended.bytes.len());
            self.put_ended(&message, &ended, (outbox, tally));
            return pending.give_back(ended.bytes);
        }
        self.enter(&message, (index, began), pending, turn);
        // The first poll used the connection's waker. The set has a waker for each command, and must poll this one
        // once.
        context.waker().wake_by_ref();
    }

    /// Adds a command that is under way.
    fn enter(
        &mut self,
        message: &Message<'_>,
        (index, began): (u32, Instant),
        pending: Pending,
        turn: ReplyContext<'_>,
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
        let reservation = turn.reservation.filter(|_| is_blocking).cloned();
        let budget = BudgetShare::new(&turn.gate.room, (turn.guest.id(), arguments), reservation);
        let of = RunOf {
            name: message.name.into(),
            index,
            began,
            limit: turn.limit(),
        };
        let emits_first = pending.emits_first();
        let running = self.running.get_or_insert_default();
        running.push(GuestCommand {
            run: CommandRun::new(of, pending, Arc::clone(turn.lease), Some(budget)),
            place,
            tag: message.tag.map(Into::into),
            emits_first,
            arguments,
        });
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
    (index, known): (u32, &ResolvedCommand),
    turn: ReplyContext<'_>,
    (out, tally): (&mut Vec<u8>, &mut BatchCounts),
) {
    let start = out.len();
    let of = (turn.guest.id(), index, known);
    let arguments = message.arguments.len();
    reply::answer_on_the_spot(&turn.lease.instance, message, of, (out, tally));
    if out.len() - start >= LARGE_BYTES {
        turn.gate.room.note(index, arguments, out.len() - start);
    }
    // Events emitted while the command ran come before its reply.
    if turn.guest.has_mail() {
        let reply = out.split_off(start);
        turn.guest.take_into(out);
        out.extend_from_slice(&reply);
    }
}

/// Returns a whole error line.
pub(super) fn error(command: &str, tag: Option<&str>, code: ErrorCode, text: &str) -> Vec<u8> {
    let mut line = Vec::new();
    write_error(&mut line, command, tag, code, text);
    line
}

/// Returns the reply to a command that the host answers for a daemon.
fn host_answer(message: Message<'_>, command: HostCommand, turn: ReplyContext<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    let start = open_reply(&mut line, message.name, message.tag);
    dispatch::host_body(command, turn.lease, turn.gate, &mut line);
    close_reply(&mut line, start);
    line
}
