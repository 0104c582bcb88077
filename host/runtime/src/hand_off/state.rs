//! The hand-offs of one worker in the shared memory, from the host's side: it hands guests off, recalls and seizes
//! them, and reads the worker's unfinished work.
//!
//! # Memory ordering
//!
//! The words of the cursor have one writer, the worker's thread, which stores each step with `Release` before it takes
//! the next one. The host loads with `Acquire`, so it sees all that came before the step that it sees. What each side
//! may conclude is decided by the slot and by the word of the line alone; see there.

use std::io;
use std::sync::Arc;

use super::atomics::{AtomicU64, Ordering};
use super::line::{CLOSED, TURN_SHIFT, positions};
use super::mapping::Mapping;
use super::slot::{Custody, HandOffSlot, Slot};
use super::socket::ByteCounts;
use crate::os::descriptors::OwnedDescriptor;

/// A worker's position: the turn, and the word of the line. It changes with each line.
pub type Position = (u64, u64);

/// The unfinished work of a worker that is dead or has lost the guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LostWork {
    /// Replies, or the rest of one, that were not yet written.
    pub replies: Vec<u8>,
    /// The line that was running, if there was one.
    pub line: Option<Vec<u8>>,
    /// The bytes after that line.
    pub rest: Vec<u8>,
}

/// All hand-offs to one worker, in memory that host and worker share.
#[derive(Debug)]
pub(crate) struct HandOffState {
    pub(super) memory: Mapping,
}

impl HandOffState {
    /// Creates the host's side, and the file by which the worker opens its own.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such shared memory.
    pub fn create() -> io::Result<(Arc<Self>, OwnedDescriptor)> {
        let (memory, file) = Mapping::create()?;
        Ok((Arc::new(HandOffState { memory }), file))
    }

    /// Opens the worker's side by the file that its host has sent.
    ///
    /// # Errors
    /// The system's error, or that the file has the wrong size.
    pub fn open(file: &OwnedDescriptor) -> io::Result<Arc<Self>> {
        let memory = Mapping::open(file)?;
        Ok(Arc::new(HandOffState { memory }))
    }

    /// Allows the worker to pick the guest up.
    pub(crate) fn hand_off(&self, place: HandOffSlot) {
        self.slot(place).hand_off(place);
    }

    /// Recalls a guest: takes it, or asks the worker for it.
    pub(crate) fn recall(&self, place: HandOffSlot) -> Custody {
        self.slot(place).recall(place)
    }

    /// Seizes a guest that the host has asked for. `line` names the line that has run for too long; without it, any
    /// line is meant. Returns false if the worker has reached another line, or is releasing the guest or handing it
    /// back. After a seizure, call [`HandOffState::lost_work`], and then [`HandOffState::clear`].
    ///
    /// The turn is closed before the slot is seized. Once it is closed the worker cannot begin a line, so it is certain
    /// which line had begun and which lines had not. If the seizure then fails, the worker is releasing the guest, or
    /// finds the turn closed and hands the guest back.
    pub(crate) fn seize(&self, place: HandOffSlot, line: Option<Position>) -> bool {
        self.close(place, line) && self.slot(place).seize(place)
    }

    /// Closes the worker's current turn, so that it begins no further line in it. Returns false if that is not the turn
    /// meant.
    ///
    /// The word of the line is read before the hand-off. The worker stores them the other way round: the word of a new
    /// turn, then the hand-off. So if the hand-off is one of a later turn than the word, the word is known to have
    /// changed, and the change fails. If the hand-off were one of an earlier turn, the word of this one would make the
    /// 0 known that the worker has stored in between.
    pub(super) fn close(&self, place: HandOffSlot, line: Option<Position>) -> bool {
        let cursor = &self.memory.cursor;
        loop {
            let at = cursor.line.get();
            let is_meant = line.is_none_or(|(_, line)| line == at & !CLOSED);
            if !is_meant || cursor.hand_off.load(Ordering::Acquire) != place.id {
                return false;
            }
            if cursor.line.close(at) {
                return true;
            }
        }
    }

    /// Frees the slot.
    pub fn clear(&self, place: HandOffSlot) {
        self.slot(place).clear(place);
    }

    /// Returns whether the state of a slot is one that the rules can produce.
    pub(crate) fn is_sound(&self, place: HandOffSlot) -> bool {
        self.slot(place).is_sound(place)
    }

    pub(super) fn slot(&self, place: HandOffSlot) -> &Slot {
        &self.memory.slots[place.slot]
    }

    /// Returns how many turns the worker has begun.
    pub(crate) fn all_turns(&self) -> u64 {
        self.memory.cursor.turn.load(Ordering::Relaxed)
    }

    /// Returns how often the worker has picked up the slot's guest.
    pub fn turns(&self, slot: usize) -> u32 {
        self.memory.turns[slot].load(Ordering::Relaxed)
    }

    /// Returns the current hand-off and the worker's position in it, or `None` while the worker has no guest. The two
    /// may belong to different turns: who acts on them names the position to [`HandOffState::seize`], which checks it.
    pub fn at(&self) -> Option<(u64, Position)> {
        let cursor = &self.memory.cursor;
        let hand_off = cursor.hand_off.load(Ordering::Acquire);
        let line = cursor.line.get() & !CLOSED;
        (hand_off != 0).then_some((hand_off, (line >> TURN_SHIFT, line)))
    }

    /// Returns the unfinished work of a worker that is dead or from which the guest was seized. `counts` are those of
    /// the hand-off.
    ///
    /// Such a worker begins no further line, so the word of the line no longer changes. Its progress in answering is
    /// read once: a command that ends after that counts as begun, and its reply is lost. Each word is read once, and
    /// whatever it says, the copies stay within the buffers.
    pub(crate) fn lost_work(&self, hand_off: u64, counts: ByteCounts) -> LostWork {
        let cursor = &self.memory.cursor;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        if number(&cursor.hand_off) != hand_off {
            return LostWork::default();
        }
        let bytes = |count: u64, before: u64| usize::try_from(count.saturating_sub(before));
        let counted = bytes(counts.read, number(&cursor.read_before)).unwrap_or(0);
        let known = number(&cursor.taken).checked_sub(1);
        let taken = known.map_or(counted, |taken| usize::try_from(taken).unwrap_or(0));
        let written = bytes(counts.written, number(&cursor.written_before)).unwrap_or(0);
        let (start, end) = positions(cursor.line.get());
        let (answered, made) = split(number(&cursor.done));
        let is_at_a_line = end > answered && start >= answered;
        let behind = if is_at_a_line { end } else { answered };
        LostWork {
            replies: self.memory.made.copy(written..made),
            line: is_at_a_line.then(|| self.memory.taken.copy(start..end.min(taken))),
            rest: self.memory.taken.copy(behind..taken),
        }
    }
}

fn split(pair: u64) -> (usize, usize) {
    ((pair >> 32) as usize, (pair & u64::from(u32::MAX)) as usize)
}

/// Returns the word of the progress in answering, which [`HandOffState::lost_work`] takes apart.
pub(super) fn pair((first, second): (usize, usize)) -> u64 {
    ((first as u64) << 32) | second as u64
}
