//! Batches in a child's hands: commands that end on the spot, handed over together and answered together.
//!
//! A child answers batch after batch, in the order in which they were handed over, but for those that it has set aside for
//! want of room. Replies to anything else are nonsense. What a guest has given up on stays in the queue, with nobody to
//! read its replies, until the child has answered it; how much that can be is bounded by what may wait for a child.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::limits::{OverdueAction, WithdrawalReason};
use super::read::bytes_of;
use super::{Link, lock};
use crate::plugin::completion::Completion;
use crate::process::hand_off::{Begun, CommandPosition};
use crate::process::ipc::batch;

/// The batches that a child has not answered in full.
#[derive(Default)]
pub(super) struct PendingBatches {
    waiting: VecDeque<WaitingBatch>,
}

struct WaitingBatch {
    id: u64,
    guest: u64,
    /// Whether it is set aside, out of the order of numbers.
    is_aside: bool,
    since: Instant,
    /// The number of its commands, without those that were withdrawn.
    count: usize,
    /// The number of these that are unanswered.
    left: usize,
    replies: Arc<BatchReplies>,
}

/// What has come for a batch, between who reads it from the child and who writes it to the guest.
#[derive(Default)]
struct BatchReplies {
    came: Mutex<BatchProgress>,
    guest: AtomicWaker,
}

#[derive(Default)]
struct BatchProgress {
    /// Entries, as [`batch`] has them.
    entries: Vec<u8>,
    /// Why no more will come.
    no_more: Option<BatchEnd>,
}

/// Why a batch is not answered in full.
#[derive(Debug, Clone)]
pub enum BatchEnd {
    /// Nothing more will come, and this is what the rest ends with.
    Ended(Completion),
    /// From the command of this index on, they were withdrawn, and end with that.
    Withdrawn(usize, Completion),
}

impl PendingBatches {
    /// One more, of so many commands. The guest is woken by what comes for it.
    pub(super) fn add(
        &mut self,
        (id, guest_id, link): (u64, u64, Option<&Arc<Link>>),
        count: usize,
        guest: &Context<'_>,
    ) -> BatchCall {
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

    /// All that are there, each with when it was handed over.
    pub(super) fn handed_over(&self) -> impl Iterator<Item = (u64, Instant)> {
        self.waiting.iter().map(|one| (one.id, one.since))
    }

    /// Tells those who wait what of their batches up to that one was withdrawn, by where the child was then.
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

    /// A batch is set aside.
    pub(super) fn set_aside(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.waiting[at].is_aside = true;
        }
    }

    /// Of a batch that was set aside, the commands from that one on never begin.
    pub(super) fn dropped(&mut self, id: u64, from: usize, why: WithdrawalReason) {
        if let Some(at) = self.find(id) {
            self.waiting[at].withdraw(from, why);
            self.waiting.retain(|batch| batch.left > 0);
        }
    }

    /// Where a batch stands. They stand in the order of their numbers, and mostly the first is meant.
    fn find(&self, id: u64) -> Option<usize> {
        match self.waiting.front() {
            Some(first) if first.id == id => Some(0),
            _ => self.waiting.binary_search_by_key(&id, |one| one.id).ok(),
        }
    }

    /// Hands the next replies to whom they are for; whose they were, and how many bytes, where nobody wants them.
    ///
    /// # Errors
    /// They are no replies, or not those that are due.
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
        // Where the guest has given up, nobody but us has it.
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

    /// Tells all that wait that no more will come.
    pub(super) fn end(&mut self, ended: impl Fn() -> Completion) {
        for batch in self.waiting.drain(..) {
            batch.replies.end(BatchEnd::Ended(ended()));
        }
    }
}

impl WaitingBatch {
    /// The commands from that one on never begin.
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
            // A large one is not copied.
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

/// A batch that was handed over. Dropped, nobody waits for it any more; the child runs it all the same, since none of its
/// commands can be interrupted.
pub struct BatchCall {
    id: u64,
    guest: u64,
    /// None where it was refused.
    link: Option<Arc<Link>>,
    replies: Arc<BatchReplies>,
}

impl BatchCall {
    /// One whose commands all have that end.
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

    /// What is to be done about the first command that is unanswered, which has that index.
    pub fn due(&self, first: usize, since: Instant, limit: Duration) -> OverdueAction {
        let due = |link: &Arc<Link>| link.due((self.id, first), since, limit);
        let later = || OverdueAction::Look(Instant::now() + limit);
        self.link.as_ref().map_or_else(later, due)
    }

    /// Has it go on by a command, whatever waits for its guest.
    pub fn go_on(&self) {
        if let Some(link) = &self.link {
            link.go_on(self.id);
        }
    }

    /// Withdraws what has not begun of this and of all else that its child has in its hands.
    pub(crate) fn withdraw(&self) {
        if let Some(link) = &self.link {
            link.withdraw_all();
        }
    }

    /// Puts what has come into `entries`, in place of what is there; why no more will come after that, if so. The guest is
    /// woken by the next.
    pub fn take(&self, entries: &mut Vec<u8>, guest: &Context<'_>) -> Option<BatchEnd> {
        entries.clear();
        // First, so that nothing is missed.
        self.replies.guest.register(guest.waker());
        let mut came = lock(&self.replies.came);
        std::mem::swap(&mut came.entries, entries);
        came.no_more.take()
    }
}

impl Drop for BatchCall {
    fn drop(&mut self) {
        // What nobody has taken.
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

    #[test]
    fn replies_come_in_pieces_and_an_end_comes_for_the_rest() {
        let guest = Context::from_waker(Waker::noop());
        let (mut batches, mut taken) = (PendingBatches::default(), Vec::new());
        let call = batches.add((1, 9, None), 3, &guest);
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
            batches.add((1, 9, None), 1, &guest),
            batches.add((2, 9, None), 1, &guest),
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
