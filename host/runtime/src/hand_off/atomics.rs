//! The atomics of the shared memory, and its sizes.
//!
//! The files that hold the protocol take both from their sibling of this name and from nowhere else. So the model check
//! compiles the same files with the atomics of a model checker and with buffers of a few bytes.

pub(super) use crate::threads::counters::COMMANDS as COUNTED;
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use std::time::Duration;

/// The most guests that can be handed off to one worker at a time. The host serves all others itself, and all guests
/// that are not busy.
pub(crate) const SLOTS: usize = 1024;
/// The most bytes that are read from a guest in one turn.
pub(crate) const TAKEN_BYTES: usize = 16 << 10;
/// The most bytes of replies that may wait to be written to a guest. Pages that were never written to take no memory.
pub(crate) const MADE_BYTES: usize = 256 << 10;

/// Waits a moment before the next look at a word of the other side. Nothing depends on the length of the pause.
pub(super) fn back_off() {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is rare, and takes microseconds, since the host is already reading"
    )]
    std::thread::sleep(Duration::from_micros(50));
}
