//! The word of the line: the turn, and the start and end of the line that the worker has begun last.
//!
//! Each change within a turn is one compare-and-swap, by the worker to begin the next line or by the host to close the
//! turn. So a single word decides whether a line has begun, and the host never has to combine two readings.
//!
//! # Memory ordering
//!
//! The host closes a turn by the word that it has read, so its change succeeds only if no line has begun since. The
//! worker releases the replies to earlier lines with the word; the host acquires them by closing. A new turn needs no
//! compare-and-swap: only the worker starts one, and the host's change to the word of an earlier turn fails or is
//! overwritten, and affects nothing in either case.

use super::atomics::{AtomicU64, Ordering};

/// The bit that closes the turn: the worker begins no further line in it.
pub(super) const CLOSED: u64 = 1 << 30;
/// The layout: bits 0 to 14 are the line's end, bits 15 to 29 its start, and bits from 31 on the turn.
const START_SHIFT: u32 = 15;
pub(super) const TURN_SHIFT: u32 = 31;
const POSITION_MASK: u64 = (1 << START_SHIFT) - 1;

/// The word in the shared memory.
#[repr(transparent)]
pub(super) struct Line(pub(super) AtomicU64);

impl Line {
    /// Starts a turn, without a line. Returns the word.
    pub(super) fn start_turn(&self, turn: u64) -> u64 {
        let word = line_word(turn, (0, 0));
        self.0.store(word, Ordering::Release);
        word
    }

    /// Begins the next line of the turn. Returns false if the host has closed the turn.
    #[inline]
    pub(super) fn begin(&self, last: u64, next: u64) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.0.compare_exchange(last, next, set, failed).is_ok()
    }

    /// Closes the turn, if the word is still `at`.
    pub(super) fn close(&self, at: u64) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.0
            .compare_exchange(at, at | CLOSED, set, failed)
            .is_ok()
    }

    /// Returns the word.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Returns the word of a line.
pub(super) fn line_word(turn: u64, (start, end): (usize, usize)) -> u64 {
    // Both are at most `TAKEN_BYTES`, which fits in 15 bits.
    let place = |at: usize| at as u64 & POSITION_MASK;
    turn << TURN_SHIFT | place(start) << START_SHIFT | place(end)
}

/// Returns the start and the end of a word's line.
pub(super) fn positions(word: u64) -> (usize, usize) {
    let place = |bits: u64| (bits & POSITION_MASK) as usize;
    (place(word >> START_SHIFT), place(word))
}
