//! The contents of the shared memory: words that are atomics, and two buffers. All zero is a state without hand-offs.
//!
//! Neither side ever makes a reference to plain data in it. A worker that is faulty or was taken over may write
//! anything at any time, so the host reads each word and byte once, atomically, into memory of its own, and checks what
//! it has read there.

use super::atomics::{AtomicU32, AtomicU64, COUNTED, MADE_BYTES, SLOTS, TAKEN_BYTES};
use super::buffer::Buffer;
use super::line::Line;
use super::progress::Progress;
use super::slot::Slot;
use crate::threads::counters::SharedCounts;

/// The contents of the shared memory.
#[repr(C)]
pub(super) struct SharedMemory {
    pub(super) cursor: Cursor,
    pub(super) progress: Progress,
    pub(super) answered: SharedCounts<COUNTED>,
    pub(super) slots: [Slot; SLOTS],
    /// The number of times that the worker has picked up each slot's guest.
    pub(super) turns: [AtomicU32; SLOTS],
    pub(super) taken: Taken,
    pub(super) made: Made,
}

/// The buffer of what was read from the guest in this turn.
pub(crate) type Taken = Buffer<TAKEN_BYTES>;
/// The buffer of the replies that were made in this turn.
pub(crate) type Made = Buffer<MADE_BYTES>;

/// The worker's current work. Only the worker changes it, apart from the word of the line.
#[repr(C)]
pub(super) struct Cursor {
    /// The id of the current hand-off, which is never reused; 0 is none.
    pub(super) hand_off: AtomicU64,
    /// The number of the turn, which distinguishes it from earlier ones.
    pub(super) turn: AtomicU64,
    /// The bytes that this hand-off had read and written before the turn.
    pub(super) read_before: AtomicU64,
    pub(super) written_before: AtomicU64,
    /// The number of bytes read in this turn, plus one; 0 is not yet known.
    pub(super) taken: AtomicU64,
    /// The line that was begun last.
    pub(super) line: Line,
    /// The end of the answered lines in the buffer `taken`, and of their replies in the buffer `made`.
    pub(super) done: AtomicU64,
}
