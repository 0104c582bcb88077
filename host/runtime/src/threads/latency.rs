//! Which of a daemon's commands may run on a guest's thread as they are, and which need one that others can spare.
//!
//! A handler must not block, and some do. Until a command has shown a few times that it is quick, and for good once it was
//! slow, its thread's other work is handed to another thread before it is called; the order in which a guest's commands
//! run stays the same. So a handler that never returns takes a thread and nothing else with it.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

/// A handler that takes this long is slow: a guest notices, and so do those who share its thread.
pub(crate) const SLOW: Duration = Duration::from_millis(100);
/// One that is quicker than this has shown that it is quick.
const QUICK: Duration = Duration::from_millis(10);
/// As often as it has to show it.
const SHOWS: u16 = 3;
/// As often and [`SHOWS`] times more one has to that was seen holding a thread: more often than it can before it is looked
/// at again, and seldom enough that one which was only unlucky has soon done so.
const DOUBTED: u16 = 10_000;
/// Stands for a command that was slow.
const WAS_SLOW: u16 = u16::MAX;

/// One number a command: how often it has shown that it is quick, up to `SHOWS`, or, above that, how often it has to
/// before it is down at `SHOWS` again.
#[derive(Debug)]
pub(crate) struct LatencyClasses(Box<[AtomicU16]>);

/// That of each instance in this process, by its number.
static ALL: Mutex<Vec<(u64, Weak<LatencyClasses>)>> = Mutex::new(Vec::new());
/// Fewer of them are not worth a look at who has gone.
const SWEEP_MIN: usize = 64;

/// That command of that instance is seen holding a thread.
pub fn doubt(instance: u64, command: u32) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let found = all.iter().find(|(number, _)| *number == instance);
    let Some(latency) = found.and_then(|(_, latency)| latency.upgrade()) else {
        return;
    };
    if let Some(shown) = latency.0.get(command as usize) {
        // Whoever was slow stays slow.
        let doubted = |shown| (shown != WAS_SLOW).then_some(DOUBTED);
        let _ = shown.fetch_update(Relaxed, Relaxed, doubted);
    }
}

impl LatencyClasses {
    /// Of the instance of that number, with so many commands.
    pub fn of(instance: u64, commands: usize) -> Arc<Self> {
        let latency = Arc::new(LatencyClasses(
            (0..commands).map(|_| AtomicU16::new(0)).collect(),
        ));
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        // Each time that there is no room for one more: a look at ten thousand for each of as many would be long.
        if all.len() == all.capacity() {
            all.retain(|(_, latency)| latency.strong_count() > 0);
            let room = all.len().max(SWEEP_MIN);
            all.reserve(room);
        }
        all.push((instance, Arc::downgrade(&latency)));
        latency
    }

    /// Runs a handler, which is told whether others wait for its thread; true besides where it has turned out to be slow
    /// for the first time.
    pub fn run<T>(&self, command: u32, handler: impl FnOnce(bool) -> T) -> (T, bool) {
        match self.0.get(command as usize) {
            Some(shown) if shown.load(Relaxed) != SHOWS => Self::watch(shown, handler),
            _ => (handler(true), false),
        }
    }

    /// Whether a command has shown that it is quick, so that [`LatencyClasses::run`] would do nothing but run it.
    #[inline(always)]
    pub(crate) fn trusts(&self, command: u32) -> bool {
        let shown = self.0.get(command as usize);
        shown.is_none_or(|shown| shown.load(Relaxed) == SHOWS)
    }

    #[cold]
    fn watch<T>(shown: &AtomicU16, handler: impl FnOnce(bool) -> T) -> (T, bool) {
        let began = Instant::now();
        let result = aside(|| handler(false));
        let took = began.elapsed();
        let before = shown.load(Relaxed);
        if took >= SLOW {
            shown.store(WAS_SLOW, Relaxed);
        } else if took < QUICK && before != WAS_SLOW {
            // Up to `SHOWS`, or down to it.
            let step = if before < SHOWS { 1 } else { -1 };
            shown.store(before.saturating_add_signed(step), Relaxed);
        }
        (result, took >= SLOW && before != WAS_SLOW)
    }

    /// Something took long, and nobody knows what: every command has to show again that it is quick.
    pub fn doubt(&self) {
        for shown in &self.0 {
            // Whoever was slow stays slow.
            let _ = shown.compare_exchange(SHOWS, 0, Relaxed, Relaxed);
        }
    }
}

/// Hands this thread's other work to another thread first, where the runtime can do that.
fn aside<T>(handler: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(handler),
        _ => handler(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_ones_are_trusted_until_doubted_and_slow_ones_never() {
        const INSTANCE: u64 = u64::MAX;
        let latency = LatencyClasses::of(INSTANCE, 2);
        for _ in 0..SHOWS {
            assert_eq!(latency.run(0, |holds| holds), (false, false));
        }
        assert_eq!(latency.run(0, |holds| holds), (true, false));
        assert_eq!(latency.0[0].load(Relaxed), SHOWS);
        let slow = |_| std::thread::sleep(SLOW);
        assert!(latency.run(1, slow).1, "told the first time");
        assert!(!latency.run(1, slow).1, "and no second time");
        latency.doubt();
        assert_eq!(latency.0[0].load(Relaxed), 0);
        doubt(INSTANCE, 0);
        doubt(INSTANCE, 1);
        for _ in SHOWS..DOUBTED {
            assert_eq!(latency.run(0, |holds| holds), (false, false));
        }
        assert_eq!(
            latency.run(0, |holds| holds),
            (true, false),
            "trusted again"
        );
        assert_eq!(latency.0[1].load(Relaxed), WAS_SLOW);
    }
}
