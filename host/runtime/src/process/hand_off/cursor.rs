//! The worker's place at a hand-off state: the steps by which it takes a guest up, answers its lines and puts it down again.
//!
//! Each step is written down before the next one, so that the host can go on from wherever this process dies. The steps
//! that hand a guest over are single atomic operations on the slot's state, and so is the beginning of a line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{
    BUSY, Counts, HELD, HandOffSlot, HandOffState, LENT, Owner, SEIZED, TURN_SHIFT, WANTED,
    line_word, pair,
};
use crate::threads::counters::BatchCounts;

/// The worker's place at a hand-off state: there is one, and one thread works there.
#[derive(Debug)]
pub(crate) struct WorkerCursor {
    hand_off_state: Arc<HandOffState>,
    own: BufferGuard,
    turn: u64,
    /// The word of the line that was begun last.
    line: u64,
    /// How much of the guest's was read, and of the replies made and written, since it was taken up.
    taken: usize,
    made: usize,
    sent: usize,
}

impl WorkerCursor {
    /// The worker's, at that hand-off state. There may be one in a process for each hand-off state: it is what makes the buffers its own.
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

    /// Takes the guest of a hand-off up, of which so much has been read and written; false where the host has it back.
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

    /// Reads what the guest has sent, once after it was taken up. Where there is something, it may be seized from then on.
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
            // While it is busy, all that the host does is to ask for it.
            self.hand_off_state
                .slot(place)
                .fetch_and(!BUSY, Ordering::AcqRel);
        }
        Ok(self.taken)
    }

    /// What was read.
    pub fn taken(&self) -> &[u8] {
        &self.hand_off_state.page.taken.readable(&self.own)[..self.taken]
    }

    /// Begins a line of what was read, unless the guest is wanted elsewhere; whose the guest is.
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

    /// Whose a guest is that is not this worker's to go on with.
    #[cold]
    fn whose(&self, place: HandOffSlot) -> Owner {
        match self.bits(place) & (HELD | SEIZED) {
            HELD => Owner::Wanted,
            _ => Owner::Lost,
        }
    }

    /// The bits of a hand-off's state; none where the slot is another's.
    #[inline]
    fn bits(&self, place: HandOffSlot) -> u64 {
        let state = self.hand_off_state.slot(place).load(Ordering::Acquire);
        place.bits_of(state).unwrap_or_default()
    }

    /// Keeps its reply; false where there is no room for it.
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

    /// Adds what was answered to the daemon's counts.
    pub fn count(&self, tally: BatchCounts, took: Duration) {
        self.hand_off_state.page.answered.add(tally, took);
    }

    /// From now on it can't be seized, until it is put down or handed back; false where it has been.
    pub fn finish(&mut self, place: HandOffSlot) -> bool {
        let finish = |state| {
            let bits = place.bits_of(state)?;
            (bits & (HELD | SEIZED) == HELD).then_some(place.state(bits | BUSY))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = self.hand_off_state.slot(place);
        slot.fetch_update(set, failed, finish).is_ok()
    }

    /// Writes the replies that were kept, as far as the guest takes them. Only of a guest that can't be seized.
    pub fn send(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let made = self.hand_off_state.page.made.readable(&self.own);
        while self.sent < self.made {
            match write(&made[self.sent..self.made]) {
                Ok(written @ 1..) => self.sent += written,
                _ => break,
            }
        }
    }

    /// What could not be written.
    pub fn unsent(&self) -> &[u8] {
        &self.hand_off_state.page.made.readable(&self.own)[self.sent..self.made]
    }

    /// What has been read and written since the guest was taken up.
    pub fn since(&self) -> Counts {
        Counts {
            read: self.taken as u64,
            written: self.sent as u64,
        }
    }

    /// Puts a guest down of whom all is answered and written; false where it is to be handed back.
    pub(crate) fn put_down(&mut self, place: HandOffSlot) -> bool {
        // Before it may be taken home: nothing of it is here any more.
        self.let_go();
        self.change(place, place.state(LENT | HELD | BUSY), place.state(LENT))
    }

    /// Nothing of the guest is here any more: it was put down, or handed back, and the host has it for certain.
    pub(crate) fn let_go(&mut self) {
        self.hand_off_state
            .page
            .hand
            .hand_off
            .store(0, Ordering::SeqCst);
    }

    /// A guest was seized: waits until the host has what was here.
    pub(crate) fn yield_seized(&mut self, place: HandOffSlot) {
        let is_seized = || {
            let state = self.hand_off_state.slot(place).load(Ordering::Acquire);
            place.bits_of(state).is_some_and(|bits| bits & SEIZED != 0)
        };
        while is_seized() {
            // Rare, and a matter of microseconds; the host is at it already.
            std::thread::sleep(Duration::from_micros(50));
        }
        self.let_go();
    }
}

/// The right to this process's side of the buffers.
#[derive(Debug)]
pub(super) struct BufferGuard(());
