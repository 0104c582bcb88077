//! A slot: the word that decides which side may act on a handed-off guest.
//!
//! The word is the id of the hand-off, above the bits below; 0 is a free slot. Each change names the hand-off, so that
//! a late change cannot affect another one. The permitted actions:
//!
//! | state             | the worker                                  | the host                          |
//! |-------------------|---------------------------------------------|-----------------------------------|
//! | handed off        | picks it up: held, busy                     | recalls it: free                  |
//! | held, busy        | reads, writes, releases or hands back       | asks for it: wanted               |
//! | held              | runs a line; becomes busy                   | asks for it                       |
//! | held, wanted      | hands it back: busy                         | seizes it                         |
//! | seized            | has no access                               | reads the work; frees the slot    |
//!
//! # Memory ordering
//!
//! Every decision is one read-modify-write of this one word, so the decisions of both processes have one order, and no
//! side concludes anything from two words. There is no handshake in which each side writes its own word and then reads
//! the other's; that would need a `SeqCst` fence on both sides. Each change releases what its side did with the guest
//! before, and acquires what the other side did. A mere load ([`Slot::is_ours`]) may be late: it only makes the worker
//! notice a request before the word of the line does.

use super::atomics::{AtomicU64, Ordering};

/// The guest is handed off: the worker may pick it up.
pub(super) const HANDED_OFF: u64 = 1;
/// The worker has picked the guest up.
pub(super) const HELD: u64 = 2;
/// The host has asked for the guest.
pub(super) const WANTED: u64 = 4;
/// The worker is reading, writing or handing the guest back: the host cannot seize it.
pub(super) const BUSY: u64 = 8;
/// The host has seized the guest, and reads the worker's work.
pub(super) const SEIZED: u64 = 16;
/// The lowest bit of the hand-off's id.
const ID_SHIFT: u32 = 8;

/// The place of a hand-off in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandOffSlot {
    /// The hand-off's id, which is never reused.
    pub id: u64,
    /// The index of its slot, below [`SLOTS`](super::atomics::SLOTS).
    pub(crate) slot: usize,
}

impl HandOffSlot {
    pub(super) fn state(self, bits: u64) -> u64 {
        self.id << ID_SHIFT | bits
    }

    /// Returns the bits of a state, if it is this hand-off's.
    fn bits_of(self, state: u64) -> Option<u64> {
        (state >> ID_SHIFT == self.id).then_some(state & ((1 << ID_SHIFT) - 1))
    }
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

/// The word of a slot.
#[repr(transparent)]
pub(super) struct Slot(pub(super) AtomicU64);

/// The host's side.
impl Slot {
    /// Hands the guest off: the worker may pick it up. Only the host changes a free slot, so a store is enough.
    pub(super) fn hand_off(&self, place: HandOffSlot) {
        self.0.store(place.state(HANDED_OFF), Ordering::Release);
    }

    /// Recalls a guest: takes it, or asks the worker for it.
    pub(super) fn recall(&self, place: HandOffSlot) -> Custody {
        let before = self.change(|state| match place.bits_of(state)? {
            HANDED_OFF => Some(0),
            held => Some(place.state(held | WANTED)),
        });
        match before {
            Some(before) if place.bits_of(before) != Some(HANDED_OFF) => Custody::Soon,
            _ => Custody::Now,
        }
    }

    /// Seizes a guest that the host has asked for. Returns false if the worker is releasing the guest or handing it
    /// back.
    ///
    /// A guest that was asked for is not released, so this turn of it is its last. The caller has closed the turn of
    /// the guest, and thus that turn.
    pub(super) fn seize(&self, place: HandOffSlot) -> bool {
        let seized = self.change(|state| {
            let bits = place.bits_of(state)?;
            let may_seize = bits & (HELD | WANTED | BUSY) == HELD | WANTED;
            may_seize.then_some(place.state(bits | SEIZED))
        });
        seized.is_some()
    }

    /// Frees the slot, if it is still this hand-off's.
    pub(super) fn clear(&self, place: HandOffSlot) {
        let _ = self.change(|state| place.bits_of(state).map(|_| 0));
    }

    /// Returns whether the state is one that the rules above can produce. Any other state was written by faulty code in
    /// the worker's process, and the worker would never finish such a hand-off.
    pub(super) fn is_sound(&self, place: HandOffSlot) -> bool {
        let state = self.0.load(Ordering::Relaxed);
        // A free slot: the host has just recalled the guest.
        state == 0
            || place.bits_of(state).is_some_and(|bits| {
                let is_known = bits & !(HANDED_OFF | HELD | WANTED | BUSY | SEIZED) == 0;
                let is_held = bits & HELD != 0;
                is_known && bits & HANDED_OFF != 0 && (is_held || bits == HANDED_OFF)
            })
    }
}

/// The worker's side.
impl Slot {
    /// Picks the guest up, busy. Returns false if the host has recalled it.
    pub(super) fn pick_up(&self, place: HandOffSlot) -> bool {
        let held = place.state(HANDED_OFF | HELD | BUSY);
        self.exchange(place.state(HANDED_OFF), held)
    }

    /// Ends the busy time in which the guest was read: the host may seize it from here on. While the guest is busy, the
    /// host can only ask for it, so the slot is still this hand-off's.
    pub(super) fn expose(&self) {
        self.0.fetch_and(!BUSY, Ordering::AcqRel);
    }

    /// Returns whether the worker may begin another line of the guest.
    #[inline]
    pub(super) fn is_ours(&self, place: HandOffSlot) -> bool {
        self.bits(place) & (HELD | SEIZED | WANTED) == HELD
    }

    /// Returns the owner of a guest that the worker may not continue with.
    #[cold]
    pub(super) fn owner(&self, place: HandOffSlot) -> Owner {
        match self.bits(place) & (HELD | SEIZED) {
            HELD => Owner::Wanted,
            _ => Owner::Lost,
        }
    }

    /// Makes the guest busy, which prevents a seizure. Returns false if the host has it already.
    pub(super) fn cover(&self, place: HandOffSlot) -> bool {
        let covered = self.change(|state| {
            let bits = place.bits_of(state)?;
            (bits & (HELD | SEIZED) == HELD).then_some(place.state(bits | BUSY))
        });
        covered.is_some()
    }

    /// Releases a busy guest, so that it is only handed off. Returns false if the host has asked for it.
    pub(super) fn release(&self, place: HandOffSlot) -> bool {
        let held = place.state(HANDED_OFF | HELD | BUSY);
        self.exchange(held, place.state(HANDED_OFF))
    }

    /// Returns whether the host is still reading the work on a guest that it has seized.
    pub(super) fn is_seized(&self, place: HandOffSlot) -> bool {
        self.bits(place) & SEIZED != 0
    }

    /// Returns the bits of a hand-off's state, or 0 if the slot is not this hand-off's.
    #[inline]
    fn bits(&self, place: HandOffSlot) -> u64 {
        let state = self.0.load(Ordering::Acquire);
        place.bits_of(state).unwrap_or_default()
    }
}

impl Slot {
    /// Changes the word, and returns the word before; `None` if there is nothing to change.
    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.0.fetch_update(set, failed, change).ok()
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.0.compare_exchange(from, to, set, failed).is_ok()
    }
}
