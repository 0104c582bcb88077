//! What each thread is running of whose: how a handler that never returns is found.
//!
//! A thread writes to a slot of its own, which nobody else writes to, when it enters a handler and when it leaves it; two
//! plain stores, no clock. Who looks, now and then, sees the same entry twice in the same place and knows that it is stuck.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// One thread's entry.
#[derive(Debug, Default)]
struct Slot {
    /// 0, or the instance's number.
    instance: AtomicU64,
    command: AtomicU64,
    /// Grows with each entry.
    entries: AtomicU64,
}

static SLOTS: Mutex<Vec<Arc<Slot>>> = Mutex::new(Vec::new());

thread_local!(static OWN: OnceCell<Arc<Slot>> = const { OnceCell::new() });

/// A handler that was seen running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Index of its command.
    pub(crate) command: u32,
    slot: usize,
    entry: u64,
}

/// Runs a handler, and lets it be seen meanwhile.
#[inline]
pub(crate) fn during<T>(instance: u64, command: u32, handler: impl FnOnce() -> T) -> T {
    OWN.with(|own| {
        let slot = own.get_or_init(new_slot);
        slot.command.store(command.into(), Relaxed);
        slot.entries.store(slot.entries.load(Relaxed) + 1, Relaxed);
        slot.instance.store(instance, Relaxed);
        let result = handler();
        slot.instance.store(0, Relaxed);
        result
    })
}

/// The handlers of an instance that run now.
pub(crate) fn seen(instance: u64) -> Vec<Seen> {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let own = slots
        .iter()
        .enumerate()
        .filter(|(_, slot)| slot.instance.load(Relaxed) == instance);
    let seen = own.map(|(at, slot)| Seen {
        command: u32::try_from(slot.command.load(Relaxed)).unwrap_or(u32::MAX),
        slot: at,
        entry: slot.entries.load(Relaxed),
    });
    seen.collect()
}

/// A thread's slot stays when the thread ends; a new thread takes one that nobody else has.
fn new_slot() -> Arc<Slot> {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(free) = slots.iter().find(|slot| Arc::strong_count(slot) == 1) {
        return Arc::clone(free);
    }
    let slot = Arc::new(Slot::default());
    slots.push(Arc::clone(&slot));
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_seen_while_it_runs_and_known_again() {
        const INSTANCE: u64 = u64::MAX;
        let (first, second) = during(INSTANCE, 7, || (seen(INSTANCE), seen(INSTANCE)));
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].command, &first), (7, &second));
        assert_eq!(seen(INSTANCE), []);
        let again = during(INSTANCE, 7, || seen(INSTANCE));
        assert_ne!(again, first);
    }
}
