//! The contents of the shared memory: atomics, and nothing else. All zero is a state without hand-offs.
//!
//! Neither side ever makes a reference to plain data in it. A worker that is faulty or was taken over may write
//! anything at any time, so the host reads each word once, into memory of its own, and checks what it has read there.

use std::ops::Range;

use super::atomics::{AtomicU32, AtomicU64, MADE_BYTES, Ordering, SLOTS, TAKEN_BYTES};
use super::line::Line;
use super::progress::Progress;
use super::slot::Slot;
use crate::threads::counters::Shard;

/// The size of a word (bytes).
const WORD_BYTES: usize = size_of::<u64>();

/// The contents of the shared memory.
#[repr(C)]
pub(super) struct SharedMemory {
    pub(super) cursor: Cursor,
    pub(super) progress: Progress,
    pub(super) answered: Shard,
    pub(super) slots: [Slot; SLOTS],
    /// The number of times that the worker has picked up each slot's guest.
    pub(super) turns: [AtomicU32; SLOTS],
    pub(super) taken: Taken,
    pub(super) made: Made,
}

/// The buffer of what was read from the guest in this turn.
pub(crate) type Taken = Buffer<{ TAKEN_BYTES / WORD_BYTES }>;
/// The buffer of the replies that were made in this turn.
pub(crate) type Made = Buffer<{ MADE_BYTES / WORD_BYTES }>;

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

/// A buffer in shared memory, of whole words. The worker's one thread fills it, or the kernel on its behalf. The host
/// copies what that thread has reported as present.
///
/// The words are `Relaxed`: the report that covers them is released after them, and acquired before they are copied.
#[repr(transparent)]
pub(crate) struct Buffer<const WORDS: usize>(pub(super) [AtomicU64; WORDS]);

impl<const WORDS: usize> Buffer<WORDS> {
    /// The size of the buffer.
    pub(super) const BYTES: usize = WORDS * WORD_BYTES;

    /// Returns the address of the first byte, for the kernel to read from and write to.
    pub(super) fn start(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }

    /// Writes bytes from the offset `at` on. Returns false if they do not fit.
    ///
    /// Only one thread writes, and in ascending order. The bytes before `at` in the first word stay as they are, so that
    /// the host may copy them meanwhile.
    #[inline]
    pub(super) fn write(&self, at: usize, bytes: &[u8]) -> bool {
        if bytes.len() > Self::BYTES.saturating_sub(at) {
            return false;
        }
        let (mut index, before) = (at / WORD_BYTES, at % WORD_BYTES);
        let shift = 8 * before as u32;
        let above = |value: u64| value.checked_shr(u64::BITS - shift).unwrap_or(0);
        let mut low = match before {
            0 => 0,
            _ => u64::from_le(self.0[index].load(Ordering::Relaxed)) & ((1 << shift) - 1),
        };
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        for word in words {
            let value = u64::from_le_bytes(*word);
            self.0[index].store((low | value << shift).to_le(), Ordering::Relaxed);
            (index, low) = (index + 1, above(value));
        }
        let mut last = [0; WORD_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        let value = u64::from_le_bytes(last);
        if before + rest.len() > 0 {
            self.0[index].store((low | value << shift).to_le(), Ordering::Relaxed);
        }
        if before + rest.len() > WORD_BYTES {
            self.0[index + 1].store(above(value).to_le(), Ordering::Relaxed);
        }
        true
    }

    /// Appends a part of the buffer to private memory. The part is cut off at the buffer's end.
    pub(super) fn copy_into(&self, part: Range<usize>, out: &mut Vec<u8>) {
        let (from, to) = (part.start.min(Self::BYTES), part.end.min(Self::BYTES));
        let Some(length) = to.checked_sub(from).filter(|length| *length > 0) else {
            return;
        };
        let (first, skipped) = (from / WORD_BYTES, from % WORD_BYTES);
        let words = &self.0[first..to.div_ceil(WORD_BYTES)];
        let start = out.len();
        out.resize(start + words.len() * WORD_BYTES, 0);
        let (places, _) = out[start..].as_chunks_mut::<WORD_BYTES>();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if skipped > 0 {
            out.copy_within(start + skipped..start + skipped + length, start);
        }
        out.truncate(start + length);
    }

    /// Returns a copy of a part of the buffer, cut off at the buffer's end.
    pub(super) fn copy(&self, part: Range<usize>) -> Vec<u8> {
        let mut copy = Vec::new();
        self.copy_into(part, &mut copy);
        copy
    }
}
