//! Batches in a child's hands: commands that end on the spot, handed over together and answered together.
//!
//! A child answers batch after batch, in the order in which they were handed over, so the first of the queue is the one
//! whose replies come next. Whatever else comes is nonsense. What a guest has given up on stays in the queue, with nobody to
//! read its replies, until the child has answered it; how much that can be is bounded by what may wait for a child.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Context;

use futures_util::task::AtomicWaker;

use super::lock;
use crate::frame::batch;
use crate::outcome::Ended;

/// The batches that a child has not answered in full.
#[derive(Default)]
pub(super) struct Batches {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: u64,
    /// How many of its commands are unanswered.
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
    end: Option<Ended>,
}

impl Batches {
    /// One more, of so many commands. The guest is woken by what comes for it.
    pub(super) fn add(&mut self, id: u64, count: usize, guest: &Context<'_>) -> BatchCall {
        let replies = Arc::new(Replies::default());
        replies.guest.register(guest.waker());
        self.waiting.push_back(Waiting {
            id,
            left: count,
            replies: Arc::clone(&replies),
        });
        BatchCall { replies }
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
            batch.replies.end(ended());
        }
    }
}

impl Replies {
    fn end(&self, ended: Ended) {
        lock(&self.came).end = Some(ended);
        self.guest.wake();
    }
}

/// A batch that was handed over. Dropped, nobody waits for it any more; the child runs it all the same, since none of its
/// commands can be interrupted.
pub(crate) struct BatchCall {
    replies: Arc<Replies>,
}

impl BatchCall {
    /// One whose commands all have that end.
    pub(super) fn refused(ended: Ended) -> Self {
        let replies = Arc::new(Replies::default());
        replies.end(ended);
        BatchCall { replies }
    }

    /// Puts what has come into `entries`, in place of what is there; why no more will come after that, if so. The guest is
    /// woken by the next.
    pub(crate) fn take(&self, entries: &mut Vec<u8>, guest: &Context<'_>) -> Option<Ended> {
        entries.clear();
        // First, so that nothing is missed.
        self.replies.guest.register(guest.waker());
        let mut came = lock(&self.replies.came);
        std::mem::swap(&mut came.entries, entries);
        came.end.take()
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
        let call = batches.add(1, 3, &guest);
        batches.answer(1, &entries(&["a"])).unwrap();
        batches.answer(1, &entries(&["b"])).unwrap();
        assert!(call.take(&mut taken, &guest).is_none());
        assert_eq!(taken, entries(&["a", "b"]));
        batches.end(|| Ended {
            status: 7,
            bytes: Vec::new(),
        });
        assert_eq!(call.take(&mut taken, &guest).unwrap().status, 7);
        assert!(taken.is_empty());
    }

    #[test]
    fn what_is_not_due_is_nonsense() {
        let guest = Context::from_waker(Waker::noop());
        let mut batches = Batches::default();
        assert!(batches.answer(1, &entries(&["a"])).is_err());
        let calls = [batches.add(1, 1, &guest), batches.add(2, 1, &guest)];
        assert!(batches.answer(2, &entries(&["a"])).is_err());
        assert!(batches.answer(1, &entries(&["a", "b"])).is_err());
        assert!(batches.answer(1, &[0]).is_err());
        drop(calls);
        batches.answer(1, &entries(&["nobody waits"])).unwrap();
        batches.answer(2, &entries(&["nobody waits"])).unwrap();
        assert!(batches.answer(2, &entries(&["again"])).is_err());
    }
}
