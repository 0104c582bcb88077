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
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::stats::{Counting, Shard, Tally};
use page::{Buffer, Page};

pub(crate) use counts::{Counts, counts};

/// Guests that can be lent to one worker at a time. Those beyond are served by the host, as all are that are not busy.
pub(crate) const SLOTS: usize = 1024;
/// What is read of a guest at a time (bytes).
pub(crate) const TAKEN_BYTES: usize = 16 << 10;
/// What of its replies may wait to be written (bytes). Memory that nothing was written to takes none.
const MADE_BYTES: usize = 256 << 10;

/// The worker may take it up. The bits of a slot's state; none is a slot that is free, or whose guest is at home.
const LENT: u32 = 1;
/// The worker has taken it up.
const HELD: u32 = 2;
/// The host wants it back.
const WANTED: u32 = 4;
/// The worker is writing to the guest.
const WRITING: u32 = 8;
/// The host has taken it from under the worker's hands, and reads what was there.
const SEIZED: u32 = 16;

/// What is in the memory. All zero is a ledger of nothing.
#[repr(C)]
struct Shared {
    hand: Hand,
    answered: Shard,
    slots: [AtomicU32; SLOTS],
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
    /// Where in `taken` the line begins and ends that it is at.
    line: AtomicU64,
    /// Up to where in `taken` lines are answered, and in `made` the replies go.
    done: AtomicU64,
}

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
    /// A new one, of a host.
    ///
    /// # Errors
    /// The system's; `Unsupported` where it has no memory to share.
    pub(crate) fn create() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Ledger {
            page: Page::create()?,
        }))
    }

    /// What its worker opens.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.page.file()
    }

    /// From now on the worker may take it up.
    pub(crate) fn lend(&self, slot: usize) {
        self.page.slots[slot].store(LENT, Ordering::Release);
    }

    /// Takes it home, or asks for it.
    pub(crate) fn take_home(&self, slot: usize) -> Home {
        let ask = |state| match state {
            LENT | 0 => Some(0),
            held => Some(held | WANTED),
        };
        let asked = self.page.slots[slot].fetch_update(Ordering::AcqRel, Ordering::Acquire, ask);
        match asked {
            Ok(LENT | 0) => Home::Now,
            _ => Home::Soon,
        }
    }

    /// Takes it from under the worker's hands, which have held it for too long; false where they are just putting it down,
    /// so that it may be asked again. [`Ledger::in_hand`] is next, and [`Ledger::clear`] after that.
    pub(crate) fn seize(&self, slot: usize) -> bool {
        let seize = |state| (state & HELD != 0 && state & WRITING == 0).then_some(state | SEIZED);
        let seized = self.page.slots[slot].fetch_update(Ordering::AcqRel, Ordering::Acquire, seize);
        seized.is_ok()
    }

    /// It is nobody's any more.
    pub(crate) fn clear(&self, slot: usize) {
        self.page.slots[slot].store(0, Ordering::Release);
    }

    /// How often the worker has taken it up.
    pub(crate) fn turns(&self, slot: usize) -> u32 {
        self.page.turns[slot].load(Ordering::Relaxed)
    }

    /// What the worker is at: the loan, and a number that changes with each line. `None` while it is at nothing.
    pub(crate) fn at(&self) -> Option<(u64, (u64, u64))> {
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
        let taken = bytes(counts.read, number(&hand.read_before)).unwrap_or(0);
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
    /// The worker's, of a file that its host has sent it. Once for each file.
    ///
    /// # Errors
    /// The system's, or that it is no such file.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let page = Page::open(file)?;
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
    pub(crate) fn take_up(&mut self, (loan, slot): (u64, usize), before: Counts) -> bool {
        let page = &self.ledger.page;
        let (held, failed) = (Ordering::AcqRel, Ordering::Acquire);
        if page.slots[slot]
            .compare_exchange(LENT, LENT | HELD, held, failed)
            .is_err()
        {
            return false;
        }
        (self.taken, self.made, self.sent) = (0, 0, 0);
        self.turn += 1;
        let hand = &page.hand;
        hand.line.store(0, Ordering::Relaxed);
        hand.done.store(0, Ordering::Relaxed);
        hand.read_before.store(before.read, Ordering::Relaxed);
        hand.written_before.store(before.written, Ordering::Relaxed);
        hand.turn.store(self.turn, Ordering::Relaxed);
        hand.loan.store(loan, Ordering::Release);
        let turns = page.turns[slot].load(Ordering::Relaxed);
        page.turns[slot].store(turns.wrapping_add(1), Ordering::Relaxed);
        true
    }

    /// Reads what the guest has sent; once after it was taken up.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn read(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.taken = read(self.ledger.page.taken.writable(&mut self.own))?;
        Ok(self.taken)
    }

    /// What was read.
    pub(crate) fn taken(&self) -> &[u8] {
        &self.ledger.page.taken.readable(&self.own)[..self.taken]
    }

    /// The line of what was read that is to be answered now, and whose the guest is.
    #[inline]
    pub(crate) fn begin(&self, slot: usize, line: (usize, usize)) -> Whose {
        let page = &self.ledger.page;
        page.hand.line.store(pair(line), Ordering::Release);
        // A line that begins in the very moment in which its guest is seized, seconds after the one before it, is one that
        // a process stopped by a debugger may run although the host has told it `timeout`.
        match page.slots[slot].load(Ordering::Acquire) {
            state if state & (HELD | SEIZED) != HELD => Whose::Lost,
            state if state & WANTED != 0 => {
                page.hand.line.store(0, Ordering::Release);
                Whose::Wanted
            }
            _ => Whose::Ours,
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

    /// Writes the replies that were kept, as far as the guest takes them; false where the host has seized the guest.
    pub(crate) fn send(
        &mut self,
        slot: usize,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> bool {
        let page = &self.ledger.page;
        let may = |state| (state & (HELD | SEIZED) == HELD).then_some(state | WRITING);
        let begun = page.slots[slot].fetch_update(Ordering::AcqRel, Ordering::Acquire, may);
        if begun.is_err() {
            return false;
        }
        while self.sent < self.made {
            let rest = &page.made.readable(&self.own)[self.sent..self.made];
            match write(rest) {
                Ok(written @ 1..) => self.sent += written,
                _ => break,
            }
        }
        page.slots[slot].fetch_and(!WRITING, Ordering::Release);
        true
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
    pub(crate) fn put_down(&mut self, slot: usize) -> bool {
        let page = &self.ledger.page;
        let (let_go, failed) = (Ordering::AcqRel, Ordering::Acquire);
        // Before it may be taken home: nothing of it is here any more.
        page.hand.loan.store(0, Ordering::Release);
        page.slots[slot]
            .compare_exchange(LENT | HELD, LENT, let_go, failed)
            .is_ok()
    }

    /// A guest was handed back, and the host has it for certain.
    pub(crate) fn let_go(&mut self) {
        self.ledger.page.hand.loan.store(0, Ordering::Release);
    }

    /// A guest was seized: waits until the host has what was here.
    pub(crate) fn yield_seized(&mut self, slot: usize) {
        while self.ledger.page.slots[slot].load(Ordering::Acquire) & SEIZED != 0 {
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
        let ledger = Ledger::create().unwrap();
        let file = ledger.file().try_clone_to_owned().unwrap();
        (ledger, Desk::open(file).unwrap())
    }

    fn read(desk: &mut Desk, bytes: &[u8]) {
        let read = desk.read(|room| {
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
        ledger.lend(3);
        assert!(desk.take_up((7, 3), NOTHING));
        let none = || (String::new(), None, String::new());
        assert_eq!(found(&ledger, 0, 0), none());
        read(&mut desk, b"a\nbc\nd");
        // Killed before it could keep how much it had read, it has read it all the same.
        let whole = |text: &str| (String::new(), None, text.to_owned());
        assert_eq!(found(&ledger, 6, 0), whole("a\nbc\nd"));
        assert_eq!(desk.begin(3, (0, 2)), Whose::Ours);
        let at_a = (String::new(), Some("a\n".to_owned()), "bc\nd".to_owned());
        assert_eq!(found(&ledger, 6, 0), at_a);
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(3, (2, 5)), Whose::Ours);
        let at_b = ("A\n".to_owned(), Some("bc\n".to_owned()), "d".to_owned());
        assert_eq!(found(&ledger, 6, 0), at_b);
        assert!(desk.done(5, b"BC\n"));
        assert_eq!(
            found(&ledger, 6, 0),
            ("A\nBC\n".to_owned(), None, "d".to_owned())
        );
        // The kernel took three bytes and no more.
        assert!(desk.send(3, |bytes| Ok(if bytes.len() > 2 { 3 } else { 0 })));
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
        ledger.lend(0);
        assert_eq!(ledger.take_home(0), Home::Now);
        assert!(!desk.take_up((7, 0), NOTHING));
        ledger.lend(0);
        assert!(desk.take_up((7, 0), NOTHING));
        read(&mut desk, b"a\n");
        assert_eq!(desk.begin(0, (0, 2)), Whose::Ours);
        assert_eq!(ledger.take_home(0), Home::Soon);
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(0, (2, 4)), Whose::Wanted);
        assert!(desk.send(0, |bytes| Ok(bytes.len())));
        assert!(!desk.put_down(0));
        ledger.clear(0);
        ledger.lend(0);
        assert!(desk.take_up((9, 0), NOTHING) && desk.put_down(0));
        assert_eq!((ledger.at(), ledger.turns(0)), (None, 2));
    }

    #[test]
    fn what_is_seized_is_the_hosts_alone() {
        let (ledger, mut desk) = both();
        ledger.lend(1);
        assert!(!ledger.seize(1), "nobody holds it");
        assert!(desk.take_up((7, 1), NOTHING));
        read(&mut desk, b"a\nb\n");
        assert_eq!(desk.begin(1, (0, 2)), Whose::Ours);
        assert!(ledger.at().is_some_and(|(loan, _)| loan == 7));
        assert!(ledger.seize(1));
        let in_hand = (String::new(), Some("a\n".to_owned()), "b\n".to_owned());
        assert_eq!(found(&ledger, 4, 0), in_hand);
        ledger.clear(1);
        // Another guest has the slot by now, and the worker knows nothing of it.
        ledger.lend(1);
        assert!(desk.done(2, b"A\n"));
        assert_eq!(desk.begin(1, (2, 4)), Whose::Lost);
        assert!(!desk.send(1, |_| panic!("not to this guest")));
        desk.yield_seized(1);
        assert_eq!((ledger.at(), ledger.take_home(1)), (None, Home::Now));
    }
}
