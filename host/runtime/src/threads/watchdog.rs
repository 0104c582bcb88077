//! The record of which handler each thread runs. From this the watchdog finds a handler that never returns.
//!
//! A thread writes to its own slot when it enters and leaves a handler: a few plain stores, no clock. The watchdog
//! looks now and then. If it sees the same entry in the same slot twice, the handler is stuck. A watchdog with nothing
//! to watch sleeps, and the next entry wakes it.
//!
//! Slots belong to the process, as threads do. A [`Watchdog`] belongs to one runtime: it looks at the slots of that
//! runtime's threads, and only these wake it. So several ecosystems in one process stay independent. The instances'
//! numbers are unique in the process.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use dae_store::lock::lock;

/// The entry of one thread. Aligned so that no two share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct HandlerSlot {
    /// The instance's number, or 0 while no handler runs.
    instance: AtomicU64,
    /// The command's index, and [`HOLDS`].
    command: AtomicU64,
    /// A count that grows with each entry.
    entries: AtomicU64,
    /// True while the thread's watchdog waits for the next entry.
    is_awaited: AtomicBool,
    /// The number of the thread's watchdog; 0 if it has none.
    watchdog: AtomicU64,
}

/// The bit that marks a command that may block its thread, in the number of its instance: no health check looks for it.
pub(crate) const BLOCKING: u64 = 1 << 62;

/// The flag in a slot's command that means that others wait for its thread.
const HOLDS: u64 = 1 << 32;

static SLOTS: Mutex<HandlerSlots> = Mutex::new(HandlerSlots {
    all: Vec::new(),
    free: Vec::new(),
});

/// All slots. They stay when their threads end, and later threads reuse them, so their number is the largest number of
/// threads that ever ran at once.
#[derive(Debug)]
struct HandlerSlots {
    all: Vec<&'static HandlerSlot>,
    free: Vec<&'static HandlerSlot>,
}

thread_local! {
    // It has no destructor, so that an access needs no check whether it is still alive.
    static OWN: Cell<Option<&'static HandlerSlot>> = const { Cell::new(None) };
    static LEASE: Cell<Option<SlotLease>> = const { Cell::new(None) };
    static WATCHDOG: RefCell<Option<Arc<Watchdog>>> = const { RefCell::new(None) };
}

/// A slot that becomes free when its thread ends.
struct SlotLease(&'static HandlerSlot);

impl Drop for SlotLease {
    fn drop(&mut self) {
        OWN.set(None);
        let mut slots = lock(&SLOTS);
        self.0.belong_to(0);
        slots.free.push(self.0);
    }
}

impl HandlerSlot {
    /// Assigns the slot to a thread of that watchdog. The caller holds the lock of the slots.
    fn belong_to(&self, watchdog: u64) {
        self.watchdog.store(watchdog, Relaxed);
        // The watchdog may sleep already: the first entry wakes it.
        self.is_awaited.store(watchdog != 0, Relaxed);
    }

    #[cold]
    fn wake_watchdog(&self) {
        self.is_awaited.store(false, Relaxed);
        // On a thread that is being torn down the thread-local is already gone.
        let _ = WATCHDOG.try_with(|watchdog| {
            if let Some(watchdog) = &*watchdog.borrow() {
                watchdog.wake();
            }
        });
    }
}

/// The watchdog over the threads of one runtime.
#[derive(Debug)]
pub(crate) struct Watchdog {
    number: u64,
    is_asleep: AtomicBool,
    /// The thread that looks.
    thread: Mutex<Option<Thread>>,
}

impl Watchdog {
    /// Makes a watchdog without threads to watch.
    pub fn new() -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Arc::new(Watchdog {
            number: LAST.fetch_add(1, Relaxed) + 1,
            is_asleep: AtomicBool::new(false),
            thread: Mutex::default(),
        })
    }

    /// Adds the current thread to those that it watches, until the thread ends.
    pub(crate) fn watch_this_thread(self: &Arc<Self>) {
        let watched = WATCHDOG.try_with(|watchdog| watchdog.replace(Some(Arc::clone(self))));
        if let (Ok(_), Some(slot)) = (watched, OWN.get()) {
            let _slots = lock(&SLOTS);
            slot.belong_to(self.number);
        }
    }

    /// Returns the handlers that hold a thread of this runtime, so that others wait for it.
    pub fn look(&self) -> Vec<RunningHandler> {
        let holds = |slot: &HandlerSlot| slot.command.load(Relaxed) & HOLDS != 0;
        all_seen(|slot| self.has(slot) && slot.instance.load(Relaxed) != 0 && holds(slot))
    }

    /// Sleeps for `pause`. If there was no entry meanwhile and nothing runs, sleeps on until the next entry or a call
    /// of [`Watchdog::wake`]. Returns early once `is_over` returns true.
    pub fn sleep(&self, pause: Duration, is_over: impl Fn() -> bool) {
        let before = self.entries();
        *lock(&self.thread) = Some(thread::current());
        self.is_asleep.store(true, SeqCst);
        let slots = lock(&SLOTS);
        let own = slots.all.iter().filter(|slot| self.has(slot));
        own.for_each(|slot| slot.is_awaited.store(true, SeqCst));
        drop(slots);
        // A thread that entered without seeing `is_awaited` did so before now; after a pause its stores are visible
        // here. The first thread that sees it wakes this one, which still sleeps until the pause is over: one wake-up
        // per pause, however many threads enter.
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now())
            && !is_over()
        {
            thread::park_timeout(left);
        }
        let was_woken = || !self.is_asleep.load(SeqCst);
        // A thread that entered and has ended since no longer counts here, but it has woken this one.
        if self.entries() == before && self.look().is_empty() && !was_woken() && !is_over() {
            thread::park();
        }
    }

    /// Wakes the thread that sleeps in [`Watchdog::sleep`].
    pub fn wake(&self) {
        if self.is_asleep.swap(false, SeqCst)
            && let Some(thread) = &*lock(&self.thread)
        {
            thread.unpark();
        }
    }

    /// Returns the number of entries of its threads since they began.
    fn entries(&self) -> u64 {
        let slots = lock(&SLOTS);
        let own = slots.all.iter().filter(|slot| self.has(slot));
        own.map(|slot| slot.entries.load(Relaxed)).sum()
    }

    fn has(&self, slot: &HandlerSlot) -> bool {
        slot.watchdog.load(Relaxed) == self.number
    }
}

/// A handler that was seen running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningHandler {
    /// The number of its instance.
    pub instance: u64,
    /// The index of its command.
    pub command: u32,
    slot: usize,
    entry: u64,
}

/// Registers the cleanup that this thread runs at its end ([`crate::session::thread_start::prepare`]).
pub(crate) fn prepare_thread() {
    let _ = LEASE.try_with(|_| ());
    let _ = WATCHDOG.try_with(|_| ());
}

/// Runs a handler and makes it visible meanwhile. `holds` means that others wait for this thread.
#[inline(always)]
pub fn during<T>(instance: u64, command: u32, holds: bool, handler: impl FnOnce() -> T) -> T {
    let slot = OWN.get().unwrap_or_else(new_slot);
    let holds = if holds { HOLDS } else { 0 };
    // One daemon's code may call another's in place, and continues afterwards.
    let outer = (slot.instance.load(Relaxed), slot.command.load(Relaxed));
    slot.command.store(u64::from(command) | holds, Relaxed);
    slot.entries.store(slot.entries.load(Relaxed) + 1, Relaxed);
    slot.instance.store(instance, Relaxed);
    if slot.is_awaited.load(Relaxed) {
        slot.wake_watchdog();
    }
    // Also if the handler unwinds: a slot that stays taken would count as a stuck handler forever.
    let _left = HandlerExit { slot, outer };
    handler()
}

/// A guard that restores the slot to the outer handler, if any.
struct HandlerExit {
    slot: &'static HandlerSlot,
    /// The outer instance and command.
    outer: (u64, u64),
}

impl Drop for HandlerExit {
    #[inline(always)]
    fn drop(&mut self) {
        self.slot.command.store(self.outer.1, Relaxed);
        self.slot.instance.store(self.outer.0, Relaxed);
    }
}

/// Returns the handlers of an instance that run now.
pub fn seen(instance: u64) -> Vec<RunningHandler> {
    all_seen(|slot| slot.instance.load(Relaxed) == instance)
}

/// Returns the numbers of the instances that have a handler running now.
pub fn running() -> Vec<u64> {
    let all = all_seen(|slot| slot.instance.load(Relaxed) != 0);
    all.into_iter().map(|seen| seen.instance).collect()
}

fn all_seen(is_wanted: impl Fn(&HandlerSlot) -> bool) -> Vec<RunningHandler> {
    let slots = lock(&SLOTS);
    let all = slots.all.iter().copied().enumerate();
    let wanted = all.filter(|(_, slot)| is_wanted(slot));
    let seen = wanted.map(|(at, slot)| RunningHandler {
        instance: slot.instance.load(Relaxed),
        command: u32::try_from(slot.command.load(Relaxed) & !HOLDS).unwrap_or(u32::MAX),
        slot: at,
        entry: slot.entries.load(Relaxed),
    });
    seen.collect()
}

#[cold]
fn new_slot() -> &'static HandlerSlot {
    let mut slots = lock(&SLOTS);
    let slot = slots.free.pop().unwrap_or_else(|| {
        let slot = Box::leak(Box::default());
        slots.all.push(slot);
        slot
    });
    let watchdog = WATCHDOG.try_with(|watchdog| watchdog.borrow().as_ref().map(|one| one.number));
    slot.belong_to(watchdog.ok().flatten().unwrap_or(0));
    drop(slots);
    OWN.set(Some(slot));
    // On a thread that is being torn down the thread-local is gone, and the slot isn't reused.
    let _ = LEASE.try_with(|lease| lease.set(Some(SlotLease(slot))));
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_seen_while_it_runs_and_known_again() {
        const INSTANCE: u64 = u64::MAX;
        let (watchdog, other) = (Watchdog::new(), Watchdog::new());
        watchdog.watch_this_thread();
        let twice = || (seen(INSTANCE), seen(INSTANCE), watchdog.look());
        let (first, second, held) = during(INSTANCE, 7, true, twice);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].command, &first), (7, &second));
        assert_eq!(held, first);
        assert_eq!(seen(INSTANCE), []);
        let (again, _, held) = during(INSTANCE, 7, false, twice);
        assert_ne!(again, first);
        assert_eq!(held, [], "nobody waits for that thread");
        let by_other = during(INSTANCE, 7, true, || other.look());
        assert_eq!(by_other, [], "it is another one's thread");
    }

    #[test]
    fn a_handler_that_unwinds_is_seen_no_more() {
        const INSTANCE: u64 = u64::MAX - 7;
        let unwound = std::panic::catch_unwind(|| {
            during(INSTANCE, 1, true, || {
                assert_eq!(seen(INSTANCE).len(), 1);
                std::panic::resume_unwind(Box::new("as the test wants"))
            })
        });
        assert!(unwound.is_err_and(|panic| panic.is::<&str>()));
        assert_eq!(seen(INSTANCE), []);
    }

    #[test]
    fn what_called_another_is_seen_again_after_it() {
        const INSTANCE: u64 = u64::MAX - 4;
        let watchdog = Watchdog::new();
        watchdog.watch_this_thread();
        during(INSTANCE, 1, true, || {
            during(INSTANCE - 1, 2, false, || assert_eq!(seen(INSTANCE), []));
            assert_eq!(seen(INSTANCE)[0].command, 1);
            assert_eq!(watchdog.look(), seen(INSTANCE));
        });
        assert_eq!(seen(INSTANCE), []);
    }

    #[test]
    fn a_sleeper_sleeps_its_pause_out_however_many_enter() {
        const PAUSE: Duration = Duration::from_millis(200);
        let watchdog = Watchdog::new();
        watchdog.watch_this_thread();
        let sleeper = thread::spawn(move || {
            let began = Instant::now();
            watchdog.sleep(PAUSE, || false);
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
    fn a_sleeper_is_woken_by_the_next_entry_of_its_own_threads_and_by_no_other() {
        const PAUSE: Duration = Duration::from_millis(1);
        let (watchdog, other) = (Watchdog::new(), Watchdog::new());
        watchdog.watch_this_thread();
        let [sleeper, others] = [&watchdog, &other].map(|watchdog| {
            let watchdog = Arc::clone(watchdog);
            thread::spawn(move || watchdog.sleep(PAUSE, || false))
        });
        while !sleeper.is_finished() {
            during(u64::MAX - 2, 0, false, thread::yield_now);
        }
        sleeper.join().unwrap();
        assert!(!others.is_finished(), "nothing of its own was entered");
        // On a busy machine the other thread may start only now, and a call before that wakes nobody.
        while !other.is_asleep.load(SeqCst) {
            thread::yield_now();
        }
        other.wake();
        others.join().unwrap();
    }

    #[test]
    fn a_thread_that_comes_while_its_watchdog_sleeps_wakes_it() {
        let watchdog = Watchdog::new();
        let own = Arc::clone(&watchdog);
        let sleeper = thread::spawn(move || own.sleep(Duration::from_millis(1), || false));
        while !watchdog.is_asleep.load(SeqCst) {
            thread::yield_now();
        }
        let entered = thread::spawn(move || {
            watchdog.watch_this_thread();
            during(u64::MAX - 10, 0, false, || ());
        });
        entered.join().unwrap();
        let began = Instant::now();
        while !sleeper.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(10), "it is not woken");
            thread::yield_now();
        }
    }
}
