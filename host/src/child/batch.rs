//! Batches in a child's hands: commands that end on the spot, handed over together and answered together.
//!
//! A child answers batch after batch, in the order in which they were handed over, so the first of the queue is the one
//! whose replies come next. Whatever else comes is nonsense. What a guest has given up on stays in the queue, with nobody to
//! read its replies, until the child has answered it; how much that can be is bounded by what may wait for a child.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::limits::{Due, Withdrawal};
use super::{Link, lock};
use crate::frame::batch;
use crate::ledger::{Begun, Front};
use crate::outcome::Ended;

/// The batches that a child has not answered in full.
#[derive(Default)]
pub(super) struct Batches {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: u64,
    since: Instant,
    /// How many commands it has, less those that were withdrawn.
    count: usize,
    /// How many of these are unanswered.
    left: usize,
    replies: Arc<Replies>,
}

/// What has come for a batch, between who reads it from the child and who writes it to the guest.
#[derive(Default)]
struct Replies {
    came: Mutex<Came>,
    guest: AtomicWaker,
}

#[derive(Default)]
struct Came {
    /// Entries, as [`batch`] has them.
    entries: Vec<u8>,
    /// Why no more will come.
    no_more: Option<NoMore>,
}

/// Why a batch is not answered in full.
#[derive(Debug, Clone)]
pub(crate) enum NoMore {
    /// Nothing more will come, and this is what the rest ends with.
    Ended(Ended),
    /// From the command of this index on, they were withdrawn, and end with that.
    Withdrawn(usize, Ended),
}

impl Batches {
    /// One more, of so many commands. The guest is woken by what comes for it.
    pub(super) fn add(
        &mut self,
        (id, link): (u64, Option<&Arc<Link>>),
        count: usize,
        guest: &Context<'_>,
    ) -> BatchCall {
        let replies = Arc::new(Replies::default());
        replies.guest.register(guest.waker());
        self.waiting.push_back(Waiting {
            id,
            since: Instant::now(),
            count,
            left: count,
            replies: Arc::clone(&replies),
        });
        let link = link.map(Arc::clone);
        BatchCall { id, link, replies }
    }

    /// All that are there, each with when it was handed over.
    pub(super) fn handed_over(&self) -> impl Iterator<Item = (u64, Instant)> {
        self.waiting.iter().map(|one| (one.id, one.since))
    }

    /// Tells those who wait what of their batches up to that one was withdrawn, by where the child was then.
    pub(super) fn withdraw(&mut self, last: u64, front: Front, why: Withdrawal) {
        for batch in self.waiting.iter_mut().filter(|one| one.id <= last) {
            let begun = match front.begun(batch.id) {
                Begun::None => 0,
                Begun::Some(begun) => begun,
                Begun::All => continue,
            };
            if begun < batch.count {
                batch.left -= batch.count - begun;
                batch.count = begun;
                batch.replies.end(NoMore::Withdrawn(begun, why.ended()));
            }
        }
        self.waiting.retain(|batch| batch.left > 0);
    }

    /// Hands the next replies to whom they are for.
    ///
    /// # Errors
    /// They are no replies, or not those that are due.
    pub(super) fn answer(&mut self, id: u64, entries: &[u8]) -> Result<(), String> {
        let count = batch::count(entries).ok_or("replies that are cut off")?;
        let first = self.waiting.front_mut().filter(|first| first.id == id);
        let first = first.ok_or("replies to a batch whose turn it isn't")?;
        first.left = first
            .left
            .checked_sub(count)
            .ok_or("more replies than there were commands")?;
        // Where the guest has given up, nobody but us has it.
        if Arc::strong_count(&first.replies) > 1 {
            let mut came = lock(&first.replies.came);
            came.entries.extend_from_slice(entries);
            drop(came);
            first.replies.guest.wake();
        }
        if first.left == 0 {
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Tells all that wait that no more will come.
    pub(super) fn end(&mut self, ended: impl Fn() -> Ended) {
        for batch in self.waiting.drain(..) {
            batch.replies.end(NoMore::Ended(ended()));
        }
    }
}

impl Replies {
    fn end(&self, why: NoMore) {
        lock(&self.came).no_more = Some(why);
        self.guest.wake();
    }
}

/// A batch that was handed over. Dropped, nobody waits for it any more; the child runs it all the same, since none of its
/// commands can be interrupted.
pub(crate) struct BatchCall {
    id: u64,
    /// None where it was refused.
    link: Option<Arc<Link>>,
    replies: Arc<Replies>,
}

impl BatchCall {
    /// One whose commands all have that end.
    pub(super) fn refused(ended: Ended) -> Self {
        let replies = Arc::new(Replies::default());
        replies.end(NoMore::Ended(ended));
        BatchCall {
            id: 0,
            link: None,
            replies,
        }
    }

    /// What is to be done about the first command that is unanswered, which has that index.
    pub(crate) fn due(&self, first: usize, since: Instant, limit: Duration) -> Due {
        let due = |link: &Arc<Link>| link.due((self.id, first), since, limit);
        let later = || Due::Look(Instant::now() + limit);
        self.link.as_ref().map_or_else(later, due)
    }

    /// Withdraws what has not begun of this and of all else that its child has in its hands.
    pub(crate) fn withdraw(&self) {
        if let Some(link) = &self.link {
            link.withdraw_all();
        }
    }

    /// Puts what has come into `entries`, in place of what is there; why no more will come after that, if so. The guest is
    /// woken by the next.
    pub(crate) fn take(&self, entries: &mut Vec<u8>, guest: &Context<'_>) -> Option<NoMore> {
        entries.clear();
        // First, so that nothing is missed.
        self.replies.guest.register(guest.waker());
        let mut came = lock(&self.replies.came);
        std::mem::swap(&mut came.entries, entries);
        came.no_more.take()
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
        let (mut batches, mut taken) = (Batches::default(), Vec::new());
        let call = batches.add((1, None), 3, &guest);
        batches.answer(1, &entries(&["a"])).unwrap();
        batches.answer(1, &entries(&["b"])).unwrap();
        assert!(call.take(&mut taken, &guest).is_none());
        assert_eq!(taken, entries(&["a", "b"]));
        batches.end(|| Ended {
            status: 7,
            bytes: Vec::new(),
        });
        let no_more = call.take(&mut taken, &guest);
        assert!(matches!(no_more, Some(NoMore::Ended(ended)) if ended.status == 7));
        assert!(taken.is_empty());
    }

    #[test]
    fn what_is_not_due_is_nonsense() {
        let guest = Context::from_waker(Waker::noop());
        let mut batches = Batches::default();
        assert!(batches.answer(1, &entries(&["a"])).is_err());
        let calls = [
            batches.add((1, None), 1, &guest),
            batches.add((2, None), 1, &guest),
        ];
        assert!(batches.answer(2, &entries(&["a"])).is_err());
        assert!(batches.answer(1, &entries(&["a", "b"])).is_err());
        assert!(batches.answer(1, &[0]).is_err());
        drop(calls);
        batches.answer(1, &entries(&["nobody waits"])).unwrap();
        batches.answer(2, &entries(&["nobody waits"])).unwrap();
        assert!(batches.answer(2, &entries(&["again"])).is_err());
    }
}
