//! The hand-off of busy guests to a worker: a shared record of which side has each guest's socket, and of the worker's
//! progress.
//!
//! A busy guest is handed off to its daemon's own process, which then reads its lines and writes its replies itself. So
//! a command costs there what it costs in-process. If the process dies, at any moment, nothing is lost but the command
//! that was running. Bytes that are read and not answered, and replies that are not written, lie in the shared memory,
//! which outlives the process. The kernel reports how many bytes were read and written ([`counts()`]).
//!
//! Each hand-off has a slot, whose state determines which side may act. The worker's one thread picks a guest up,
//! answers it, and releases it; that period is a turn. Between two turns the host recalls the guest directly. During a
//! turn it asks for the guest, and the worker hands it back at the next line ([`WANTED`]). If that line does not come,
//! because a command does not end, the host seizes the guest: from then on nothing that the worker does affects it.
//! After a death or a seizure, the host reads the worker's unfinished work ([`HandOffState::in_hand`]).

mod counts;
mod cursor;
mod page;
mod progress;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::threads::counters::{CounterSource, Shard};
use page::{Buffer, Page};
use progress::Progress;

pub use counts::{Counts, counts, keep_in_line};
pub(crate) use cursor::WorkerCursor;
pub use progress::{Begun, CommandPosition, monotonic_ns};

/// The most guests that can be handed off to one worker at a time. The host serves all others itself, and all guests
/// that are not busy.
pub(crate) const SLOTS: usize = 1024;
/// The most bytes that are read from a guest in one turn.
pub(crate) const TAKEN_BYTES: usize = 16 << 10;
/// The most bytes of replies that may wait to be written to a guest. Pages that were never written to take no memory.
const MADE_BYTES: usize = 256 << 10;

// A slot's state is the id of its hand-off, above the bits below; 0 is a free slot. Each change names the hand-off, so
// that a late change cannot affect another one. The permitted actions:
//
// | state             | the worker                                  | the host                          |
// |-------------------|---------------------------------------------|-----------------------------------|
// | handed off        | picks it up: held, busy                     | recalls it: free                  |
// | held, busy        | reads, writes, releases or hands back       | asks for it: wanted               |
// | held              | runs a line; becomes busy                   | asks for it; seizes it            |
// | seized            | has no access                               | reads the work; frees the slot    |

/// The guest is handed off: the worker may pick it up.
const LENT: u64 = 1;
/// The worker has picked the guest up.
const HELD: u64 = 2;
/// The host has asked for the guest.
const WANTED: u64 = 4;
/// The worker is reading, writing or handing the guest back: the host cannot seize it.
const BUSY: u64 = 8;
/// The host has seized the guest, and reads the worker's work.
const SEIZED: u64 = 16;
/// The lowest bit of the hand-off's id.
const ID_SHIFT: u32 = 8;

/// The bit in a line's word that closes the turn: the worker begins no further line in it.
const CLOSED: u64 = 1 << 30;
/// The layout of a line's word: bits 0 to 14 are the line's end, bits 15 to 29 its start, and bits from 31 on the turn.
const START_SHIFT: u32 = 15;
const TURN_SHIFT: u32 = 31;
const POSITION_MASK: u64 = (1 << START_SHIFT) - 1;

/// The contents of the shared memory. All zero is a state without hand-offs.
#[repr(C)]
struct SharedMemory {
    hand: Cursor,
    progress: Progress,
    answered: Shard,
    slots: [AtomicU64; SLOTS],
    /// The number of times that the worker has picked up each slot's guest.
    turns: [AtomicU32; SLOTS],
    taken: Buffer<TAKEN_BYTES>,
    made: Buffer<MADE_BYTES>,
}

/// The worker's current work.
#[repr(C)]
struct Cursor {
    /// The id of the current hand-off, which is never reused; 0 is none.
    hand_off: AtomicU64,
    /// The number of the turn, which distinguishes it from earlier ones.
    turn: AtomicU64,
    /// The bytes that this hand-off had read and written before the turn.
    read_before: AtomicU64,
    written_before: AtomicU64,
    /// The number of bytes read in this turn, plus one; 0 is not yet known.
    taken: AtomicU64,
    /// The line that was begun last: the turn, and the line's start and end in the buffer `taken`. Each change is one
    /// compare-and-swap, by the worker to begin the next line or by the host to close the turn. So a single word
    /// decides whether a line has begun, and the host never has to combine two readings.
    line: AtomicU64,
    /// The end of the answered lines in the buffer `taken`, and of their replies in the buffer `made`.
    done: AtomicU64,
}

/// The place of a hand-off in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandOffSlot {
    /// The hand-off's id, which is never reused.
    pub id: u64,
    /// The index of its slot, below [`SLOTS`].
    pub(crate) slot: usize,
}

impl HandOffSlot {
    fn state(self, bits: u64) -> u64 {
        self.id << ID_SHIFT | bits
    }

    /// Returns the bits of a state, if it is this hand-off's.
    fn bits_of(self, state: u64) -> Option<u64> {
        (state >> ID_SHIFT == self.id).then_some(state & ((1 << ID_SHIFT) - 1))
    }
}

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

/// The result of recalling a guest: when the host has it.
#[derive(Debug, PartialEq, Eq)]
pub enum Custody {
    Now,
    /// Once the worker reaches the end of its current line.
    Soon,
}

/// The owner of a guest, from its worker's view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    /// The worker must hand it back.
    Wanted,
    /// The host has it.
    Lost,
}

/// The record of all hand-offs to one worker, in memory that host and worker share.
#[derive(Debug)]
pub(crate) struct HandOffState {
    page: Page,
}

impl HandOffState {
    /// Creates the host's side, and the file by which the worker opens its own.
    ///
    /// # Errors
    /// The system's error; `Unsupported` where it has no such shared memory.
    pub fn create() -> io::Result<(Arc<Self>, OwnedFd)> {
        let (page, file) = Page::create()?;
        Ok((Arc::new(HandOffState { page }), file))
    }

    /// Opens the worker's side by the file that its host has sent.
    ///
    /// # Errors
    /// The system's error, or that the file has the wrong size.
    pub fn open(file: &OwnedFd) -> io::Result<Arc<Self>> {
        let page = Page::open(file)?;
        Ok(Arc::new(HandOffState { page }))
    }

    /// Allows the worker to pick the guest up.
    pub(crate) fn hand_off(&self, place: HandOffSlot) {
        self.slot(place).store(place.state(LENT), Ordering::Release);
    }

    /// Recalls a guest: takes it, or asks the worker for it.
    pub(crate) fn take_home(&self, place: HandOffSlot) -> Custody {
        let ask = |state| match place.bits_of(state)? {
            LENT => Some(0),
            held => Some(place.state(held | WANTED)),
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        match self.slot(place).fetch_update(set, failed, ask) {
            Ok(before) if place.bits_of(before) != Some(LENT) => Custody::Soon,
            _ => Custody::Now,
        }
    }

    /// Seizes a guest from the worker. `line` names the line that has run for too long; without it, any line is meant.
    /// Returns false if the worker has reached another line, or is releasing the guest or handing it back. After a
    /// seizure, call [`HandOffState::in_hand`], and then [`HandOffState::clear`].
    ///
    /// The turn is closed before the slot is seized. Once it is closed the worker cannot begin a line, so it is certain
    /// which line had begun and which lines had not.
    pub(crate) fn seize(&self, place: HandOffSlot, line: Option<Position>) -> bool {
        if !self.close(place, line) {
            return false;
        }
        let seize = |state| {
            let bits = place.bits_of(state)?;
            (bits & HELD != 0 && bits & BUSY == 0).then_some(place.state(bits | SEIZED))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // If this fails, the worker is releasing the guest, or finds the turn closed and hands the guest back.
        self.slot(place).fetch_update(set, failed, seize).is_ok()
    }

    /// Closes the worker's current turn, so that it begins no further line in it. Returns false if that is not the turn
    /// meant.
    fn close(&self, place: HandOffSlot, line: Option<Position>) -> bool {
        let hand = &self.page.hand;
        let (set, failed) = (Ordering::SeqCst, Ordering::SeqCst);
        loop {
            // In this order: a new turn changes the line before it names its hand-off.
            let at = hand.line.load(failed);
            let is_meant = line.is_none_or(|(_, line)| line == at & !CLOSED);
            if !is_meant || hand.hand_off.load(failed) != place.id {
                return false;
            }
            let closed = hand.line.compare_exchange(at, at | CLOSED, set, failed);
            if closed.is_ok() {
                return true;
            }
        }
    }

    /// Frees the slot.
    pub fn clear(&self, place: HandOffSlot) {
        let clear = |state| place.bits_of(state).map(|_| 0);
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // If the slot is no longer this hand-off's, there is nothing to free.
        let _ = self.slot(place).fetch_update(set, failed, clear);
    }

    /// Returns whether a slot's state is one that the rules above can produce. Any other state was written by faulty
    /// code in the worker's process, and the worker would never finish such a hand-off.
    pub(crate) fn is_sound(&self, place: HandOffSlot) -> bool {
        let state = self.slot(place).load(Ordering::Acquire);
        // A free slot: the host has just recalled the guest.
        state == 0
            || place.bits_of(state).is_some_and(|bits| {
                let is_known = bits & !(LENT | HELD | WANTED | BUSY | SEIZED) == 0;
                let is_held = bits & HELD != 0;
                is_known && bits & LENT != 0 && (is_held || bits == LENT)
            })
    }

    fn slot(&self, place: HandOffSlot) -> &AtomicU64 {
        &self.page.slots[place.slot]
    }

    /// Returns how many turns the worker has begun.
    pub(crate) fn all_turns(&self) -> u64 {
        self.page.hand.turn.load(Ordering::Relaxed)
    }

    /// Returns how often the worker has picked up the slot's guest.
    pub fn turns(&self, slot: usize) -> u32 {
        self.page.turns[slot].load(Ordering::Relaxed)
    }

    /// Returns the current hand-off and the worker's position in it, or `None` while the worker has no guest.
    pub fn at(&self) -> Option<(u64, Position)> {
        let hand = &self.page.hand;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        let hand_off = number(&hand.hand_off);
        let line = number(&hand.line) & !CLOSED;
        (hand_off != 0).then_some((hand_off, (line >> TURN_SHIFT, line)))
    }

    /// Returns the unfinished work of a worker that is dead or from which the guest was seized. `counts` are those of
    /// the hand-off.
    ///
    /// Such a worker begins no further line, so the word of the line no longer changes. Its progress in answering is
    /// read once: a command that ends after that counts as begun, and its reply is lost.
    pub(crate) fn in_hand(&self, hand_off: u64, counts: Counts) -> LostWork {
        let hand = &self.page.hand;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        if number(&hand.hand_off) != hand_off {
            return LostWork::default();
        }
        let bytes = |count: u64, before: u64| usize::try_from(count.saturating_sub(before));
        let counted = bytes(counts.read, number(&hand.read_before)).unwrap_or(0);
        let known = number(&hand.taken).checked_sub(1);
        let taken = known.map_or(counted, |taken| usize::try_from(taken).unwrap_or(0));
        let written = bytes(counts.written, number(&hand.written_before)).unwrap_or(0);
        let (start, end) = positions(number(&hand.line));
        let (answered, made) = split(number(&hand.done));
        let is_at_a_line = end > answered && start >= answered;
        let behind = if is_at_a_line { end } else { answered };
        LostWork {
            replies: self.page.made.copy(written, made),
            line: is_at_a_line.then(|| self.page.taken.copy(start, end.min(taken))),
            rest: self.page.taken.copy(behind, taken),
        }
    }
}

impl CounterSource for HandOffState {
    fn counted(&self) -> &Shard {
        &self.page.answered
    }
}

/// Returns the word of a line.
fn line_word(turn: u64, (start, end): (usize, usize)) -> u64 {
    // Both are at most [`TAKEN_BYTES`], which fits in 15 bits.
    let place = |at: usize| at as u64 & POSITION_MASK;
    turn << TURN_SHIFT | place(start) << START_SHIFT | place(end)
}

/// Returns the start and the end of a word's line.
fn positions(word: u64) -> (usize, usize) {
    let place = |bits: u64| (bits & POSITION_MASK) as usize;
    (place(word >> START_SHIFT), place(word))
}

fn split(pair: u64) -> (usize, usize) {
    ((pair >> 32) as usize, (pair & u64::from(u32::MAX)) as usize)
}

fn pair((first, second): (usize, usize)) -> u64 {
    ((first as u64) << 32) | second as u64
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
