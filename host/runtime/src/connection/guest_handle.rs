//! Guest handles: the way to push lines to a guest, and the list of a daemon's guests.
//!
//! A connection's task owns its socket. Other code that has something for the guest (an event, the end of its daemon)
//! queues it here and wakes the task. Ids are never reused, so a daemon may keep one forever.

mod parts;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Context;

use dae_common_tcp::ErrorCode;

use crate::connection::event_handlers::EventHandlers;
use crate::connection::event_queue::{EVENT_QUEUE_BYTES_MAX, EventQueue};
use crate::connection::pending_calls::{CallError, PendingCalls, ReplyFuture};
use crate::connection::reply_budget::BUDGET_BYTES_MAX;
use dae_store::lock::lock;
use parts::GuestParts;
pub use parts::SentPart;
pub(crate) use parts::{PartOffer, PartWait, PartsTicket};

/// The limit for bytes queued for all guests of a daemon, past which each guest gets an even share: half of the total
/// limit.
const PUSHED_BYTES_MAX: usize = BUDGET_BYTES_MAX / 2;

/// A guest, as other code sees it.
#[derive(Debug)]
pub struct GuestHandle {
    id: u64,
    pushed: EventQueue,
    /// Bytes that its connection's task has taken and not yet written.
    unread: AtomicUsize,
    /// The bytes queued for all guests of its daemon.
    all: Arc<QueuedBytes>,
    is_closing: AtomicBool,
    has_left: AtomicBool,
    /// True if the guest has sent a whole line, or has no connection. When no descriptor is left, silent guests are closed
    /// first.
    has_spoken: AtomicBool,
    /// The number of the instance that runs or has run its connect hook for this guest; 0 if none.
    greeted_by: AtomicU64,
    /// The number of the instance whose connect hook has finished for this guest.
    known_to: AtomicU64,
    /// The parts of replies to it, once it has asked for them.
    parts: OnceLock<Box<GuestParts>>,
    /// The calls that its daemon has made to it.
    pub asked: PendingCalls,
    /// The event handlers of its daemon for this guest.
    pub heard: EventHandlers,
}

impl GuestHandle {
    /// Returns the guest's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Queues one line, given without its LF. Returns false if too much is queued or the guest has left.
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

    /// Returns how many bytes may be in its queue, including a line of that length. When much is queued for all guests
    /// of the daemon, each guest gets an even share. A guest with nothing queued may always get one line.
    fn most(&self, line: usize) -> usize {
        if self.all.bytes.load(Ordering::Relaxed) + line <= PUSHED_BYTES_MAX {
            return EVENT_QUEUE_BYTES_MAX;
        }
        let share = self.all.share();
        match self.unread.load(Ordering::Relaxed) {
            0 => share.max(line).min(EVENT_QUEUE_BYTES_MAX),
            unread => share.saturating_sub(unread),
        }
    }

    /// Sets the number of bytes that its connection's task has taken and not yet written.
    pub(crate) fn count_unread(&self, bytes: usize) {
        let before = self.unread.swap(bytes, Ordering::Relaxed);
        self.all.change(before, bytes);
        if bytes < before {
            self.notify_room();
        }
    }

    /// Returns whether the guest has left.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Returns whether anything was pushed since the last take.
    #[inline]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.pushed.has_mail()
    }

    /// Appends the queued lines to `outbox`.
    #[inline]
    pub fn take_into(&self, outbox: &mut Vec<u8>) {
        if self.has_mail() {
            let before = outbox.len();
            self.pushed.take_into(outbox);
            self.all.change(outbox.len() - before, 0);
            self.notify_room();
        }
    }

    /// Returns whether a push has exceeded the guest's limit.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.pushed.is_slow()
    }

    /// Asks the connection to end once its running commands have finished.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.pushed.wake();
    }

    /// Returns whether [`GuestHandle::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Notes that the guest has sent a whole line.
    pub fn note_line(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
    }

    /// Registers the task's waker for later pushes. Check for earlier lines after this call.
    pub fn watch(&self, context: &Context<'_>) {
        self.pushed.watch(context);
    }

    /// Wakes the connection's task, which then checks its gate.
    pub fn wake(&self) {
        self.pushed.wake();
    }

    /// Returns whether that instance's connect hook has started for this guest.
    #[must_use]
    pub fn is_greeted_by(&self, instance: u64) -> bool {
        self.greeted_by.load(Ordering::Relaxed) == instance
    }

    /// Notes that the connect hook of that instance has started for this guest.
    pub fn set_greeted_by(&self, instance: u64) {
        self.greeted_by.store(instance, Ordering::Relaxed);
    }

    /// Returns whether that instance's connect hook has finished for this guest.
    #[inline]
    #[must_use]
    pub fn is_known_to(&self, instance: u64) -> bool {
        self.known_to.load(Ordering::Acquire) == instance
    }

    /// Notes that the connect hook of that instance has finished for this guest.
    pub fn set_known_to(&self, instance: u64) {
        self.known_to.store(instance, Ordering::Release);
    }

    /// Calls the guest: sends it a line, and takes the guest's next line of the same name for the reply.
    ///
    /// # Errors
    /// The guest has left or reads too slowly, or too many calls are unanswered.
    pub fn ask(&self, name: &str, line: &[u8]) -> Result<ReplyFuture, CallError> {
        self.asked.ask(name, None, || match self.push(line) {
            true => Ok(()),
            false if self.is_slow() => Err(is_slow()),
            false => Err(has_gone()),
        })
    }
}

/// Returns the error for a call to a guest that has left.
fn has_gone() -> CallError {
    CallError::new(ErrorCode::Unavailable, "the guest has gone")
}

/// Returns the error for a call to a guest that doesn't read.
fn is_slow() -> CallError {
    let text = "the guest doesn't read what it is sent, and its connection is being closed";
    CallError::new(ErrorCode::Unavailable, text)
}

/// The bytes queued for all guests of a daemon, and the number of guests.
#[derive(Debug, Default)]
struct QueuedBytes {
    bytes: AtomicUsize,
    guests: AtomicUsize,
}

impl QueuedBytes {
    /// Returns a guest's even share of what may be queued for all (bytes).
    fn share(&self) -> usize {
        PUSHED_BYTES_MAX / self.guests.load(Ordering::Relaxed).max(1)
    }

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
    refused: RefusedCounts,
}

/// The guests of one daemon that were refused since the host started.
#[derive(Debug, Default)]
struct RefusedCounts {
    at_max: AtomicU64,
    no_descriptors: AtomicU64,
}

impl Guests {
    /// Returns how many guests were refused because the daemon had as many as it may, and how many for lack of
    /// descriptors.
    #[must_use]
    pub fn refused(&self) -> (u64, u64) {
        let RefusedCounts {
            at_max,
            no_descriptors,
        } = &self.refused;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(at_max), of(no_descriptors))
    }

    /// Counts a guest that was refused for lack of descriptors.
    pub(crate) fn count_no_descriptors(&self) {
        self.refused.no_descriptors.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a guest.
    #[must_use]
    pub fn enter(&self) -> Arc<GuestHandle> {
        self.enter_into(&mut lock(&self.by_id))
    }

    /// Adds a guest if there are fewer than `max`, and counts a refused one otherwise. Concurrent calls never exceed
    /// `max`.
    #[must_use]
    pub fn enter_below(&self, max: usize) -> Option<Arc<GuestHandle>> {
        let mut by_id = lock(&self.by_id);
        if by_id.len() < max {
            return Some(self.enter_into(&mut by_id));
        }
        self.refused.at_max.fetch_add(1, Ordering::Relaxed);
        None
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
            parts: OnceLock::new(),
            asked: PendingCalls::default(),
            heard: EventHandlers::default(),
        });
        self.waiting.guests.fetch_add(1, Ordering::Relaxed);
        by_id.insert(guest_handle.id, Arc::clone(&guest_handle));
        guest_handle
    }

    /// Removes a guest that has left.
    pub fn leave(&self, id: u64) {
        if let Some(guest_handle) = lock(&self.by_id).remove(&id) {
            self.waiting.guests.fetch_sub(1, Ordering::Relaxed);
            guest_handle.count_unread(0);
            guest_handle.has_left.store(true, Ordering::Release);
            guest_handle.notify_room();
            guest_handle.asked.end(&has_gone());
            guest_handle.heard.notify(br#"disconnect ["it has gone"]"#);
            guest_handle.heard.end();
        }
    }

    /// Returns the guest with that id, if it is still connected.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<GuestHandle>> {
        lock(&self.by_id).get(&id).cloned()
    }

    /// Returns the number of guests.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.by_id).len()
    }

    /// Closes the oldest guest that has not sent a line yet. Returns false if there is none.
    pub fn close_longest_silent(&self) -> bool {
        let by_id = lock(&self.by_id);
        let silent = by_id
            .values()
            .filter(|guest| !guest.has_spoken.load(Ordering::Relaxed) && !guest.is_closing());
        let longest = silent.min_by_key(|guest| guest.id);
        longest.inspect(|guest| guest.close()).is_some()
    }

    /// Asks all guests' connections to end.
    pub fn close_all(&self) {
        for guest_handle in lock(&self.by_id).values() {
            guest_handle.close();
        }
    }

    /// Wakes every guest's task, which then checks its gate.
    pub fn wake_all(&self) {
        for guest_handle in lock(&self.by_id).values() {
            guest_handle.wake();
        }
    }
}

/// Returns a new id for a connection to or from a daemon. Ids are never reused; 0 stands for no connection.
#[must_use]
pub fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Drop for GuestHandle {
    fn drop(&mut self) {
        // Lines that nobody has taken no longer count for the daemon.
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
        for _ in 0..EVENT_QUEUE_BYTES_MAX / line.len() {
            for guest in &deaf {
                guest.push(&line);
            }
            assert!(honest.push(&line));
            honest.take_into(&mut Vec::new());
        }
        let waits = guests.waiting.bytes.load(Ordering::Relaxed);
        assert!(
            (PUSHED_BYTES_MAX / 2..=BUDGET_BYTES_MAX).contains(&waits),
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
