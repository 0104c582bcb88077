//! What others push to a guest, and who the guests of a daemon are.
//!
//! A connection's task owns its socket. Whoever else has something for the guest (an event of its daemon, the end of the
//! daemon) leaves it here and wakes the task. Ids are never used twice, so a daemon may keep one for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;

use dae_common_tcp::ErrorCode;

use crate::connection::event_handlers::EventHandlers;
use crate::connection::event_queue::{EventQueue, FEED_BYTES_MAX};
use crate::connection::pending_calls::{CallError, PendingCalls, ReplyFuture};
use crate::connection::reply_budget::ROOM_BYTES_MAX;
use dae_store::lock::lock;

/// What may wait for all guests of a daemon before each is held to its share of it (bytes): half of what may wait at all.
const PUSHED_BYTES_MAX: usize = ROOM_BYTES_MAX / 2;

/// One guest, as others see it.
#[derive(Debug)]
pub struct GuestHandle {
    id: u64,
    pushed: EventQueue,
    /// Bytes that its connection's task has taken and not written.
    unread: AtomicUsize,
    /// What waits for all guests of its daemon.
    all: Arc<QueuedBytes>,
    is_closing: AtomicBool,
    has_left: AtomicBool,
    /// It has sent a whole line, or comes by no connection. Where there is no room for guests, those who haven't go first.
    has_spoken: AtomicBool,
    /// The number of the instance that is or was told of this guest; 0 is none.
    greeted_by: AtomicU64,
    /// And of the one that has heard it all.
    known_to: AtomicU64,
    /// What its daemon has asked of it.
    pub asked: PendingCalls,
    /// Who of its daemon's code listens to it.
    pub heard: EventHandlers,
}

impl GuestHandle {
    /// The guest's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Leaves one line, without its LF, for the guest. False once it has too many, or has gone.
    pub fn push(&self, line: &[u8]) -> bool {
        if self.has_left() {
            return false;
        }
        let is_taken = self.pushed.push_within(line, self.most(line.len()));
        if is_taken {
            self.all.bytes.fetch_add(line.len() + 1, Ordering::Relaxed);
        }
        is_taken
    }

    /// How many bytes may wait in its feed, with a line of that length. Where much waits for all guests of the daemon, each
    /// has an even share of it; and who has nothing waiting may have one line.
    fn most(&self, line: usize) -> usize {
        if self.all.bytes.load(Ordering::Relaxed) + line <= PUSHED_BYTES_MAX {
            return FEED_BYTES_MAX;
        }
        let share = PUSHED_BYTES_MAX / self.all.guests.load(Ordering::Relaxed).max(1);
        match self.unread.load(Ordering::Relaxed) {
            0 => share.max(line).min(FEED_BYTES_MAX),
            unread => share.saturating_sub(unread),
        }
    }

    /// So many bytes wait for it with its connection's task.
    pub(crate) fn count_unread(&self, bytes: usize) {
        let before = self.unread.swap(bytes, Ordering::Relaxed);
        self.all.change(before, bytes);
    }

    /// Whether it has gone.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Whether anything was pushed since it was last taken.
    #[inline]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.pushed.has_mail()
    }

    /// Appends what was pushed.
    #[inline]
    pub fn take_into(&self, outbox: &mut Vec<u8>) {
        if self.has_mail() {
            let before = outbox.len();
            self.pushed.take_into(outbox);
            self.all.change(outbox.len() - before, 0);
        }
    }

    /// Whether more was pushed than it may have waiting.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.pushed.is_slow()
    }

    /// Asks the connection to end once its running commands have.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.pushed.wake();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Notes that it has sent a whole line.
    pub fn note_line(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
    }

    /// The connection's task is woken by what comes from now on. Look for what came before after this.
    pub fn watch(&self, context: &Context<'_>) {
        self.pushed.watch(context);
    }

    /// Has the connection's task look at its gate.
    pub fn wake(&self) {
        self.pushed.wake();
    }

    /// Whether that instance is being told of this guest, or has been.
    #[must_use]
    pub fn is_greeted_by(&self, instance: u64) -> bool {
        self.greeted_by.load(Ordering::Relaxed) == instance
    }

    /// From now on it is.
    pub fn set_greeted_by(&self, instance: u64) {
        self.greeted_by.store(instance, Ordering::Relaxed);
    }

    /// Whether that instance has been told of this guest.
    #[inline]
    #[must_use]
    pub fn is_known_to(&self, instance: u64) -> bool {
        self.known_to.load(Ordering::Acquire) == instance
    }

    /// From now on it has been.
    pub fn set_known_to(&self, instance: u64) {
        self.known_to.store(instance, Ordering::Release);
    }

    /// Asks the guest something: a line of ours, and its own of the same name for a reply.
    ///
    /// # Errors
    /// It has gone, it doesn't read what it is sent, or too much is unanswered already.
    pub fn ask(&self, name: &str, line: &[u8]) -> Result<ReplyFuture, CallError> {
        self.asked.ask(name, None, || match self.push(line) {
            true => Ok(()),
            false if self.is_slow() => Err(is_slow()),
            false => Err(has_gone()),
        })
    }
}

/// What is said to whoever waits for a guest that has gone.
fn has_gone() -> CallError {
    CallError::new(ErrorCode::Unavailable, "the guest has gone")
}

/// What is said to whoever asks a guest that doesn't read.
fn is_slow() -> CallError {
    let text = "the guest doesn't read what it is sent, and its connection is being closed";
    CallError::new(ErrorCode::Unavailable, text)
}

/// What waits for all guests of a daemon, whichever reads and whichever doesn't.
#[derive(Debug, Default)]
struct QueuedBytes {
    bytes: AtomicUsize,
    guests: AtomicUsize,
}

impl QueuedBytes {
    fn change(&self, before: usize, after: usize) {
        match after >= before {
            true => self.bytes.fetch_add(after - before, Ordering::Relaxed),
            false => self.bytes.fetch_sub(before - after, Ordering::Relaxed),
        };
    }
}

/// The guests of one daemon. They outlive its instances.
#[derive(Debug, Default)]
pub struct Guests {
    by_id: Mutex<HashMap<u64, Arc<GuestHandle>>>,
    waiting: Arc<QueuedBytes>,
}

impl Guests {
    /// Lets a guest in.
    #[must_use]
    pub fn enter(&self) -> Arc<GuestHandle> {
        self.enter_into(&mut lock(&self.by_id))
    }

    /// Lets a guest in where there are fewer than `max`. Of many who come at once, no more get in than may.
    #[must_use]
    pub fn enter_below(&self, max: usize) -> Option<Arc<GuestHandle>> {
        let mut by_id = lock(&self.by_id);
        (by_id.len() < max).then(|| self.enter_into(&mut by_id))
    }

    fn enter_into(&self, by_id: &mut HashMap<u64, Arc<GuestHandle>>) -> Arc<GuestHandle> {
        let guest_handle = Arc::new(GuestHandle {
            id: next_id(),
            pushed: EventQueue::default(),
            unread: AtomicUsize::new(0),
            all: Arc::clone(&self.waiting),
            is_closing: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            has_spoken: AtomicBool::new(false),
            greeted_by: AtomicU64::new(0),
            known_to: AtomicU64::new(0),
            asked: PendingCalls::default(),
            heard: EventHandlers::default(),
        });
        self.waiting.guests.fetch_add(1, Ordering::Relaxed);
        by_id.insert(guest_handle.id, Arc::clone(&guest_handle));
        guest_handle
    }

    /// It has gone.
    pub fn leave(&self, id: u64) {
        if let Some(guest_handle) = lock(&self.by_id).remove(&id) {
            self.waiting.guests.fetch_sub(1, Ordering::Relaxed);
            guest_handle.count_unread(0);
            guest_handle.has_left.store(true, Ordering::Release);
            guest_handle.asked.end(&has_gone());
            guest_handle.heard.tell(br#"disconnect ["it has gone"]"#);
            guest_handle.heard.end();
        }
    }

    /// The guest of that number, if it is still here.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<GuestHandle>> {
        lock(&self.by_id).get(&id).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.by_id).len()
    }

    /// Asks the one to end that is here for longest without having sent a line; false where there is none.
    pub fn close_longest_silent(&self) -> bool {
        let by_id = lock(&self.by_id);
        let silent = by_id
            .values()
            .filter(|guest| !guest.has_spoken.load(Ordering::Relaxed) && !guest.is_closing());
        let longest = silent.min_by_key(|guest| guest.id);
        longest.inspect(|guest| guest.close()).is_some()
    }

    /// Asks every one to end.
    pub fn close_all(&self) {
        for guest_handle in lock(&self.by_id).values() {
            guest_handle.close();
        }
    }

    /// Has every one's task look at the gate.
    pub fn wake_all(&self) {
        for guest_handle in lock(&self.by_id).values() {
            guest_handle.wake();
        }
    }
}

/// A number for a connection, to or from a daemon; never given twice. 0 is nobody.
#[must_use]
pub fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Drop for GuestHandle {
    fn drop(&mut self) {
        // What nobody has taken.
        let mut left = Vec::new();
        self.take_into(&mut left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_come_at_once_no_more_get_in_than_may() {
        let guests = Guests::default();
        let come = || (0..100).filter_map(|_| guests.enter_below(7)).count();
        let entered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(come)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!((entered, guests.count()), (7, 7));
    }

    #[test]
    fn the_longest_silent_one_makes_room() {
        let guests = Guests::default();
        let (first, second, third) = (guests.enter(), guests.enter(), guests.enter());
        first.note_line();
        assert!(guests.close_longest_silent() && guests.close_longest_silent());
        assert!(!guests.close_longest_silent());
        let closing = [first, second, third].map(|guest| guest.is_closing());
        assert_eq!(closing, [false, true, true]);
    }

    #[test]
    fn many_who_do_not_read_share_what_may_wait_and_who_reads_is_pushed_to() {
        const GUESTS: usize = 200;
        let guests = Guests::default();
        let deaf: Vec<_> = (0..GUESTS).map(|_| guests.enter()).collect();
        let honest = guests.enter();
        let line = vec![b'x'; 10_000];
        for _ in 0..FEED_BYTES_MAX / line.len() {
            for guest in &deaf {
                guest.push(&line);
            }
            assert!(honest.push(&line));
            honest.take_into(&mut Vec::new());
        }
        let waits = guests.waiting.bytes.load(Ordering::Relaxed);
        assert!(
            (PUSHED_BYTES_MAX / 2..=ROOM_BYTES_MAX).contains(&waits),
            "{waits}"
        );
        assert!(deaf.iter().all(|guest| guest.is_slow()) && !honest.is_slow());
        for guest in &deaf {
            guests.leave(guest.id());
        }
        drop(deaf);
        assert_eq!(guests.waiting.bytes.load(Ordering::Relaxed), 0);
    }
}
