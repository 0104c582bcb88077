//! Who has which guest's socket, the host or its worker, and what of it is in the worker's hands: memory that both share.
//!
//! A guest that is busy is lent to its daemon's own process, which then reads its lines and writes its replies itself: a
//! command costs there what it costs in-process. Nothing is lost by that if the process dies at any moment. What it has
//! read and not yet answered, and what it has answered and not yet written, lies in this memory, which outlives it, and the
//! kernel says how much it has read and written ([`counts()`]).
//!
//! A loan has a slot, whose state says whose move it is. The worker's one thread takes a guest up, works, and puts it down
//! again; between two of these the host takes it home by itself, and from under the worker's hands only at the next line
//! ([`WANTED`]). Where that doesn't come, because a command doesn't end, the host seizes it: from then on the worker has no
//! part in it, whatever it does. Dead or seized, the host reads what was in its hands ([`Ledger::in_hand`]).

mod counts;
mod page;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::stats::{Counting, Shard, Tally};
use page::{Buffer, Page};

pub(crate) use counts::{Counts, counts, keep_in_line};

/// Guests that can be lent to one worker at a time. Those beyond are served by the host, as all are that are not busy.
pub(crate) const SLOTS: usize = 1024;
/// What is read of a guest at a time (bytes).
pub(crate) const TAKEN_BYTES: usize = 16 << 10;
/// What of its replies may wait to be written (bytes). Memory that nothing was written to takes none.
const MADE_BYTES: usize = 256 << 10;

// A slot's state is the id of the loan that has it, above these bits; 0 is a slot that is free. Whoever changes it names the
// loan, so that what is late can't change another's. Who may do what:
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
/// Where the loan's id begins.
const ID_SHIFT: u32 = 8;

/// How long a worker's last stores may take to be seen by another processor: nanoseconds, in fact.
const STORES_SEEN: Duration = Duration::from_micros(10);

/// What is in the memory. All zero is a ledger of nothing.
#[repr(C)]
struct Shared {
    hand: Hand,
    answered: Shard,
    slots: [AtomicU64; SLOTS],
    /// How often the worker has taken each up.
    turns: [AtomicU32; SLOTS],
    taken: Buffer<TAKEN_BYTES>,
    made: Buffer<MADE_BYTES>,
}

/// What the worker works on.
#[repr(C)]
struct Hand {
    /// The loan's id, which is never used again; 0 is none.
    loan: AtomicU64,
    /// How often it has taken something up, to be told from the time before.
    turn: AtomicU64,
    /// What had been read and written of that loan before.
    read_before: AtomicU64,
    written_before: AtomicU64,
    /// How much was read since, plus one; 0 is not known.
    taken: AtomicU64,
    /// Where in `taken` the line begins and ends that it is at.
    line: AtomicU64,
    /// Up to where in `taken` lines are answered, and in `made` the replies go.
    done: AtomicU64,
}

/// Where a loan is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The loan's id, which is never used again.
    pub(crate) id: u64,
    /// Below [`SLOTS`].
    pub(crate) slot: usize,
}

impl Place {
    fn state(self, bits: u64) -> u64 {
        self.id << ID_SHIFT | bits
    }

    /// The bits of a state, if it is this loan's.
    fn bits_of(self, state: u64) -> Option<u64> {
        (state >> ID_SHIFT == self.id).then_some(state & ((1 << ID_SHIFT) - 1))
    }
}

/// What a worker is at: a turn of it, and where the line begins and ends. It changes with each line.
pub(crate) type At = (u64, u64);

/// What was in the hands of a worker that has lost them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InHand {
    /// Replies, or the rest of one, that were not yet written.
    pub(crate) replies: Vec<u8>,
    /// The line it was at, if it was.
    pub(crate) line: Option<Vec<u8>>,
    /// What stood behind it.
    pub(crate) rest: Vec<u8>,
}

/// Whether a guest is at home.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Now,
    /// Once the worker has come to the end of the line it is at.
    Soon,
}

/// Whose a guest is, as its worker sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    /// It is to be handed back.
    Wanted,
    /// The host has it.
    Lost,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Ledger {
    page: Page,
}

impl Ledger {
    /// A new one, of a host, and the file by which its worker opens it.
    ///
    /// # Errors
    /// The system's; `Unsupported` where it has no memory to share.
    pub(crate) fn create() -> io::Result<(Arc<Self>, OwnedFd)> {
        let (page, file) = Page::create()?;
        Ok((Arc::new(Ledger { page }), file))
    }

    /// From now on the worker may take it up.
    pub(crate) fn lend(&self, place: Place) {
        self.slot(place).store(place.state(LENT), Ordering::Release);
    }

    /// Takes it home, or asks for it.
    pub(crate) fn take_home(&self, place: Place) -> Home {
        let ask = |state| match place.bits_of(state)? {
            LENT => Some(0),
            held => Some(place.state(held | WANTED)),
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        match self.slot(place).fetch_update(set, failed, ask) {
            Ok(before) if place.bits_of(before) != Some(LENT) => Home::Soon,
            _ => Home::Now,
        }
    }

    /// Takes it from under the worker's hands, which have held it for too long; false where they are just putting it down
    /// or handing it back. [`Ledger::in_hand`] is next, and [`Ledger::clear`] after that.
    pub(crate) fn seize(&self, place: Place) -> bool {
        let seize = |state| {
            let bits = place.bits_of(state)?;
            (bits & HELD != 0 && bits & BUSY == 0).then_some(place.state(bits | SEIZED))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let is_seized = self.slot(place).fetch_update(set, failed, seize).is_ok();
        if is_seized {
            // A line that the worker began a moment before is on its way to us.
            let seen = Instant::now();
            while seen.elapsed() < STORES_SEEN {
                std::hint::spin_loop();
            }
        }
        is_seized
    }

    /// It is nobody's any more.
    pub(crate) fn clear(&self, place: Place) {
        let clear = |state| place.bits_of(state).map(|_| 0);
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // Where it is another's already, there is nothing to clear.
        let _ = self.slot(place).fetch_update(set, failed, clear);
    }

    fn slot(&self, place: Place) -> &AtomicU64 {
        &self.page.slots[place.slot]
    }

    /// How often the worker has taken something up.
    pub(crate) fn all_turns(&self) -> u64 {
        self.page.hand.turn.load(Ordering::Relaxed)
    }

    /// How often the worker has taken it up.
    pub(crate) fn turns(&self, slot: usize) -> u32 {
        self.page.turns[slot].load(Ordering::Relaxed)
    }

    /// What the worker is at: the loan, and a number that changes with each line. `None` while it is at nothing.
    pub(crate) fn at(&self) -> Option<(u64, At)> {
        let hand = &self.page.hand;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        let loan = number(&hand.loan);
        (loan != 0).then(|| (loan, (number(&hand.turn), number(&hand.line))))
    }

    /// What was in the hands of a worker that is dead, or from whom it was seized. `counts` are those of the loan.
    pub(crate) fn in_hand(&self, loan: u64, counts: Counts) -> InHand {
        let hand = &self.page.hand;
        let number = |of: &AtomicU64| of.load(Ordering::Acquire);
        if number(&hand.loan) != loan {
            return InHand::default();
        }
        let bytes = |count: u64, before: u64| usize::try_from(count.saturating_sub(before));
        let counted = bytes(counts.read, number(&hand.read_before)).unwrap_or(0);
        let known = number(&hand.taken).checked_sub(1);
        let taken = known.map_or(counted, |taken| usize::try_from(taken).unwrap_or(0));
        let written = bytes(counts.written, number(&hand.written_before)).unwrap_or(0);
        let (start, end) = split(number(&hand.line));
        let (answered, made) = split(number(&hand.done));
        let is_at_a_line = end > answered && start >= answered;
        let behind = if is_at_a_line { end } else { answered };
        InHand {
            replies: self.page.made.copy(written, made),
            line: is_at_a_line.then(|| self.page.taken.copy(start, end.min(taken))),
            rest: self.page.taken.copy(behind, taken),
        }
    }
}

impl Counting for Ledger {
    fn counted(&self) -> &Shard {
        &self.page.answered
    }
}

/// The worker's place at a ledger: there is one, and one thread works there.
#[derive(Debug)]
pub(crate) struct Desk {
    ledger: Arc<Ledger>,
    own: Own,
    turn: u64,
    /// How much of the guest's was read, and of the replies made and written, since it was taken up.
    taken: usize,
    made: usize,
    sent: usize,
}

impl Desk {
    /// The worker's, of a file that its host has sent it. There may be one in a process for each file: it is what makes the
    /// buffers its own.
    ///
    /// # Errors
    /// The system's, or that it is no such file.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let page = Page::open(&file)?;
        Ok(Desk {
            ledger: Arc::new(Ledger { page }),
            own: Own(()),
            turn: 0,
            taken: 0,
            made: 0,
            sent: 0,
        })
    }

    /// Takes the guest of a loan up, of which so much has been read and written; false where the host has it back.
    pub(crate) fn take_up(&mut self, place: Place, before: Counts) -> bool {
        let held = place.state(LENT | HELD | BUSY);
        if !self.change(place, place.state(LENT), held) {
            return false;
        }
        (self.taken, self.made, self.sent) = (0, 0, 0);
        self.turn += 1;
        let page = &self.ledger.page;
        let hand = &page.hand;
        hand.taken.store(0, Ordering::Relaxed);
        hand.line.store(0, Ordering::Relaxed);
        hand.done.store(0, Ordering::Relaxed);
        hand.read_before.store(before.read, Ordering::Relaxed);
        hand.written_before.store(before.written, Ordering::Relaxed);
        hand.turn.store(self.turn, Ordering::Relaxed);
        hand.loan.store(place.id, Ordering::Release);
        let turns = page.turns[place.slot].load(Ordering::Relaxed);
        page.turns[place.slot].store(turns.wrapping_add(1), Ordering::Relaxed);
        true
    }

    fn change(&self, place: Place, from: u64, to: u64) -> bool {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = self.ledger.slot(place);
        slot.compare_exchange(from, to, set, failed).is_ok()
    }

    /// Reads what the guest has sent, once after it was taken up. Where there is something, it may be seized from then on.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn read(
        &mut self,
        place: Place,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let page = &self.ledger.page;
        self.taken = read(page.taken.writable(&mut self.own))?;
        page.hand
            .taken
            .store(self.taken as u64 + 1, Ordering::Release);
        if self.taken > 0 {
            // While it is busy, all that the host does is to ask for it.
            self.ledger.slot(place).fetch_and(!BUSY, Ordering::AcqRel);
        }
        Ok(self.taken)
    }

    /// What was read.
    pub(crate) fn taken(&self) -> &[u8] {
        &self.ledger.page.taken.readable(&self.own)[..self.taken]
    }

    /// The line of what was read that is to be answered now, and whose the guest is.
    #[inline]
    pub(crate) fn begin(&self, place: Place, line: (usize, usize)) -> Whose {
        let page = &self.ledger.page;
        page.hand.line.store(pair(line), Ordering::Release);
        match place.bits_of(self.ledger.slot(place).load(Ordering::Acquire)) {
            Some(bits) if bits & (HELD | SEIZED | WANTED) == HELD => Whose::Ours,
            Some(bits) if bits & (HELD | SEIZED) == HELD => {
                page.hand.line.store(0, Ordering::Release);
                Whose::Wanted
            }
            _ => Whose::Lost,
        }
    }

    /// Keeps its reply; false where there is no room for it.
    #[inline]
    pub(crate) fn done(&mut self, line_end: usize, reply: &[u8]) -> bool {
        let page = &self.ledger.page;
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
    pub(crate) fn count(&self, tally: Tally, took: Duration) {
        self.ledger.page.answered.add(tally, took);
    }

    /// From now on it can't be seized, until it is put down or handed back; false where it has been.
    pub(crate) fn finish(&mut self, place: Place) -> bool {
        let finish = |state| {
            let bits = place.bits_of(state)?;
            (bits & (HELD | SEIZED) == HELD).then_some(place.state(bits | BUSY))
        };
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = self.ledger.slot(place);
        slot.fetch_update(set, failed, finish).is_ok()
    }

    /// Writes the replies that were kept, as far as the guest takes them. Only of a guest that can't be seized.
    pub(crate) fn send(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let made = self.ledger.page.made.readable(&self.own);
        while self.sent < self.made {
            match write(&made[self.sent..self.made]) {
                Ok(written @ 1..) => self.sent += written,
                _ => break,
            }
        }
    }

    /// What could not be written.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.ledger.page.made.readable(&self.own)[self.sent..self.made]
    }

    /// What has been read and written since the guest was taken up.
    pub(crate) fn since(&self) -> Counts {
        Counts {
            read: self.taken as u64,
            written: self.sent as u64,
        }
    }

    /// Puts a guest down of whom all is answered and written; false where it is to be handed back.
    pub(crate) fn put_down(&mut self, place: Place) -> bool {
        // Before it may be taken home: nothing of it is here any more.
        self.let_go();
        self.change(place, place.state(LENT | HELD | BUSY), place.state(LENT))
    }

    /// Nothing of the guest is here any more: it was put down, or handed back, and the host has it for certain.
    pub(crate) fn let_go(&mut self) {
        self.ledger.page.hand.loan.store(0, Ordering::Release);
    }

    /// A guest was seized: waits until the host has what was here.
    pub(crate) fn yield_seized(&mut self, place: Place) {
        let is_seized = || {
            let state = self.ledger.slot(place).load(Ordering::Acquire);
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
struct Own(());

fn split(pair: u64) -> (usize, usize) {
    ((pair >> 32) as usize, (pair & u64::from(u32::MAX)) as usize)
}

fn pair((first, second): (usize, usize)) -> u64 {
    ((first as u64) << 32) | second as u64
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const NOTHING: Counts = Counts {
        read: 0,
        written: 0,
    };

    /// A host's side, and its worker's.
    fn both() -> (Arc<Ledger>, Desk) {
        let (ledger, file) = Ledger::create().unwrap();
        (ledger, Desk::open(file).unwrap())
    }

    const fn place(id: u64) -> Place {
        Place { id, slot: 3 }
    }

    fn read(desk: &mut Desk, bytes: &[u8]) {
        let read = desk.read(place(7), |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(read.unwrap(), bytes.len());
    }

    /// What the host finds, if the worker dies now and the kernel has counted so much.
    fn found(ledger: &Ledger, read: u64, written: u64) -> (String, Option<String>, String) {
        let hand = ledger.in_hand(7, Counts { read, written });
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(hand.replies), hand.line.map(text), text(hand.rest))
    }

    #[test]
    fn whatever_a_worker_was_at_is_found_after_its_death() {
        let (ledger, mut desk) = both();
        ledger.lend(place(7));
        assert!(desk.take_up(place(7), NOTHING));
        let none = || (String::new(), None, String::new());
        assert_eq!(found(&ledger, 0, 0), none());
        read(&mut desk, b"a\nbc\nd");
        let whole = |text: &str| (String::new(), None, text.to_owned());
        assert_eq!(found(&ledger, 6, 0), whole("a\nbc\nd"));
        // Killed before it could say how much it had read, it has read it all the same.
        ledger.page.hand.taken.store(0, Ordering::Relaxed);
        assert_eq!(found(&ledger, 6, 0), whole("a\nbc\nd"));
        assert_eq!(desk.begin(place(7), (0, 2)), Whose::Ours);
        let at_a = (String::new(), Some("a\n".to_owned()), "bc\nd".to_owned());
        assert_eq!(found(&ledger, 6, 0), at_a);
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(place(7), (2, 5)), Whose::Ours);
        let at_b = ("A\n".to_owned(), Some("bc\n".to_owned()), "d".to_owned());
        assert_eq!(found(&ledger, 6, 0), at_b);
        assert!(desk.done(5, b"BC\n"));
        assert_eq!(
            found(&ledger, 6, 0),
            ("A\nBC\n".to_owned(), None, "d".to_owned())
        );
        // The kernel took three bytes and no more.
        assert!(desk.finish(place(7)));
        desk.send(|bytes| Ok(if bytes.len() > 2 { 3 } else { 0 }));
        assert_eq!(
            found(&ledger, 6, 3),
            ("C\n".to_owned(), None, "d".to_owned())
        );
        assert_eq!(desk.unsent(), b"C\n");
        // Of another loan nothing was in its hands.
        assert_eq!(ledger.in_hand(8, NOTHING), InHand::default());
    }

    #[test]
    fn a_guest_comes_home_at_once_or_at_the_next_line() {
        let (ledger, mut desk) = both();
        ledger.lend(place(7));
        assert_eq!(ledger.take_home(place(7)), Home::Now);
        assert!(!desk.take_up(place(7), NOTHING));
        ledger.lend(place(7));
        assert!(desk.take_up(place(7), NOTHING));
        read(&mut desk, b"a\n");
        assert_eq!(desk.begin(place(7), (0, 2)), Whose::Ours);
        assert_eq!(ledger.take_home(place(7)), Home::Soon);
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(place(7), (2, 4)), Whose::Wanted);
        assert!(desk.finish(place(7)));
        desk.send(|bytes| Ok(bytes.len()));
        assert!(!ledger.seize(place(7)), "it is being handed back");
        assert!(!desk.put_down(place(7)));
        ledger.clear(place(7));
        ledger.lend(place(9));
        // Whoever is late changes nothing of another's loan.
        assert!(!desk.take_up(place(7), NOTHING) && !ledger.seize(place(7)));
        assert_eq!(ledger.take_home(place(7)), Home::Now);
        ledger.clear(place(7));
        assert!(desk.take_up(place(9), NOTHING) && desk.put_down(place(9)));
        assert_eq!((ledger.at(), ledger.turns(3)), (None, 2));
    }

    #[test]
    fn what_is_seized_is_the_hosts_alone() {
        let (ledger, mut desk) = both();
        ledger.lend(place(7));
        assert!(!ledger.seize(place(7)), "nobody holds it");
        assert!(desk.take_up(place(7), NOTHING));
        read(&mut desk, b"a\nb\n");
        assert_eq!(desk.begin(place(7), (0, 2)), Whose::Ours);
        assert!(ledger.at().is_some_and(|(loan, _)| loan == 7));
        assert!(ledger.seize(place(7)));
        let in_hand = (String::new(), Some("a\n".to_owned()), "b\n".to_owned());
        assert_eq!(found(&ledger, 4, 0), in_hand);
        ledger.clear(place(7));
        // Another guest has the slot by now, and the worker knows nothing of it.
        ledger.lend(place(9));
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(place(7), (2, 4)), Whose::Lost);
        assert!(!desk.finish(place(7)));
        desk.yield_seized(place(7));
        assert_eq!(ledger.at(), None);
        assert!(desk.take_up(place(9), NOTHING));
    }
}
