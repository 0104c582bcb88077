//! How many bytes of replies one daemon may have waiting for guests, and which command may begin in what is left of that.
//!
//! A reply's size is known once it is made. So a command begins while less than the bound waits, and what waits is at most
//! the bound and one reply. No guest is to suffer from others that don't read. A guest that has much waiting begins nothing
//! more. A guest that has nothing waiting has a part of the bound that the others can't use up. A reply that is larger than
//! a guest's whole share, a bulk, has a place beside the rest: one at a time. A command that has given a bulk once is
//! expected to do so again.
//!
//! In the host this counts for a daemon in the same process, in a worker for its own daemon. Where little waits, which is
//! nearly always, a look at it costs two loads.

mod reservation;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use tokio::sync::Notify;

use reservation::{ReplyKind, Reservations};

use dae_store::lock::lock;

pub(crate) use reservation::{Reservation, ReservationBusy};

/// What may wait for all guests of a daemon, beside one bulk.
pub(crate) const ROOM_BYTES_MAX: usize = 64 << 20;
/// From here on only those begin a command who have nothing waiting.
const SHARED_BYTES_MAX: usize = ROOM_BYTES_MAX / 2;
/// From here on they only begin one that has never given more than a little.
const ALL_BYTES_MAX: usize = ROOM_BYTES_MAX / 4 * 3;
/// What may wait for one guest before it begins nothing more (Common TCP, hostile input).
pub(crate) const GUEST_BYTES_MAX: usize = 1 << 20;
/// What may wait for one guest before none of the commands that it has under way is gone on with. It is more than the other,
/// since a command that rests in its middle may hold what others need.
const FINISH_BYTES_MAX: usize = 8 << 20;
/// A larger reply is a bulk.
pub(crate) const BULK_BYTES_MIN: usize = FINISH_BYTES_MAX;
/// What is as good as nothing.
const LITTLE_BYTES: usize = 64 << 10;
/// Less than that is no reason to look closer.
const TIGHT_BYTES: usize = 1 << 20;
/// And so are fewer guests with something waiting.
const TIGHT_GUESTS: usize = 4096;
/// The bits for commands, in words of 64. A command beyond them always needs a reservation; few daemons have 512.
const UNGUARDED_WORDS: usize = 8;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct ReplyBudget {
    is_tight: AtomicBool,
    /// One bit for each command: set where it needs no reservation. Its first run in this instance is over or takes long,
    /// and it has never returned a bulk.
    unguarded: [AtomicU64; UNGUARDED_WORDS],
    waits: Mutex<BudgetUse>,
    /// Those who want to begin or go on with something.
    wanting: Mutex<HashMap<usize, Waker>>,
    released: Notify,
    /// Batches and calls that may go on whatever waits.
    freed: Mutex<HashSet<u64>>,
}

/// What waits.
#[derive(Debug, Default)]
struct BudgetUse {
    by_guest: HashMap<u64, usize>,
    /// For all guests that have no bulk, and for those that have one.
    usual: usize,
    bulk: usize,
    /// Commands that have given a bulk.
    bulky: HashSet<u32>,
    /// Commands that have given more than a little.
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
            true => ROOM_BYTES_MAX,
        };
        let has_place = self.usual < most;
        waits < GUEST_BYTES_MAX && has_place && self.has_bulk_place(command)
    }

    fn may_go_on(&self, guest: u64, command: u32) -> bool {
        let waits = self.of(guest);
        let most = match waits < LITTLE_BYTES && !self.sizable.contains(&command) {
            true => ROOM_BYTES_MAX,
            false => ALL_BYTES_MAX,
        };
        waits < FINISH_BYTES_MAX && self.usual < most && self.has_bulk_place(command)
    }

    fn has_bulk_place(&self, command: u32) -> bool {
        self.bulk == 0 || !self.bulky.contains(&command)
    }
}

impl ReplyBudget {
    /// Whether a guest may begin a command now.
    #[inline]
    pub(crate) fn may_begin(&self, guest: u64, command: u32) -> bool {
        !self.is_tight() || lock(&self.waits).may_begin(guest, command)
    }

    /// Whether a command that a guest has under way may go on, and end.
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

    /// Forgets what is known of the commands: another instance begins, perhaps of other code.
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

    /// Whether so much waits that who begins something has to ask.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Acquire)
    }

    /// Lets that batch or call go on, whatever waits: what waits is held up by it.
    pub fn free(&self, id: u64) {
        lock(&self.freed).insert(id);
        self.wake_all();
    }

    /// Whether that batch or call may go on, whatever waits. Asked once for each time that it was let.
    pub(crate) fn take_freed(&self, id: u64) -> bool {
        lock(&self.freed).remove(&id)
    }

    /// Wakes the caller's task when there is more room. To be called before the look that it is for.
    pub fn want(&self, context: &Context<'_>) {
        let waker = context.waker();
        // One of a task is enough.
        let task = waker.data().addr();
        lock(&self.wanting).insert(task, waker.clone());
    }

    /// A command has given a reply of so many bytes to arguments of so many.
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

    /// Marks that the command needs no reservation. The caller holds the lock on what waits.
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

    /// So much waits for that guest.
    pub fn set(&self, guest: u64, bytes: usize) {
        self.change(guest, |_| bytes);
    }

    /// So much more waits for that guest. Guest 0 is nobody.
    pub fn add(&self, guest: u64, bytes: usize) {
        self.change(guest, |before| before + bytes);
    }

    /// So much less does.
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
        let room = ReplyBudget::default();
        assert!(room.may_begin(1, 0));
        room.set(1, GUEST_BYTES_MAX);
        assert!(!room.may_begin(1, 0) && room.may_begin(2, 0));
        assert!(room.may_go_on(1, 0));
        room.set(1, FINISH_BYTES_MAX);
        assert!(!room.may_go_on(1, 0));
        room.take(1, FINISH_BYTES_MAX);
        assert!(room.may_begin(1, 0) && !room.is_tight());
    }

    #[test]
    fn many_with_little_leave_room_for_one_with_nothing_and_never_more_than_all() {
        let room = ReplyBudget::default();
        room.note(SIZABLE, 0, GUEST_BYTES_MAX);
        let mut guest = 0;
        let mut begun = 0;
        while room.may_begin(guest + 1, SIZABLE) {
            guest += 1;
            room.set(guest, GUEST_BYTES_MAX - 1);
            begun += GUEST_BYTES_MAX - 1;
        }
        assert!((ALL_BYTES_MAX..ROOM_BYTES_MAX).contains(&begun));
        assert!(room.may_begin(guest + 1, 0), "a little finds room");
        let room = ReplyBudget::default();
        for guest in 1..=SHARED_BYTES_MAX / LITTLE_BYTES {
            room.set(guest as u64, LITTLE_BYTES);
        }
        assert!(!room.may_begin(1, 0), "it has something already");
        assert!(room.may_begin(9999, 0), "it has nothing");
    }

    #[test]
    fn one_bulk_at_a_time_and_it_keeps_nobody_else_waiting() {
        let room = ReplyBudget::default();
        room.note(BULKY, 0, 100 << 20);
        room.note(8, 100 << 20, 100 << 20);
        room.set(1, 100 << 20);
        assert!(!room.may_begin(2, BULKY) && !room.may_go_on(2, BULKY));
        assert!(room.may_begin(2, 8), "its arguments were as large");
        room.set(1, 0);
        assert!(room.may_begin(2, BULKY));
    }

    #[test]
    fn whoever_wants_room_is_woken_when_there_is_more() {
        let (waker, count) = counting();
        let room = ReplyBudget::default();
        room.want(&Context::from_waker(&waker));
        room.add(1, 5);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        room.take(1, 2);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    /// A waker that counts.
    fn counting() -> (Waker, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        struct Counts(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for Counts {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = std::sync::Arc::default();
        let waker = std::sync::Arc::new(Counts(std::sync::Arc::clone(&count))).into();
        (waker, count)
    }
}
