//! loom's atomics in place of the standard library's, and small buffers. A thread can be made to die before a
//! certain step, and orderings can be made weaker, to see that a model notices.

pub(super) use std::sync::atomic::Ordering;

use std::cell::Cell;
use std::panic::resume_unwind;

/// The commands that are counted one by one.
pub(super) const COUNTED: usize = 1;
pub(crate) const SLOTS: usize = 1;
pub(crate) const TAKEN_BYTES: usize = 8;
pub(crate) const MADE_BYTES: usize = 8;

pub(super) fn back_off() {
    loom::thread::yield_now();
}

/// The part of all orderings that is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weaker {
    Release,
    Acquire,
}

thread_local! {
    // loom runs all threads of a model on the thread of its test.
    static WEAKER: Cell<Option<Weaker>> = const { Cell::new(None) };
}

loom::thread_local! {
    /// The steps that this thread has left.
    static STEPS: Cell<usize> = Cell::new(usize::MAX);
}

/// Leaves a part of all orderings out, for the rest of this test.
pub(super) fn weaken(weaker: Weaker) {
    WEAKER.set(Some(weaker));
}

/// The payload with which a thread dies.
pub(super) struct Died;

/// Lets this thread take that many steps, and then die.
pub(super) fn die_after(steps: usize) {
    STEPS.with(|left| left.set(steps));
}

/// Takes a step.
fn step() {
    STEPS.with(|left| match left.get() {
        0 => resume_unwind(Box::new(Died)),
        usize::MAX => {}
        steps => left.set(steps - 1),
    });
}

fn load_order(order: Ordering) -> Ordering {
    match WEAKER.get() {
        Some(Weaker::Acquire) => Ordering::Relaxed,
        _ => order,
    }
}

fn store_order(order: Ordering) -> Ordering {
    match WEAKER.get() {
        Some(Weaker::Release) => Ordering::Relaxed,
        _ => order,
    }
}

fn change_order(order: Ordering) -> Ordering {
    match (WEAKER.get(), order) {
        (Some(Weaker::Release), Ordering::AcqRel) => Ordering::Acquire,
        (Some(Weaker::Acquire), Ordering::AcqRel) => Ordering::Release,
        _ => order,
    }
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug)]
        pub(super) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code)]
        impl $name {
            pub(super) fn new(number: $number) -> Self {
                $name(loom::sync::atomic::$name::new(number))
            }

            pub(super) fn load(&self, order: Ordering) -> $number {
                step();
                self.0.load(load_order(order))
            }

            pub(super) fn store(&self, number: $number, order: Ordering) {
                step();
                self.0.store(number, store_order(order));
            }

            pub(super) fn fetch_and(&self, bits: $number, order: Ordering) -> $number {
                step();
                self.0.fetch_and(bits, change_order(order))
            }

            pub(super) fn compare_exchange(
                &self,
                from: $number,
                to: $number,
                set: Ordering,
                failed: Ordering,
            ) -> Result<$number, $number> {
                step();
                self.0
                    .compare_exchange(from, to, change_order(set), load_order(failed))
            }

            pub(super) fn fetch_update(
                &self,
                set: Ordering,
                failed: Ordering,
                change: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                step();
                self.0
                    .fetch_update(change_order(set), load_order(failed), change)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
