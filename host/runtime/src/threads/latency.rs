//! Latency classes: which of a daemon's commands may run on a guest's thread as it is, and which need a spare thread.
//!
//! A handler must not block, and some do. Before a command has proven quick several times, and forever once it was
//! slow, its thread's other work is moved to another thread before the command is called. The order of a guest's
//! commands stays the same. So a handler that never returns blocks one thread and nothing else.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

use dae_store::lock::lock;

/// The time from which a handler counts as slow: a guest notices it, and so do others that share its thread.
pub(crate) const SLOW: Duration = Duration::from_millis(100);
/// The time below which a run counts as quick.
const QUICK: Duration = Duration::from_millis(10);
/// The number of quick runs that a command needs to be trusted.
const SHOWS: u16 = 3;
/// The count for a command that was seen holding a thread: it needs this many quick runs, less [`SHOWS`], to be trusted
/// again. That is more than it can have before the watchdog's next look, and few enough for a command that was only
/// unlucky.
const DOUBTED: u16 = 10_000;
/// The value of a command that was slow.
const WAS_SLOW: u16 = u16::MAX;

/// The state of each command: its number of quick runs up to `SHOWS`, or, above that, a count that each quick run
/// brings down towards `SHOWS`.
#[derive(Debug)]
pub(crate) struct LatencyClasses(Box<[AtomicU16]>);

/// The latency classes of each instance in this process, by its number.
static ALL: Mutex<Vec<(u64, Weak<LatencyClasses>)>> = Mutex::new(Vec::new());
/// The number of instances below which there is no sweep for those that have gone.
const SWEEP_MIN: usize = 64;

/// Distrusts a command that was seen holding a thread.
pub fn doubt(instance: u64, command: u32) {
    let all = lock(&ALL);
    let found = all.iter().find(|(number, _)| *number == instance);
    let Some(latency) = found.and_then(|(_, latency)| latency.upgrade()) else {
        return;
    };
    if let Some(shown) = latency.0.get(command as usize) {
        // A command that was ever slow stays slow.
        let doubted = |shown| (shown != WAS_SLOW).then_some(DOUBTED);
        let _ = shown.fetch_update(Relaxed, Relaxed, doubted);
    }
}

impl LatencyClasses {
    /// Makes the classes for a new instance with so many commands.
    pub fn of(instance: u64, commands: usize) -> Arc<Self> {
        let latency = Arc::new(LatencyClasses(
            (0..commands).map(|_| AtomicU16::new(0)).collect(),
        ));
        let mut all = lock(&ALL);
        // Sweeps only when the list is full: a sweep of ten thousand entries for each new instance would take too long.
        if all.len() == all.capacity() {
            all.retain(|(_, latency)| latency.strong_count() > 0);
            let room = all.len().max(SWEEP_MIN);
            all.reserve(room);
        }
        all.push((instance, Arc::downgrade(&latency)));
        latency
    }

    /// Runs a handler and passes it whether others wait for its thread. The second result is true if the command was
    /// slow for the first time.
    pub fn run<T>(&self, command: u32, handler: impl FnOnce(bool) -> T) -> (T, bool) {
        match self.0.get(command as usize) {
            Some(shown) if shown.load(Relaxed) != SHOWS => Self::watch(shown, handler),
            _ => (handler(true), false),
        }
    }

    /// Returns whether a command is trusted, so that [`LatencyClasses::run`] would only call it.
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
            // Up or down towards `SHOWS`.
            let step = if before < SHOWS { 1 } else { -1 };
            shown.store(before.saturating_add_signed(step), Relaxed);
        }
        (result, took >= SLOW && before != WAS_SLOW)
    }

    /// Distrusts every command, since an unknown one took long.
    pub fn doubt(&self) {
        for shown in &self.0 {
            // A command that was ever slow stays slow.
            let _ = shown.compare_exchange(SHOWS, 0, Relaxed, Relaxed);
        }
    }
}

/// Moves this thread's other work to another thread first, if the runtime can do that.
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
        #[expect(clippy::disallowed_methods, reason = "the pause is what is tested")]
        let slow = |_| std::thread::sleep(SLOW);
        assert!(latency.run(1, slow).1, "reported the first time");
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
