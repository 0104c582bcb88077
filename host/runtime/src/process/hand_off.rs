//! Who has which guest's socket, the host or its worker, and what of it is in the worker's hands: memory that both share.
//!
//! A guest that is busy is lent to its daemon's own process, which then reads its lines and writes its replies itself: a
//! command costs there what it costs in-process. Nothing is lost by that if the process dies at any moment. What it has
//! read and not yet answered, and what it has answered and not yet written, lies in this memory, which outlives it, and the
//! kernel says how much it has read and written ([`counts()`]).
//!
//! A hand-off has a slot, whose state says whose move it is. The worker's one thread takes a guest up, works, and puts it down
//! again; between two of these the host takes it home by itself, and from under the worker's hands only at the next line
//! ([`WANTED`]). Where that doesn't come, because a command doesn't end, the host seizes it: from then on the worker has no
//! part in it, whatever it does. Dead or seized, the host reads what was in its hands ([`HandOffState::in_hand`]).

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

/// Guests that can be lent to one worker at a time. Those beyond are served by the host, as all are that are not busy.
pub(crate) const SLOTS: usize = 1024;
/// What is read of a guest at a time (bytes).
pub(crate) const TAKEN_BYTES: usize = 16 << 10;
/// What of its replies may wait to be written (bytes). Memory that nothing was written to takes none.
const MADE_BYTES: usize = 256 << 10;

// A slot's state is the id of the hand-off that has it, above these bits; 0 is a slot that is free. Whoever changes it names the
// hand-off, so that what is late can't change another's. Who may do what:
//
// | state             | the worker                                  | the host                          |
// |-------------------|---------------------------------------------|-----------------------------------|
// | lent              | takes it up: held, busy                     | takes it home: free               |
// | held, busy        | reads, writes, puts it down or hands it back | asks for it: wanted               |
// | held              | runs a line; becomes busy                   | asks for it; seizes it            |
// | seized            | has no part in it                           | reads what was there; frees it    |

/// The worker may take it up.
const LENT: u64 = 1;
/// The worker has taken it up.
const HELD: u64 = 2;
/// The host wants it back.
const WANTED: u64 = 4;
/// The worker is reading or writing, or handing it back: it can't be seized.
const BUSY: u64 = 8;
/// The host has taken it from under the worker's hands, and reads what was there.
const SEIZED: u64 = 16;
/// Where the hand-off's id begins.
const ID_SHIFT: u32 = 8;

/// In a line's word: the host has closed the turn, so that the worker begins no further line in it.
const CLOSED: u64 = 1 << 30;
/// In a line's word: where the end stands (bits 0 to 14), where the start stands, and where the turn begins.
const START_SHIFT: u32 = 15;
const TURN_SHIFT: u32 = 31;
const POSITION_MASK: u64 = (1 << START_SHIFT) - 1;

/// What is in the memory. All zero is a hand-off state of nothing.
#[repr(C)]
struct SharedMemory {
    hand: Cursor,
    progress: Progress,
    answered: Shard,
    slots: [AtomicU64; SLOTS],
    /// How often the worker has taken each up.
    turns: [AtomicU32; SLOTS],
    taken: Buffer<TAKEN_BYTES>,
    made: Buffer<MADE_BYTES>,
}

/// What the worker works on.
#[repr(C)]
struct Cursor {
    /// The hand-off's id, which is never used again; 0 is none.
    hand_off: AtomicU64,
    /// How often it has taken something up, to be told from the time before.
    turn: AtomicU64,
    /// What had been read and written of that hand-off before.
    read_before: AtomicU64,
    written_before: AtomicU64,
    /// How much was read since, plus one; 0 is not known.
    taken: AtomicU64,
    /// The line that was begun last: the turn, and where in `taken` it starts and ends. Each change of it is one
    /// compare-and-swap, by the worker to begin the next line or by the host to close the turn. So a single word decides
    /// whether a line has begun, and the host never concludes it from two readings.
    line: AtomicU64,
    /// Up to where in `taken` lines are answered, and in `made` the replies go.
    done: AtomicU64,
}

/// Where a hand-off is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandOffSlot {
    /// The hand-off's id, which is never used again.
    pub id: u64,
    /// Below [`SLOTS`].
    pub(crate) slot: usize,
}

impl HandOffSlot {
    fn state(self, bits: u64) -> u64 {
        self.id << ID_SHIFT | bits
    }

    /// The bits of a state, if it is this hand-off's.
    fn bits_of(self, state: u64) -> Option<u64> {
        (state >> ID_SHIFT == self.id).then_some(state & ((1 << ID_SHIFT) - 1))
    }
}

/// What a worker is at: a turn of it, and the word of the line. It changes with each line.
pub type Position = (u64, u64);

/// What was in the hands of a worker that has lost them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LostWork {
    /// Replies, or the rest of one, that were not yet written.
    pub replies: Vec<u8>,
    /// The line it was at, if it was.
    pub line: Option<Vec<u8>>,
    /// What stood behind it.
    pub rest: Vec<u8>,
}

/// Whether a guest is at home.
#[derive(Debug, PartialEq, Eq)]
pub enum Custody {
    Now,
    /// Once the worker has come to the end of the line it is at.
    Soon,
}

/// Whose a guest is, as its worker sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    /// It is to be handed back.
    Wanted,
    /// The host has it.
    Lost,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct HandOffState {
    page: Page,
}

impl HandOffState {
    /// A new one, of a host, and the file by which its worker opens it.
    ///
    /// # Errors
    /// The system's; `Unsupported` where it has no memory to share.
    pub fn create() -> io::Result<(Arc<Self>, OwnedFd)> {
        let (page, file) = Page::create()?;
        Ok((Arc::new(HandOffState { page }), file))
    }

    /// The worker's side of one, by the file that its host has sent.
    ///
    /// # Errors
    /// The system's, or that it is no such file.
    pub fn open(file: &OwnedFd) -> io::Result<Arc<Self>> {
        let page = Page::open(file)?;
        Ok(Arc::new(HandOffState { page }))
    }

    /// From now on the worker may take it up.
    pub(crate) fn hand_off(&self, place: HandOffSlot) {
        self.slot(place).store(place.state(LENT), Ordering::Release);
    }

    /// Takes it home, or asks for it.
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

    /// Takes a guest from under the worker's hands. `line` names the line that has run for too long; without it, the guest
    /// is taken at whatever line the worker is. Returns false where the worker is at another line by now, is just putting
    /// the guest down, or is handing it back. [`HandOffState::in_hand`] is next, and [`HandOffState::clear`] after that.
    ///
    /// The turn is closed before the slot is seized. From the moment it is closed the worker can't begin a line, so that
    /// the line it was at and those behind it are told apart for certain.
    pub(crate) fn seize(&self, place: HandOffSlot, line: Option<Position>) -> bool {
        if !self.close(place, line) {
            return false;
        }
        let seize = |state| {
            let bits = place.bits_of(state)?;
            (bits & HELD != 0 && bits & BUSY == 0).then_some(place.state(bits | SEIZED))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // Where it fails, the worker is at its end with this guest, or finds the turn closed and hands the guest back.
        self.slot(place).fetch_update(set, failed, seize).is_ok()
    }

    /// Sees to it that the worker begins no line any more in the turn it is at; false where that isn't the turn meant.
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

    /// It is nobody's any more.
    pub fn clear(&self, place: HandOffSlot) {
        let clear = |state| place.bits_of(state).map(|_| 0);
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // Where it is another's already, there is nothing to clear.
        let _ = self.slot(place).fetch_update(set, failed, clear);
    }

    /// Whether a hand-off's slot has a state that the rules above can lead to. Any other was written by something in the worker's
    /// process that had no business there, and the worker would never come to the end of such a hand-off.
    pub(crate) fn is_sound(&self, place: HandOffSlot) -> bool {
        let state = self.slot(place).load(Ordering::Acquire);
        // Free: its guest has just been taken home.
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

    /// How often the worker has taken something up.
    pub(crate) fn all_turns(&self) -> u64 {
        self.page.hand.turn.load(Ordering::Relaxed)
    }

    /// How often the worker has taken it up.
    pub fn turns(&self, slot: usize) -> u32 {
        self.page.turns[slot].load(Ordering::Relaxed)
    }

    /// What the worker is at: the hand-off, and a number that changes with each line. `None` while it is at nothing.
    pub fn at(&self) -> Option<(u64, Position)> {
        let hand = &self.page.hand;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        let hand_off = number(&hand.hand_off);
        let line = number(&hand.line) & !CLOSED;
        (hand_off != 0).then_some((hand_off, (line >> TURN_SHIFT, line)))
    }

    /// What was in the hands of a worker that is dead, or from whom it was seized. `counts` are those of the hand-off.
    ///
    /// Neither kind of worker begins a line any more, so the word of the line stands still. How far it had answered is read
    /// once: a command that ends after that is one that had begun, and its reply is lost.
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

/// The word of a line.
fn line_word(turn: u64, (start, end): (usize, usize)) -> u64 {
    // Neither is more than what is read at a time.
    let place = |at: usize| at as u64 & POSITION_MASK;
    turn << TURN_SHIFT | place(start) << START_SHIFT | place(end)
}

/// Where the line of a word starts and ends.
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
