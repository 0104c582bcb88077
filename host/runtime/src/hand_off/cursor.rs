//! The worker's steps in the shared memory: it picks a guest up, answers its lines and releases it.
//!
//! Each step is recorded before the next one, so that the host can continue wherever this process dies. Each step that
//! passes a guest on is one atomic operation on the slot's state. Beginning a line is one, too, on the word of the
//! line.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::atomics::{MADE_BYTES, Ordering, TAKEN_BYTES, back_off};
use super::buffer::{BufferGuard, OwnBuffer};
use super::line::{TURN_SHIFT, line_word};
use super::memory::Cursor;
use super::slot::{HandOffSlot, Owner, Slot};
use super::socket::ByteCounts;
use super::state::{HandOffState, pair};
use crate::threads::counters::BatchTally;

/// The worker's access to a hand-off state. There is one in a process, and one thread at a time uses it: it owns the
/// words of the cursor and the two buffers.
#[derive(Debug)]
pub(crate) struct WorkerCursor {
    hand_off_state: Arc<HandOffState>,
    guard: BufferGuard,
    turn: u64,
    /// The word of the line that was begun last.
    line: u64,
    /// The bytes read from the guest, made as replies, and written, all in this turn.
    taken: usize,
    made: usize,
    sent: usize,
}

impl WorkerCursor {
    /// Creates the worker's access. Create only one in a process for each hand-off state: the buffers' SAFETY arguments
    /// rest on it.
    pub fn at(hand_off_state: Arc<HandOffState>) -> Self {
        WorkerCursor {
            hand_off_state,
            guard: BufferGuard::of_cursor(),
            turn: 0,
            line: 0,
            taken: 0,
            made: 0,
            sent: 0,
        }
    }

    /// Picks a guest up. `before` is what was read and written in its hand-off so far. Returns false if the host has
    /// recalled the guest.
    ///
    /// The order of the stores matters: the new turn comes before all that belongs to it, and the hand-off after that.
    /// See [`HandOffState::close`].
    pub(crate) fn pick_up(&mut self, place: HandOffSlot, before: ByteCounts) -> bool {
        if !self.slot(place).pick_up(place) {
            return false;
        }
        (self.taken, self.made, self.sent) = (0, 0, 0);
        self.turn = self.turn.wrapping_add(1) & (u64::MAX >> TURN_SHIFT);
        let memory = &self.hand_off_state.memory;
        let cursor = &memory.cursor;
        self.line = cursor.line.start_turn(self.turn);
        cursor.taken.store(0, Ordering::Relaxed);
        cursor.done.store(0, Ordering::Relaxed);
        cursor.read_before.store(before.read, Ordering::Relaxed);
        cursor
            .written_before
            .store(before.written, Ordering::Relaxed);
        cursor.turn.store(self.turn, Ordering::Relaxed);
        cursor.hand_off.store(place.id, Ordering::Release);
        let turns = memory.turns[place.slot].load(Ordering::Relaxed);
        memory.turns[place.slot].store(turns.wrapping_add(1), Ordering::Relaxed);
        true
    }

    /// Reads what the guest has sent; once in a turn. If there is anything, the host may seize the guest from then on.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read(
        &mut self,
        place: HandOffSlot,
        read: impl FnOnce(OwnBuffer<'_, TAKEN_BYTES>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let memory = &self.hand_off_state.memory;
        self.taken = read(memory.taken.own(&mut self.guard))?;
        let taken = self.taken as u64 + 1;
        memory.cursor.taken.store(taken, Ordering::Release);
        if self.taken > 0 {
            self.slot(place).expose();
        }
        Ok(self.taken)
    }

    /// Returns how many bytes were read.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Appends the bytes that were read, from the offset `from` on, to private memory.
    pub(crate) fn copy_taken(&mut self, from: usize, out: &mut Vec<u8>) {
        let taken = self.hand_off_state.memory.taken.own(&mut self.guard);
        taken.copy_into(from..self.taken, out);
    }

    /// Begins a line of what was read, unless the host has asked for the guest. Returns the guest's owner.
    #[inline]
    pub fn begin(&mut self, place: HandOffSlot, line: (usize, usize)) -> Owner {
        let slot = self.slot(place);
        let next = line_word(self.turn, line);
        if !slot.is_ours(place) || !self.cursor().line.begin(self.line, next) {
            return slot.owner(place);
        }
        self.line = next;
        Owner::Ours
    }

    /// Stores the line's reply. Returns false if it does not fit.
    #[inline]
    pub fn done(&mut self, line_end: usize, reply: &[u8]) -> bool {
        let memory = &self.hand_off_state.memory;
        if !memory.made.own(&mut self.guard).write(self.made, reply) {
            return false;
        }
        self.made += reply.len();
        let done = pair((line_end, self.made));
        memory.cursor.done.store(done, Ordering::Release);
        true
    }

    /// Adds the answered commands to the daemon's counts.
    ///
    /// Plain additions are enough: a guest that asks for the counts after it has read a reply does so over two sockets,
    /// which order the addition before the host's look.
    pub fn count(&self, tally: &BatchTally, took: Duration) {
        self.hand_off_state.memory.answered.add(tally, took);
    }

    /// Prevents a seizure until the guest is released or handed back. Returns false if the host has it already.
    pub fn finish(&mut self, place: HandOffSlot) -> bool {
        self.slot(place).cover(place)
    }

    /// Writes the stored replies, as far as the guest takes them. The guest must be safe from seizure
    /// ([`Self::finish`]).
    pub fn send(
        &mut self,
        mut write: impl FnMut(&OwnBuffer<'_, MADE_BYTES>, Range<usize>) -> io::Result<usize>,
    ) {
        let made = self.hand_off_state.memory.made.own(&mut self.guard);
        while self.sent < self.made {
            match write(&made, self.sent..self.made) {
                Ok(written @ 1..) => self.sent += written,
                _ => break,
            }
        }
    }

    /// Returns whether all replies are written.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.made
    }

    /// Returns a copy of the replies that could not be written.
    pub fn unsent(&mut self) -> Vec<u8> {
        let (made, mut unsent) = (&self.hand_off_state.memory.made, Vec::new());
        let made = made.own(&mut self.guard);
        made.copy_into(self.sent..self.made, &mut unsent);
        unsent
    }

    /// Returns the bytes read and written in this turn.
    pub fn since(&self) -> ByteCounts {
        ByteCounts {
            read: self.taken as u64,
            written: self.sent as u64,
        }
    }

    /// Releases a guest to which all is answered and written. Returns false if it must be handed back.
    pub(crate) fn release(&mut self, place: HandOffSlot) -> bool {
        // Must come first: once the slot is released, the host may recall the guest.
        self.let_go();
        self.slot(place).release(place)
    }

    /// Ends the work on a guest: it was released, or was handed back and the host certainly has it.
    pub(crate) fn let_go(&mut self) {
        self.cursor().hand_off.store(0, Ordering::Release);
    }

    /// Waits until the host has read the work on a guest that it has seized. Until then the buffers are the host's.
    pub(crate) fn yield_seized(&mut self, place: HandOffSlot) {
        while self.slot(place).is_seized(place) {
            // This is rare and takes microseconds, since the host is already reading.
            back_off();
        }
        self.let_go();
    }

    fn slot(&self, place: HandOffSlot) -> &Slot {
        self.hand_off_state.slot(place)
    }

    fn cursor(&self) -> &Cursor {
        &self.hand_off_state.memory.cursor
    }
}
