//! Batches that a subprocess has: immediate commands that are sent together and answered together.
//!
//! A subprocess answers one batch after the other, in the order in which they were sent, except those that it has set
//! aside because the reply budget is used up. Replies to anything else break the protocol. A batch that its guest has
//! given up stays in the queue until the subprocess has answered it, and its replies are discarded. The number of such
//! batches is bounded by the bytes that may wait for a subprocess.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::limits::{OverdueAction, WithdrawalReason};
use super::read::bytes_of;
use super::{Link, lock};
use crate::hand_off::{Begun, CommandPosition};
use crate::plugin::completion::Completion;
use crate::process::ipc::batch;

/// The batches that a subprocess has not answered in full.
#[derive(Default)]
pub(super) struct PendingBatches {
    waiting: VecDeque<WaitingBatch>,
}

struct WaitingBatch {
    id: u64,
    guest: u64,
    /// True if it is set aside, out of the order of ids.
    is_aside: bool,
    since: Instant,
    /// The number of its commands, without those that were withdrawn.
    count: usize,
    /// The number of these that are unanswered.
    left: usize,
    replies: Arc<BatchReplies>,
}

/// The replies to a batch, between the task that reads them from the subprocess and the one that writes them to the
/// guest.
#[derive(Default)]
struct BatchReplies {
    came: Mutex<BatchProgress>,
    guest: AtomicWaker,
}

#[derive(Default)]
struct BatchProgress {
    /// The replies that have come, as entries ([`batch`]).
    entries: Vec<u8>,
    /// The reason why no more will come.
    no_more: Option<BatchEnd>,
}

/// The reason why a batch is not answered in full.
#[derive(Debug, Clone)]
pub enum BatchEnd {
    /// No more replies will come, and the other commands end with this completion.
    Ended(Completion),
    /// The commands from this index on were withdrawn, and end with this completion.
    Withdrawn(usize, Completion),
}

/// A batch that is handed over.
pub(super) struct NewBatch<'a> {
    pub(super) id: u64,
    /// The guest that sent it.
    pub(super) guest: u64,
    /// The link to its subprocess.
    pub(super) link: Option<&'a Arc<Link>>,
    /// The number of its commands.
    pub(super) count: usize,
}

impl PendingBatches {
    /// Adds a batch. Each reply, and the end of the batch, wakes the guest's task.
    pub(super) fn add(&mut self, batch: NewBatch<'_>, guest: &Context<'_>) -> BatchCall {
        let NewBatch {
            id,
            guest: guest_id,
            link,
            count,
        } = batch;
        let replies = Arc::new(BatchReplies::default());
        replies.guest.register(guest.waker());
        self.waiting.push_back(WaitingBatch {
            id,
            guest: guest_id,
            is_aside: false,
            since: Instant::now(),
            count,
            left: count,
            replies: Arc::clone(&replies),
        });
        let link = link.map(Arc::clone);
        BatchCall {
            id,
            guest: guest_id,
            link,
            replies,
        }
    }

    /// Returns the ids of all batches, each with the time when it was queued.
    pub(super) fn handed_over(&self) -> impl Iterator<Item = (u64, Instant)> {
        self.waiting.iter().map(|one| (one.id, one.since))
    }

    /// Withdraws those commands of all batches up to `last` that had not begun, as `front` shows.
    pub(super) fn withdraw(&mut self, last: u64, front: CommandPosition, why: WithdrawalReason) {
        let waiting = self.waiting.iter_mut();
        for batch in waiting.filter(|one| one.id <= last && !one.is_aside) {
            let begun = match front.begun(batch.id) {
                Begun::None => 0,
                Begun::Some(begun) => begun,
                Begun::All => continue,
            };
            batch.withdraw(begun, why);
        }
        self.waiting.retain(|batch| batch.left > 0);
    }

    /// Marks a batch as set aside.
    pub(super) fn set_aside(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.waiting[at].is_aside = true;
        }
    }

    /// Drops the commands of a set-aside batch from the index `from` on, which never begin.
    pub(super) fn dropped(&mut self, id: u64, from: usize, why: WithdrawalReason) {
        if let Some(at) = self.find(id) {
            self.waiting[at].withdraw(from, why);
            self.waiting.retain(|batch| batch.left > 0);
        }
    }

    /// Returns the index of a batch. Batches are in the order of their ids, and mostly the first one is meant.
    fn find(&self, id: u64) -> Option<usize> {
        match self.waiting.front() {
            Some(first) if first.id == id => Some(0),
            _ => self.waiting.binary_search_by_key(&id, |one| one.id).ok(),
        }
    }

    /// Passes the next replies to the guest's task. If it no longer waits, returns the guest and the number of bytes.
    ///
    /// # Errors
    /// The reason why they are not replies, or not those that are due.
    pub(super) fn answer(
        &mut self,
        id: u64,
        entries: Cow<'_, [u8]>,
    ) -> Result<Option<(u64, usize)>, String> {
        let count = batch::count(&entries).ok_or("replies that are cut off")?;
        let at = self.find(id).ok_or("replies to a batch that isn't there")?;
        let batch = &mut self.waiting[at];
        batch.left = batch
            .left
            .checked_sub(count)
            .ok_or("more replies than there were commands")?;
        // After the guest has given up, this queue is the only owner.
        let nobodys =
            (Arc::strong_count(&batch.replies) == 1).then(|| (batch.guest, bytes_of(&entries)));
        if nobodys.is_none() {
            batch.replies.add(entries);
        }
        if batch.left == 0 {
            self.waiting.remove(at);
        }
        Ok(nobodys)
    }

    /// Ends all batches: no more replies will come.
    pub(super) fn end(&mut self, ended: impl Fn() -> Completion) {
        for batch in self.waiting.drain(..) {
            batch.replies.end(BatchEnd::Ended(ended()));
        }
    }
}

impl WaitingBatch {
    /// Withdraws the commands from the index `from` on, which never begin.
    fn withdraw(&mut self, from: usize, why: WithdrawalReason) {
        if from < self.count {
            self.left -= self.left.min(self.count - from);
            self.count = from;
            self.replies.end(BatchEnd::Withdrawn(from, why.ended()));
        }
    }
}

impl BatchReplies {
    fn add(&self, entries: Cow<'_, [u8]>) {
        let mut came = lock(&self.came);
        match came.entries.is_empty() && matches!(entries, Cow::Owned(_)) {
            // A large reply is not copied.
            true => came.entries = entries.into_owned(),
            false => came.entries.extend_from_slice(&entries),
        }
        drop(came);
        self.guest.wake();
    }

    fn end(&self, why: BatchEnd) {
        lock(&self.came).no_more = Some(why);
        self.guest.wake();
    }
}

/// A batch that was queued. Dropping it discards its replies. The subprocess runs it all the same, since none of its
/// commands can be interrupted.
pub struct BatchCall {
    id: u64,
    guest: u64,
    /// The connection to the subprocess; `None` if the batch was refused.
    link: Option<Arc<Link>>,
    replies: Arc<BatchReplies>,
}

impl BatchCall {
    /// Creates a batch whose commands all end with this completion.
    pub(super) fn refused(ended: Completion) -> Self {
        let replies = Arc::new(BatchReplies::default());
        replies.end(BatchEnd::Ended(ended));
        BatchCall {
            id: 0,
            guest: 0,
            link: None,
            replies,
        }
    }

    /// Returns the next step for the first unanswered command, which has the index `first`.
    pub fn due(&self, first: usize, since: Instant, limit: Duration) -> OverdueAction {
        let due = |link: &Arc<Link>| link.due((self.id, first), since, limit);
        let later = || OverdueAction::Look(Instant::now() + limit);
        self.link.as_ref().map_or_else(later, due)
    }

    /// Lets the batch run one more command despite the reply budget.
    pub fn go_on(&self) {
        if let Some(link) = &self.link {
            link.go_on(self.id);
        }
    }

    /// Withdraws everything that has not begun, of this batch and of all else that the subprocess has.
    pub(crate) fn withdraw(&self) {
        if let Some(link) = &self.link {
            link.withdraw_all();
        }
    }

    /// Replaces the contents of `entries` by what has come. Returns the reason if no more will come after that. The
    /// next reply wakes the guest's task.
    pub fn take(&self, entries: &mut Vec<u8>, guest: &Context<'_>) -> Option<BatchEnd> {
        entries.clear();
        // First, so that no wake-up is missed.
        self.replies.guest.register(guest.waker());
        let mut came = lock(&self.replies.came);
        std::mem::swap(&mut came.entries, entries);
        came.no_more.take()
    }
}

impl Drop for BatchCall {
    fn drop(&mut self) {
        // The replies that were not taken.
        let entries = std::mem::take(&mut lock(&self.replies.came).entries);
        if let Some(link) = self.link.as_ref().filter(|_| !entries.is_empty()) {
            link.has_read(self.guest, bytes_of(&entries));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn entries(replies: &[&str]) -> Vec<u8> {
        let mut entries = Vec::new();
        for reply in replies {
            batch::put_entry(&mut entries, 0, reply.as_bytes());
        }
        entries
    }

    fn new(id: u64, count: usize) -> NewBatch<'static> {
        NewBatch {
            id,
            guest: 9,
            link: None,
            count,
        }
    }

    #[test]
    fn replies_come_in_pieces_and_an_end_comes_for_the_rest() {
        let guest = Context::from_waker(Waker::noop());
        let (mut batches, mut taken) = (PendingBatches::default(), Vec::new());
        let call = batches.add(new(1, 3), &guest);
        batches.answer(1, entries(&["a"]).into()).unwrap();
        batches.answer(1, entries(&["b"]).into()).unwrap();
        assert!(call.take(&mut taken, &guest).is_none());
        assert_eq!(taken, entries(&["a", "b"]));
        batches.end(|| Completion {
            status: 7,
            bytes: Vec::new(),
        });
        let no_more = call.take(&mut taken, &guest);
        assert!(matches!(no_more, Some(BatchEnd::Ended(ended)) if ended.status == 7));
        assert!(taken.is_empty());
    }

    #[test]
    fn what_is_not_due_is_nonsense() {
        let guest = Context::from_waker(Waker::noop());
        let mut batches = PendingBatches::default();
        assert!(batches.answer(1, entries(&["a"]).into()).is_err());
        let calls = [
            batches.add(new(1, 1), &guest),
            batches.add(new(2, 1), &guest),
        ];
        assert!(batches.answer(3, entries(&["a"]).into()).is_err());
        assert!(batches.answer(1, entries(&["a", "b"]).into()).is_err());
        assert!(batches.answer(1, vec![0].into()).is_err());
        drop(calls);
        let nobodys = batches.answer(1, entries(&["nobody waits"]).into());
        assert_eq!(nobodys.unwrap(), Some((9, 12)));
        batches
            .answer(2, entries(&["nobody waits"]).into())
            .unwrap();
        assert!(batches.answer(2, entries(&["again"]).into()).is_err());
    }
}
