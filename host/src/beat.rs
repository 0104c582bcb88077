//! What each thread is running of whose: how a handler that never returns is found.
//!
//! A thread writes to a slot of its own, which nobody else writes to, when it enters a handler and when it leaves it; a
//! few plain stores, no clock. Who looks, now and then, sees the same entry twice in the same place and knows that it is
//! stuck. Who has nothing to look at sleeps, and is woken by the next entry.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// One thread's entry. Two of them share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    /// 0, or the instance's number.
    instance: AtomicU64,
    /// The command's index, and [`HOLDS`].
    command: AtomicU64,
    /// Grows with each entry.
    entries: AtomicU64,
}

/// In a slot's command: others wait for its thread meanwhile.
const HOLDS: u64 = 1 << 32;

static SLOTS: Mutex<Slots> = Mutex::new(Slots {
    all: Vec::new(),
    free: Vec::new(),
});

/// They stay when their threads end, and the next threads take them: there are as many as there ever were threads at once.
#[derive(Debug)]
struct Slots {
    all: Vec<&'static Slot>,
    free: Vec<&'static Slot>,
}

/// Whether somebody sleeps until the next entry.
static HAS_SLEEPERS: AtomicBool = AtomicBool::new(false);
static SLEEPERS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

thread_local! {
    // Has nothing to drop, so that each entry finds it without a look at whether it still is.
    static OWN: Cell<Option<&'static Slot>> = const { Cell::new(None) };
    static LEASE: Cell<Option<Leased>> = const { Cell::new(None) };
}

/// A slot that goes back when its thread ends.
struct Leased(&'static Slot);

impl Drop for Leased {
    fn drop(&mut self) {
        OWN.set(None);
        lock(&SLOTS).free.push(self.0);
    }
}

/// A handler that was seen running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Number of its instance.
    pub(crate) instance: u64,
    /// Index of its command.
    pub(crate) command: u32,
    slot: usize,
    entry: u64,
}

/// Registers what this thread undoes at its end ([`crate::threads::prepare`]).
pub(crate) fn prepare_thread() {
    let _ = LEASE.try_with(|_| ());
}

/// Runs a handler, and lets it be seen meanwhile; `holds` where others wait for this thread.
#[inline(always)]
pub(crate) fn during<T>(
    instance: u64,
    command: u32,
    holds: bool,
    handler: impl FnOnce() -> T,
) -> T {
    let slot = OWN.get().unwrap_or_else(new_slot);
    let holds = if holds { HOLDS } else { 0 };
    // One daemon's code calls another's right where it runs, and goes on after that.
    let outer = (slot.instance.load(Relaxed), slot.command.load(Relaxed));
    slot.command.store(u64::from(command) | holds, Relaxed);
    slot.entries.store(slot.entries.load(Relaxed) + 1, Relaxed);
    slot.instance.store(instance, Relaxed);
    if HAS_SLEEPERS.load(Relaxed) {
        wake_sleepers();
    }
    let result = handler();
    slot.command.store(outer.1, Relaxed);
    slot.instance.store(outer.0, Relaxed);
    result
}

/// The handlers of an instance that run now.
pub(crate) fn seen(instance: u64) -> Vec<Seen> {
    all_seen(|slot| slot.instance.load(Relaxed) == instance)
}

/// The numbers of the instances that have a handler running now.
pub(crate) fn running() -> Vec<u64> {
    let all = all_seen(|slot| slot.instance.load(Relaxed) != 0);
    all.into_iter().map(|seen| seen.instance).collect()
}

/// The handlers of all instances that hold a thread which others wait for.
pub(crate) fn look() -> Vec<Seen> {
    let holds = |slot: &Slot| slot.command.load(Relaxed) & HOLDS != 0;
    all_seen(|slot| slot.instance.load(Relaxed) != 0 && holds(slot))
}

fn all_seen(is_wanted: impl Fn(&Slot) -> bool) -> Vec<Seen> {
    let slots = lock(&SLOTS);
    let all = slots.all.iter().copied().enumerate();
    let wanted = all.filter(|(_, slot)| is_wanted(slot));
    let seen = wanted.map(|(at, slot)| Seen {
        instance: slot.instance.load(Relaxed),
        command: u32::try_from(slot.command.load(Relaxed) & !HOLDS).unwrap_or(u32::MAX),
        slot: at,
        entry: slot.entries.load(Relaxed),
    });
    seen.collect()
}

/// Sleeps for `pause`, and, where nothing was entered meanwhile and nothing runs, on until something is, or
/// [`wake_sleepers`] is called; `is_over` says whether that has been already.
pub(crate) fn sleep(pause: Duration, is_over: impl Fn() -> bool) {
    let before = entries();
    lock(&SLEEPERS).push(thread::current());
    HAS_SLEEPERS.store(true, SeqCst);
    // Who entered without seeing that there is a sleeper did so before now; after a pause his stores are seen here. The
    // first who sees it wakes this thread, which sleeps its pause out all the same: one wake-up a pause, however many enter.
    let end = Instant::now() + pause;
    while let Some(left) = end.checked_duration_since(Instant::now())
        && !is_over()
    {
        thread::park_timeout(left);
    }
    if entries() == before && look().is_empty() && !is_over() {
        thread::park();
    }
}

/// Wakes who sleeps.
#[cold]
pub(crate) fn wake_sleepers() {
    let mut sleepers = lock(&SLEEPERS);
    HAS_SLEEPERS.store(false, SeqCst);
    sleepers.drain(..).for_each(|sleeper| sleeper.unpark());
}

/// Entries since the process began.
fn entries() -> u64 {
    let slots = lock(&SLOTS);
    slots
        .all
        .iter()
        .map(|slot| slot.entries.load(Relaxed))
        .sum()
}

#[cold]
fn new_slot() -> &'static Slot {
    let mut slots = lock(&SLOTS);
    let slot = slots.free.pop().unwrap_or_else(|| {
        let slot = Box::leak(Box::default());
        slots.all.push(slot);
        slot
    });
    drop(slots);
    OWN.set(Some(slot));
    // On a thread that is being torn down there is no place for it, and it isn't used again.
    let _ = LEASE.try_with(|lease| lease.set(Some(Leased(slot))));
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_seen_while_it_runs_and_known_again() {
        const INSTANCE: u64 = u64::MAX;
        let twice = || (seen(INSTANCE), seen(INSTANCE), look());
        let (first, second, held) = during(INSTANCE, 7, true, twice);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].command, &first), (7, &second));
        assert!(held.contains(&first[0]));
        assert_eq!(seen(INSTANCE), []);
        let (again, _, held) = during(INSTANCE, 7, false, twice);
        assert_ne!(again, first);
        assert!(!held.contains(&again[0]), "nobody waits for that thread");
    }

    #[test]
    fn what_called_another_is_seen_again_after_it() {
        const INSTANCE: u64 = u64::MAX - 4;
        during(INSTANCE, 1, true, || {
            during(INSTANCE - 1, 2, false, || assert_eq!(seen(INSTANCE), []));
            assert_eq!(seen(INSTANCE)[0].command, 1);
            assert!(look().iter().any(|seen| seen.instance == INSTANCE));
        });
        assert_eq!(seen(INSTANCE), []);
    }

    #[test]
    fn a_sleeper_sleeps_its_pause_out_however_many_enter() {
        const PAUSE: Duration = Duration::from_millis(200);
        let sleeper = thread::spawn(|| {
            let began = Instant::now();
            sleep(PAUSE, || false);
            began.elapsed()
        });
        while !sleeper.is_finished() {
            during(u64::MAX - 6, 0, false, thread::yield_now);
        }
        assert!(sleeper.join().unwrap() >= PAUSE);
    }

    #[test]
    fn threads_that_come_and_go_take_each_others_slots() {
        const THREADS: usize = 200;
        let before = lock(&SLOTS).all.len();
        for _ in 0..THREADS {
            let own = thread::spawn(|| during(u64::MAX - 8, 0, false, || ()));
            own.join().unwrap();
        }
        // Other tests have threads of their own.
        assert!(lock(&SLOTS).all.len() < before + THREADS / 2);
    }

    #[test]
    fn a_sleeper_is_woken_by_the_next_entry() {
        let sleeper = thread::spawn(|| sleep(Duration::from_millis(1), || false));
        while !sleeper.is_finished() {
            during(u64::MAX - 2, 0, false, thread::yield_now);
        }
        sleeper.join().unwrap();
    }
}
