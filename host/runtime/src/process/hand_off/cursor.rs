//! The worker's side of a hand-off state: it picks a guest up, answers its lines and releases it.
//!
//! Each step is recorded before the next one, so that the host can continue wherever this process dies. Each step that
//! passes a guest on is one atomic operation on the slot's state. Beginning a line is one, too, on the word of the
//! line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{
    BUSY, Counts, HELD, HandOffSlot, HandOffState, LENT, Owner, SEIZED, TURN_SHIFT, WANTED,
    line_word, pair,
};
use crate::threads::counters::BatchCounts;

/// The worker's access to a hand-off state. There is one, and one thread at a time uses it.
#[derive(Debug)]
pub(crate) struct WorkerCursor {
    hand_off_state: Arc<HandOffState>,
    own: BufferGuard,
    turn: u64,
    /// The word of the line that was begun last.
    line: u64,
    /// The bytes read from the guest, made as replies, and written, all in this turn.
    taken: usize,
    made: usize,
    sent: usize,
}

impl WorkerCursor {
    /// Creates the worker's access. Create only one in a process for each hand-off state, because it owns the process's
    /// side of the buffers.
    pub fn at(hand_off_state: Arc<HandOffState>) -> Self {
        WorkerCursor {
            hand_off_state,
            own: BufferGuard(()),
            turn: 0,
            line: 0,
            taken: 0,
            made: 0,
            sent: 0,
        }
    }

    /// Picks a guest up. `before` is what was read and written in its hand-off so far. Returns false if the host has
    /// recalled the guest.
    pub(crate) fn take_up(&mut self, place: HandOffSlot, before: Counts) -> bool {
        let held = place.state(LENT | HELD | BUSY);
        if !self.change(place, place.state(LENT), held) {
            return false;
        }
        (self.taken, self.made, self.sent) = (0, 0, 0);
        self.turn = self.turn.wrapping_add(1) & (u64::MAX >> TURN_SHIFT);
        let page = &self.hand_off_state.page;
        let hand = &page.hand;
        hand.taken.store(0, Ordering::Relaxed);
        self.line = line_word(self.turn, (0, 0));
        hand.line.store(self.line, Ordering::SeqCst);
        hand.done.store(0, Ordering::Relaxed);
        hand.read_before.store(before.read, Ordering::Relaxed);
        hand.written_before.store(before.written, Ordering::Relaxed);
        hand.turn.store(self.turn, Ordering::Relaxed);
        hand.hand_off.store(place.id, Ordering::SeqCst);
        let turns = page.turns[place.slot].load(Ordering::Relaxed);
        page.turns[place.slot].store(turns.wrapping_add(1), Ordering::Relaxed);
        true
    }

    fn change(&self, place: HandOffSlot, from: u64, to: u64) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = self.hand_off_state.slot(place);
        slot.compare_exchange(from, to, set, failed).is_ok()
    }

    /// Reads what the guest has sent; once in a turn. If there is anything, the host may seize the guest from then on.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read(
        &mut self,
        place: HandOffSlot,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let page = &self.hand_off_state.page;
        self.taken = read(page.taken.writable(&mut self.own))?;
        page.hand
            .taken
            .store(self.taken as u64 + 1, Ordering::Release);
        if self.taken > 0 {
            // While the guest is busy, the host can only ask for it. So the slot is still this hand-off's.
            self.hand_off_state
                .slot(place)
                .fetch_and(!BUSY, Ordering::AcqRel);
        }
        Ok(self.taken)
    }

    /// Returns the bytes that were read.
    pub fn taken(&self) -> &[u8] {
        &self.hand_off_state.page.taken.readable(&self.own)[..self.taken]
    }

    /// Begins a line of what was read, unless the host has asked for the guest. Returns the guest's owner.
    #[inline]
    pub fn begin(&mut self, place: HandOffSlot, line: (usize, usize)) -> Owner {
        let bits = self.bits(place);
        if bits & (HELD | SEIZED | WANTED) != HELD {
            return self.whose(place);
        }
        let hand = &self.hand_off_state.page.hand;
        let next = line_word(self.turn, line);
        let (set, failed) = (Ordering::SeqCst, Ordering::Acquire);
        match hand.line.compare_exchange(self.line, next, set, failed) {
            Ok(_) => {
                self.line = next;
                Owner::Ours
            }
            // The host has closed the turn.
            Err(_) => self.whose(place),
        }
    }

    /// Returns the owner of a guest that the worker may not continue with.
    #[cold]
    fn whose(&self, place: HandOffSlot) -> Owner {
        match self.bits(place) & (HELD | SEIZED) {
            HELD => Owner::Wanted,
            _ => Owner::Lost,
        }
    }

    /// Returns the bits of a hand-off's state, or 0 if the slot is not this hand-off's.
    #[inline]
    fn bits(&self, place: HandOffSlot) -> u64 {
        let state = self.hand_off_state.slot(place).load(Ordering::Acquire);
        place.bits_of(state).unwrap_or_default()
    }

    /// Stores the line's reply. Returns false if it does not fit.
    #[inline]
    pub fn done(&mut self, line_end: usize, reply: &[u8]) -> bool {
        let page = &self.hand_off_state.page;
        let end = self.made + reply.len();
        let room = page.made.writable(&mut self.own).get_mut(self.made..end);
        let Some(room) = room else { return false };
        room.copy_from_slice(reply);
        self.made = end;
        page.hand
            .done
            .store(pair((line_end, end)), Ordering::Release);
        true
    }

    /// Adds the answered commands to the daemon's counts.
    pub fn count(&self, tally: BatchCounts, took: Duration) {
        self.hand_off_state.page.answered.add(tally, took);
    }

    /// Prevents a seizure until the guest is released or handed back. Returns false if the host has it already.
    pub fn finish(&mut self, place: HandOffSlot) -> bool {
        let finish = |state| {
            let bits = place.bits_of(state)?;
            (bits & (HELD | SEIZED) == HELD).then_some(place.state(bits | BUSY))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = self.hand_off_state.slot(place);
        slot.fetch_update(set, failed, finish).is_ok()
    }

    /// Writes the stored replies, as far as the guest takes them. The guest must be safe from seizure
    /// ([`Self::finish`]).
    pub fn send(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let made = self.hand_off_state.page.made.readable(&self.own);
        while self.sent < self.made {
            match write(&made[self.sent..self.made]) {
                Ok(written @ 1..) => self.sent += written,
                _ => break,
            }
        }
    }

    /// Returns the replies that could not be written.
    pub fn unsent(&self) -> &[u8] {
        &self.hand_off_state.page.made.readable(&self.own)[self.sent..self.made]
    }

    /// Returns the bytes read and written in this turn.
    pub fn since(&self) -> Counts {
        Counts {
            read: self.taken as u64,
            written: self.sent as u64,
        }
    }

    /// Releases a guest to which all is answered and written. Returns false if it must be handed back.
    pub(crate) fn put_down(&mut self, place: HandOffSlot) -> bool {
        // Must come first: once the slot is released, the host may recall the guest.
        self.let_go();
        self.change(place, place.state(LENT | HELD | BUSY), place.state(LENT))
    }

    /// Ends the work on a guest: it was released, or was handed back and the host certainly has it.
    pub(crate) fn let_go(&mut self) {
        self.hand_off_state
            .page
            .hand
            .hand_off
            .store(0, Ordering::SeqCst);
    }

    /// Waits until the host has read the work on a guest that it has seized.
    pub(crate) fn yield_seized(&mut self, place: HandOffSlot) {
        let is_seized = || {
            let state = self.hand_off_state.slot(place).load(Ordering::Acquire);
            place.bits_of(state).is_some_and(|bits| bits & SEIZED != 0)
        };
        while is_seized() {
            #[expect(
                clippy::disallowed_methods,
                reason = "it is rare, and takes microseconds, since the host is already reading"
            )]
            std::thread::sleep(Duration::from_micros(50));
        }
        self.let_go();
    }
}

/// The right to this process's side of the buffers.
#[derive(Debug)]
pub(super) struct BufferGuard(());
