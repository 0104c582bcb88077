//! The reply budget: how many bytes of replies may wait for one daemon's guests, and which command may begin in the
//! rest.
//!
//! A reply's size is known only once the reply is made. So a command may begin while less than the limit waits, and at
//! most the limit plus one reply waits. Guests that don't read must not block others. A guest with much waiting may
//! begin nothing more. A guest with nothing waiting can use a part of the budget that others can't use up. A bulk,
//! which is a reply larger than a guest's whole share, is counted apart, and there is one at a time. A command that has
//! returned a bulk once is expected to do so again.
//!
//! The host counts the replies of its in-process daemons, and a worker those of its own daemon. When little waits,
//! which is nearly always, a check costs two loads.

mod reservation;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use tokio::sync::Notify;

use reservation::{ReplyKind, Reservations};

use dae_store::lock::lock;

pub(crate) use reservation::{Reservation, ReservationBusy};

/// The limit for all guests of a daemon (bytes), without one bulk.
pub(crate) const BUDGET_BYTES_MAX: usize = 64 << 20;
/// The limit for guests that already have something waiting (bytes). Above it only guests with nothing waiting may
/// begin.
const SHARED_BYTES_MAX: usize = BUDGET_BYTES_MAX / 2;
/// The limit for commands that have returned more than [`LITTLE_BYTES`] before (bytes).
const ALL_BYTES_MAX: usize = BUDGET_BYTES_MAX / 4 * 3;
/// The limit for one guest, past which it may begin nothing more (bytes; Common TCP, hostile input).
pub(crate) const GUEST_BYTES_MAX: usize = 1 << 20;
/// The limit for one guest, past which none of its commands in flight goes on (bytes). It is higher than the other,
/// since a command that pauses midway may hold what other commands need.
const FINISH_BYTES_MAX: usize = 8 << 20;
/// The size above which a reply is a bulk (bytes).
pub(crate) const BULK_BYTES_MIN: usize = FINISH_BYTES_MAX;
/// The size up to which a reply counts as negligible (bytes).
const LITTLE_BYTES: usize = 64 << 10;
/// The total below which the budget is not tight (bytes).
const TIGHT_BYTES: usize = 1 << 20;
/// The number of guests with waiting replies from which the budget is tight.
const TIGHT_GUESTS: usize = 4096;
/// The number of 64-bit words with one bit per command. A command beyond them always needs a reservation; few daemons
/// have 512.
const UNGUARDED_WORDS: usize = 8;

/// The replies that wait for one daemon's guests, and the tasks that wait for it to shrink.
#[derive(Debug, Default)]
pub(crate) struct ReplyBudget {
    is_tight: AtomicBool,
    /// One bit for each command, set if it needs no reservation. Its first run in this instance is over or takes long,
    /// and it has never returned a bulk.
    unguarded: [AtomicU64; UNGUARDED_WORDS],
    waits: Mutex<BudgetUse>,
    /// The tasks that want to begin or resume a command.
    wanting: Mutex<HashMap<usize, Waker>>,
    released: Notify,
    /// Batches and calls that may go on regardless of the limits.
    freed: Mutex<HashSet<u64>>,
}

/// The bytes that wait, by guest and in total, and what is known of the commands.
#[derive(Debug, Default)]
struct BudgetUse {
    by_guest: HashMap<u64, usize>,
    /// The total of all guests without a bulk; `bulk` is the total of those with one.
    usual: usize,
    bulk: usize,
    /// Commands that have returned a bulk.
    bulky: HashSet<u32>,
    /// Commands that have returned more than [`LITTLE_BYTES`].
    sizable: HashSet<u32>,
    reservations: Reservations,
}

impl BudgetUse {
    fn of(&self, guest: u64) -> usize {
        self.by_guest.get(&guest).copied().unwrap_or(0)
    }

    fn set(&mut self, guest: u64, bytes: usize) {
        let before = match bytes {
            0 => self.by_guest.remove(&guest).unwrap_or(0),
            _ => self.by_guest.insert(guest, bytes).unwrap_or(0),
        };
        *self.side(before) -= before;
        *self.side(bytes) += bytes;
    }

    fn side(&mut self, bytes: usize) -> &mut usize {
        match bytes > BULK_BYTES_MIN {
            true => &mut self.bulk,
            false => &mut self.usual,
        }
    }

    fn may_begin(&self, guest: u64, command: u32) -> bool {
        let waits = self.of(guest);
        let most = match waits < LITTLE_BYTES {
            false => SHARED_BYTES_MAX,
            true if self.sizable.contains(&command) => ALL_BYTES_MAX,
            true => BUDGET_BYTES_MAX,
        };
        let has_place = self.usual < most;
        waits < GUEST_BYTES_MAX && has_place && self.has_bulk_place(command)
    }

    fn may_go_on(&self, guest: u64, command: u32) -> bool {
        let waits = self.of(guest);
        let most = match waits < LITTLE_BYTES && !self.sizable.contains(&command) {
            true => BUDGET_BYTES_MAX,
            false => ALL_BYTES_MAX,
        };
        waits < FINISH_BYTES_MAX && self.usual < most && self.has_bulk_place(command)
    }

    fn has_bulk_place(&self, command: u32) -> bool {
        self.bulk == 0 || !self.bulky.contains(&command)
    }
}

impl ReplyBudget {
    /// Returns whether a guest may begin a command now.
    #[inline]
    pub(crate) fn may_begin(&self, guest: u64, command: u32) -> bool {
        !self.is_tight() || lock(&self.waits).may_begin(guest, command)
    }

    /// Returns whether a command that a guest has in flight may go on and finish.
    #[inline]
    pub(crate) fn may_go_on(&self, guest: u64, command: u32) -> bool {
        !self.is_tight() || lock(&self.waits).may_go_on(guest, command)
    }

    /// Returns whether a command of an in-process daemon must call [`ReplyBudget::reserve`] before its code runs.
    #[inline]
    pub fn asks(&self, command: u32) -> bool {
        self.is_tight() || !self.is_unguarded(command)
    }

    /// Returns whether a command needs no reservation.
    #[inline]
    pub(crate) fn is_unguarded(&self, command: u32) -> bool {
        let word = self.unguarded.get(command as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (command % 64) & 1 == 1)
    }

    /// Forgets what is known of the commands, since a new instance begins, perhaps with other code.
    pub(crate) fn begin_anew(&self) {
        let mut waits = lock(&self.waits);
        waits.bulky.clear();
        waits.sizable.clear();
        for word in &self.unguarded {
            word.store(0, Ordering::Release);
        }
    }

    /// Returns the kind of reservation that a command needs while its code runs.
    fn kind(&self, waits: &BudgetUse, command: u32) -> Option<ReplyKind> {
        if waits.bulky.contains(&command) {
            return Some(ReplyKind::Bulk);
        }
        (!self.is_unguarded(command)).then_some(ReplyKind::First(command))
    }

    /// Returns whether so much waits that each command must be checked.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Acquire)
    }

    /// Lets that batch or call go on regardless of the limits, because other waiting work depends on it.
    pub fn free(&self, id: u64) {
        lock(&self.freed).insert(id);
        self.wake_all();
    }

    /// Returns whether that batch or call may go on regardless of the limits. Each [`ReplyBudget::free`] counts once.
    pub(crate) fn take_freed(&self, id: u64) -> bool {
        lock(&self.freed).remove(&id)
    }

    /// Wakes the caller's task when fewer bytes wait. Call this before the check that it is for.
    pub fn want(&self, context: &Context<'_>) {
        let waker = context.waker();
        // One waker per task is enough.
        let task = waker.data().addr();
        lock(&self.wanting).insert(task, waker.clone());
    }

    /// Notes that a command with arguments of `arguments` bytes has returned `reply` bytes.
    #[inline]
    pub fn note(&self, command: u32, arguments: usize, reply: usize) {
        if reply > LITTLE_BYTES {
            self.note_sizable(command, arguments, reply);
        }
        if !self.is_unguarded(command) {
            self.note_end(command);
        }
    }

    /// Notes that a run of the command has ended.
    #[cold]
    pub fn note_end(&self, command: u32) {
        let waits = lock(&self.waits);
        if !waits.bulky.contains(&command) {
            self.set_unguarded(command);
        }
    }

    /// Marks that the command needs no reservation. The caller holds the lock on `waits`.
    fn set_unguarded(&self, command: u32) {
        if let Some(word) = self.unguarded.get(command as usize / 64) {
            word.fetch_or(1 << (command % 64), Ordering::AcqRel);
        }
    }

    #[cold]
    fn note_sizable(&self, command: u32, arguments: usize, reply: usize) {
        let mut waits = lock(&self.waits);
        waits.sizable.insert(command);
        if reply > BULK_BYTES_MIN && reply / 2 > arguments {
            waits.bulky.insert(command);
            if let Some(word) = self.unguarded.get(command as usize / 64) {
                word.fetch_and(!(1 << (command % 64)), Ordering::AcqRel);
            }
        }
    }

    /// Sets the number of bytes that wait for that guest.
    pub fn set(&self, guest: u64, bytes: usize) {
        self.change(guest, |_| bytes);
    }

    /// Adds to the number of bytes that wait for that guest. Guest 0 stands for no guest and is ignored.
    pub fn add(&self, guest: u64, bytes: usize) {
        self.change(guest, |before| before + bytes);
    }

    /// Subtracts from the number of bytes that wait for that guest.
    pub fn take(&self, guest: u64, bytes: usize) {
        self.change(guest, |before| before.saturating_sub(bytes));
    }

    fn change(&self, guest: u64, to: impl FnOnce(usize) -> usize) {
        if guest == 0 {
            return;
        }
        let mut waits = lock(&self.waits);
        let before = waits.of(guest);
        let after = to(before);
        if after == before {
            return;
        }
        waits.set(guest, after);
        let has_many = waits.by_guest.len() >= TIGHT_GUESTS;
        let is_tight = has_many || waits.usual + waits.bulk >= TIGHT_BYTES;
        self.is_tight.store(is_tight, Ordering::Release);
        drop(waits);
        if after < before {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let wanting = std::mem::take(&mut *lock(&self.wanting));
        for waker in wanting.into_values() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULKY: u32 = 7;
    const SIZABLE: u32 = 6;

    #[test]
    fn who_reads_nothing_begins_nothing_and_others_do() {
        let budget = ReplyBudget::default();
        assert!(budget.may_begin(1, 0));
        budget.set(1, GUEST_BYTES_MAX);
        assert!(!budget.may_begin(1, 0) && budget.may_begin(2, 0));
        assert!(budget.may_go_on(1, 0));
        budget.set(1, FINISH_BYTES_MAX);
        assert!(!budget.may_go_on(1, 0));
        budget.take(1, FINISH_BYTES_MAX);
        assert!(budget.may_begin(1, 0) && !budget.is_tight());
    }

    #[test]
    fn many_with_little_leave_budget_for_one_with_nothing_and_never_more_than_all() {
        let budget = ReplyBudget::default();
        budget.note(SIZABLE, 0, GUEST_BYTES_MAX);
        let mut guest = 0;
        let mut begun = 0;
        while budget.may_begin(guest + 1, SIZABLE) {
            guest += 1;
            budget.set(guest, GUEST_BYTES_MAX - 1);
            begun += GUEST_BYTES_MAX - 1;
        }
        assert!((ALL_BYTES_MAX..BUDGET_BYTES_MAX).contains(&begun));
        assert!(budget.may_begin(guest + 1, 0), "a little fits");
        let budget = ReplyBudget::default();
        for guest in 1..=SHARED_BYTES_MAX / LITTLE_BYTES {
            budget.set(guest as u64, LITTLE_BYTES);
        }
        assert!(!budget.may_begin(1, 0), "it has something already");
        assert!(budget.may_begin(9999, 0), "it has nothing");
    }

    #[test]
    fn one_bulk_at_a_time_and_it_keeps_nobody_else_waiting() {
        let budget = ReplyBudget::default();
        budget.note(BULKY, 0, 100 << 20);
        budget.note(8, 100 << 20, 100 << 20);
        budget.set(1, 100 << 20);
        assert!(!budget.may_begin(2, BULKY) && !budget.may_go_on(2, BULKY));
        assert!(budget.may_begin(2, 8), "its arguments were as large");
        budget.set(1, 0);
        assert!(budget.may_begin(2, BULKY));
    }

    #[test]
    fn a_task_that_wants_budget_is_woken_when_there_is_more() {
        let (waker, count) = counting();
        let budget = ReplyBudget::default();
        budget.want(&Context::from_waker(&waker));
        budget.add(1, 5);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        budget.take(1, 2);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    /// Returns a waker that counts its calls, and the count.
    fn counting() -> (Waker, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        struct WakeCounter(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for WakeCounter {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::default();
        let waker = std::sync::Arc::new(WakeCounter(std::sync::Arc::clone(&count))).into();
        (waker, count)
    }
}
