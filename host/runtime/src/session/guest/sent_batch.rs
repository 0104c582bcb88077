//! A batch in the hands of its daemon's own process, and the replies that come for it.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use dae_plugin_api::abi::status;
use tokio::time::Instant;

use super::batches::{BatchTimer, ReplySink};
use crate::instance::reply::{ReplyLines, ReplyTo};
use crate::plugin::completion::Completion;
use crate::process::ipc::LARGE_BYTES;
use crate::process::ipc::batch::{Entries, HEAD_BYTES};
use crate::process::subprocess::{BatchCall, BatchEnd, OverdueAction, bytes_of};
use crate::session::gate::{self, Lease};

/// The largest buffer that is kept (bytes). Larger ones are freed, since commands are usually short.
pub(super) const KEPT_BYTES_MAX: usize = 4 << 10;

pub(super) struct SentBatch {
    // Dropped before the lease.
    pub(super) call: BatchCall,
    pub(super) lease: Arc<Lease>,
    pub(super) began: Instant,
    pub(super) sent: SentCommands,
    /// The size of its arguments (bytes).
    pub(super) arguments: usize,
    /// The first unanswered command when the batch was last allowed to continue.
    pub(super) goes_on: Option<usize>,
    /// The number of replies that have come, including those to commands that were already given up.
    pub(super) received: usize,
    /// The first command that was withdrawn, and the end of it and all behind it.
    pub(super) withdrawn: Option<(usize, Completion)>,
    /// The number of its untagged replies in the guest's order.
    pub(super) place: Option<u64>,
    /// The untagged replies that wait for those before them.
    pub(super) held: Vec<u8>,
}

/// A command's index, and the length of its tag.
pub(super) type SentCommand = (u32, Option<usize>);

/// The commands of a batch, with a position at the first unanswered one.
#[derive(Default)]
pub(super) struct SentCommands {
    pub(super) commands: Vec<SentCommand>,
    pub(super) tags: String,
    /// The number of answered commands.
    pub(super) answered: usize,
    /// The length of the answered commands' tags (bytes).
    pub(super) answered_tags: usize,
}

/// The reason why the rest of a batch, or its first command, is not answered by the process.
pub(super) enum BatchGiveUp {
    /// The command has run past its limit. Those behind it continue to wait.
    TooLong(Duration),
    LetGo,
    Ended(Completion),
}

impl SentBatch {
    /// Returns the action for the first unanswered command.
    pub(super) fn due(&self, limit: Duration) -> OverdueAction {
        self.call
            .due(self.sent.answered, self.began.into_std(), limit)
    }

    /// Returns whether its untagged replies are next in the order, or it has none.
    pub(super) fn is_next(&self, out: &ReplySink<'_>) -> bool {
        self.place.is_none_or(|place| place == out.next)
    }

    pub(super) fn write_held(&mut self, out: &mut ReplySink<'_>) {
        if self.is_next(out) {
            match out.outbox.is_empty() {
                true => std::mem::swap(out.outbox, &mut self.held),
                false => out.outbox.append(&mut self.held),
            }
        }
    }

    /// Returns the next command to answer.
    pub(super) fn next<'s>(&'s mut self, out: &'s mut ReplySink<'_>) -> Option<NextReply<'s>> {
        let is_next = self.is_next(out);
        let (index, tag) = self.sent.next()?;
        out.tally.turn_to(index);
        let lines = ReplyLines {
            out: match tag.is_some() || is_next {
                true => out.outbox,
                false => &mut self.held,
            },
            tally: out.tally.current(),
        };
        let name = self.lease.instance.command_name(index);
        Some(NextReply {
            index,
            to: ReplyTo { name, tag },
            lines,
        })
    }

    /// Takes what has come. Returns the reason if nothing more will come.
    pub(super) fn take(
        &mut self,
        entries: &mut Vec<u8>,
        context: &Context<'_>,
    ) -> Option<BatchGiveUp> {
        match self.call.take(entries, context)? {
            BatchEnd::Ended(ended) => Some(BatchGiveUp::Ended(ended)),
            BatchEnd::Withdrawn(from, ended) => {
                self.withdrawn = Some((from, ended));
                None
            }
        }
    }

    /// Returns whether a command is unanswered that was not withdrawn.
    pub(super) fn waits(&self) -> bool {
        let end = self
            .withdrawn
            .as_ref()
            .map_or(usize::MAX, |(from, _)| *from);
        self.sent.left() > 0 && self.sent.answered < end
    }

    pub(super) fn write_replies(&mut self, out: &mut ReplySink<'_>, entries: &mut Vec<u8>) {
        if entries.len() >= LARGE_BYTES && self.write_large(out, entries) {
            return;
        }
        for (status, bytes) in Entries(entries.as_slice()) {
            self.received += 1;
            // The guest already has an error for this command, which ran past its limit.
            let is_late = self.received <= self.sent.answered;
            // The receiver has checked that there are no more replies than commands.
            if !is_late && let Some(mut next) = self.next(out) {
                next.lines.write_ended(next.to, status, bytes);
            }
        }
    }

    /// Turns the bytes of a single large result into its line. Returns false if something else has come.
    pub(super) fn write_large(&mut self, out: &mut ReplySink<'_>, entries: &mut Vec<u8>) -> bool {
        let mut all = Entries(entries);
        let is_result = all.next().is_some_and(|(status, _)| status == status::DONE);
        let is_late = self.received < self.sent.answered;
        if !is_result || is_late || !all.0.is_empty() {
            return false;
        }
        let Some(mut next) = self.next(out) else {
            return false;
        };
        let entry = std::mem::take(entries);
        next.lines.write_large(next.to, entry, HEAD_BYTES);
        self.received += 1;
        true
    }

    /// Checks whether commands must be given up. Returns the reason to give up the rest, if there is one, and the size
    /// of the replies that have come meanwhile (bytes).
    pub(super) fn wait(
        &mut self,
        patience: &mut Option<BatchTimer>,
        out: &mut ReplySink<'_>,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> (Option<BatchGiveUp>, usize) {
        while self.waits() {
            match BatchTimer::is_over(patience, self, limit, context) {
                Some(BatchGiveUp::TooLong(limit)) => self.give_up_one(out, limit),
                Some(BatchGiveUp::LetGo) => {
                    self.call.withdraw();
                    let mut entries = Vec::new();
                    // Takes the last replies. If the process has ended, the rest is given up just the same.
                    let _ = self.take(&mut entries, context);
                    let bytes = bytes_of(&entries);
                    self.write_replies(out, &mut entries);
                    return (Some(BatchGiveUp::LetGo), bytes);
                }
                why => return (why, 0),
            }
        }
        (None, 0)
    }

    /// Answers the command that has run past its limit.
    pub(super) fn give_up_one(&mut self, out: &mut ReplySink<'_>, limit: Duration) {
        let lease = Arc::clone(&self.lease);
        if let Some(next) = self.next(out) {
            let fate = lease.instance.fate(next.index);
            let ended = gate::too_long(next.to.name, limit, fate);
            next.end(&ended);
        }
    }

    /// Answers the rest, except for what was withdrawn.
    pub(super) fn give_up(&mut self, out: &mut ReplySink<'_>, why: &BatchGiveUp) {
        let lease = Arc::clone(&self.lease);
        while self.waits()
            && let Some(next) = self.next(out)
        {
            let fate = lease.instance.fate(next.index);
            let ended = match why {
                BatchGiveUp::TooLong(limit) => gate::too_long(next.to.name, *limit, fate),
                BatchGiveUp::LetGo => gate::let_go(next.to.name, fate),
                BatchGiveUp::Ended(ended) => ended.clone(),
            };
            next.end(&ended);
        }
    }

    /// Answers what was withdrawn, once all before it is answered.
    pub(super) fn give_up_withdrawn(&mut self, out: &mut ReplySink<'_>) {
        if self.waits() {
            return;
        }
        if let Some((_, ended)) = self.withdrawn.take() {
            while let Some(next) = self.next(out) {
                next.end(&ended);
            }
        }
    }
}

/// A command to answer, and the buffer for its reply.
pub(super) struct NextReply<'s> {
    pub(super) index: u32,
    pub(super) to: ReplyTo<'s>,
    pub(super) lines: ReplyLines<'s>,
}

impl NextReply<'_> {
    pub(super) fn end(mut self, ended: &Completion) {
        self.lines.write_ended(self.to, ended.status, &ended.bytes);
    }
}

impl SentCommands {
    pub(super) fn push(&mut self, index: u32, tag: Option<&str>) {
        self.commands.push((index, tag.map(str::len)));
        self.tags.push_str(tag.unwrap_or_default());
    }

    /// Marks the first unanswered command as answered. Returns its index and its tag.
    pub(super) fn next(&mut self) -> Option<(u32, Option<&str>)> {
        let (index, tag) = *self.commands.get(self.answered)?;
        let start = self.answered_tags;
        self.answered += 1;
        self.answered_tags += tag.unwrap_or_default();
        Some((index, tag.map(|_| &self.tags[start..self.answered_tags])))
    }

    pub(super) fn left(&self) -> usize {
        self.commands.len() - self.answered
    }

    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.commands
            .shrink_to(KEPT_BYTES_MAX / size_of::<SentCommand>());
        self.tags.clear();
        self.tags.shrink_to(KEPT_BYTES_MAX);
        (self.answered, self.answered_tags) = (0, 0);
    }
}
