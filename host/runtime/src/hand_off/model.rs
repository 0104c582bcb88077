//! A model check of the hand-off: the shipped protocol, run in every order that two processors allow.
//!
//! The files of the protocol are compiled a second time here, with loom's atomics in place of the sibling `atomics`, and
//! in place of `buffer` with bytes that loom watches: it reports a copy that is not ordered after the write. The two threads of a model stand for the two processes. loom runs them in every order, and
//! lets a load return any value that its ordering permits. The guest's socket is a cell that only one side may use at a
//! time; loom reports an access that nothing orders after the other side's last one.
//!
//! loom takes a `SeqCst` access for an `AcqRel` one, so the protocol cannot rest on more than that.

#![allow(dead_code, clippy::duplicate_mod)]
// loom runs the threads of a model on one thread, and its atomics are not `Send`.
#![allow(clippy::arc_with_non_send_sync)]

mod atomics;
mod buffer;
#[path = "cursor.rs"]
mod cursor;
#[path = "line.rs"]
mod line;
mod mapping;
#[path = "memory.rs"]
mod memory;
#[path = "progress.rs"]
mod progress;
#[path = "slot.rs"]
mod slot;
#[path = "state.rs"]
mod state;
mod socket {
    pub(super) use super::super::socket::ByteCounts;
}

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;
use loom::thread;

use atomics::{Died, MADE_BYTES, TAKEN_BYTES, Weaker, die_after, weaken};
use buffer::OwnBuffer;
use cursor::WorkerCursor;
use dae_store::lock::lock;
use progress::Begun;
use slot::{Custody, HandOffSlot, Owner};
use socket::ByteCounts;
use state::HandOffState;

/// The most times that a thread is interrupted where it could go on. Two show every fault of two threads that is known
/// from practice, and more of them take minutes.
const INTERRUPTIONS_MAX: usize = 3;

/// Runs a model in every order.
fn all_orders(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(model);
}

const PLACE: HandOffSlot = HandOffSlot { id: 7, slot: 0 };
/// The guest's lines, of one byte each, and the replies to them.
const LINES: [u8; 2] = *b"ab";
const REPLIES: [u8; 2] = *b"AB";

/// The guest: its socket, as the kernel sees it, and what was done for it.
struct ModelGuest {
    socket: Mutex<Socket>,
    /// loom reports an access to this cell that is not ordered after the other side's last one.
    one_side: UnsafeCell<()>,
    /// The most bytes that come with one read.
    read_bytes: usize,
    /// The number of times that the worker ran each line.
    ran: [AtomicUsize; 2],
    handed_back: Mutex<Option<Unfinished>>,
}

#[derive(Default)]
struct Socket {
    read: usize,
    written: Vec<u8>,
}

/// The worker's unfinished work, which the host continues.
#[derive(Debug, Default)]
struct Unfinished {
    replies: Vec<u8>,
    line: Option<Vec<u8>>,
    rest: Vec<u8>,
}

impl ModelGuest {
    fn that_sends(read_bytes: usize) -> Arc<Self> {
        Arc::new(ModelGuest {
            socket: Mutex::default(),
            one_side: UnsafeCell::new(()),
            read_bytes,
            ran: Default::default(),
            handed_back: Mutex::default(),
        })
    }

    fn with_socket<T>(&self, with: impl FnOnce(&mut Socket) -> T) -> T {
        self.one_side.with_mut(|_| ());
        with(&mut lock(&self.socket))
    }

    fn read(&self, mut room: OwnBuffer<'_, TAKEN_BYTES>) -> usize {
        let before = self.with_socket(|socket| socket.read);
        let unread = &LINES[before..];
        let read = &unread[..unread.len().min(self.read_bytes)];
        assert!(room.write(0, read));
        self.with_socket(|socket| socket.read += read.len());
        read.len()
    }

    fn write(&self, made: &OwnBuffer<'_, MADE_BYTES>, part: Range<usize>) -> usize {
        let mut bytes = Vec::new();
        made.copy_into(part, &mut bytes);
        self.with_socket(|socket| socket.written.extend_from_slice(&bytes));
        bytes.len()
    }

    /// Returns the kernel's counts.
    fn counts(&self) -> ByteCounts {
        self.with_socket(|socket| ByteCounts {
            read: socket.read as u64,
            written: socket.written.len() as u64,
        })
    }
}

/// Serves the guest as the worker does, until it has no more of it or the guest sends nothing more.
fn serve(cursor: &mut WorkerCursor, guest: &ModelGuest) {
    let mut before = ByteCounts {
        read: 0,
        written: 0,
    };
    while cursor.pick_up(PLACE, before) {
        let first = before.read as usize;
        let taken = cursor.read(PLACE, |room| Ok(guest.read(room))).unwrap();
        let (mut at, mut owner) = (0, Owner::Ours);
        while at < taken && owner == Owner::Ours {
            owner = cursor.begin(PLACE, (at, at + 1));
            if owner == Owner::Ours {
                guest.ran[first + at].fetch_add(1, Relaxed);
                assert!(cursor.done(at + 1, &REPLIES[first + at..=first + at]));
                at += 1;
            }
        }
        if taken > 0 && (owner == Owner::Lost || !cursor.finish(PLACE)) {
            return cursor.yield_seized(PLACE);
        }
        cursor.send(|made, part| Ok(guest.write(made, part)));
        let since = cursor.since();
        before.read += since.read;
        before.written += since.written;
        if at < taken || !cursor.release(PLACE) {
            let mut found = Unfinished::default();
            cursor.copy_taken(at, &mut found.rest);
            *lock(&guest.handed_back) = Some(found);
            return cursor.let_go();
        }
        if taken == 0 {
            return;
        }
    }
}

/// Recalls the guest, and seizes it if it does not come at once. Returns what the host has to continue with, if it has
/// the guest now.
fn take_back(state: &HandOffState, guest: &ModelGuest, seizes: bool) -> Option<Unfinished> {
    if state.recall(PLACE) == Custody::Now {
        guest.with_socket(|_| ());
        return Some(Unfinished::default());
    }
    if !seizes || !state.seize(PLACE, None) {
        return None;
    }
    let found = unfinished(state, guest);
    state.clear(PLACE);
    Some(found)
}

fn unfinished(state: &HandOffState, guest: &ModelGuest) -> Unfinished {
    let work = state.lost_work(PLACE.id, guest.counts());
    Unfinished {
        replies: work.replies,
        line: work.line,
        rest: work.rest,
    }
}

/// Checks that each line was run once by one side, or is left to the host, and that no reply is lost or doubled.
/// Returns whether the line that the worker was at had run.
fn check(guest: &ModelGuest, found: &Unfinished) -> Option<bool> {
    let (read, mut replied) = guest.with_socket(|socket| (socket.read, socket.written.clone()));
    replied.extend_from_slice(&found.replies);
    assert_eq!(replied, REPLIES[..replied.len()], "{found:?}");
    let mut lines: Vec<u8> = LINES[..replied.len()].to_vec();
    lines.extend(found.line.iter().flatten());
    lines.extend_from_slice(&found.rest);
    lines.extend_from_slice(&LINES[read..]);
    assert_eq!(lines, LINES, "{found:?}");
    let ran = guest.ran.each_ref().map(|ran| ran.load(Relaxed));
    let begun = replied.len() + usize::from(found.line.is_some());
    assert!(ran[..replied.len()].iter().all(|ran| *ran == 1), "{ran:?}");
    assert!(ran[begun..].iter().all(|ran| *ran == 0), "{ran:?}");
    found.line.as_ref().map(|_| ran[replied.len()] == 1)
}

/// Returns the state of a worker before its first hand-off.
fn no_hand_offs() -> Arc<HandOffState> {
    Arc::new(HandOffState {
        memory: mapping::zeroed(),
    })
}

/// Checks all orders of a worker that serves a guest and a host that takes the guest back.
fn check_taking_back(read_bytes: usize, seizes: bool) {
    all_orders(move || {
        let guest = ModelGuest::that_sends(read_bytes);
        let state = no_hand_offs();
        state.hand_off(PLACE);
        let worker = {
            let (state, guest) = (Arc::clone(&state), Arc::clone(&guest));
            thread::spawn(move || serve(&mut WorkerCursor::at(state), &guest))
        };
        let taken = take_back(&state, &guest, seizes);
        worker.join().unwrap();
        let handed_back = lock(&guest.handed_back).take();
        // One side or the other brings the guest home, and never both.
        let found = match (taken, handed_back) {
            (Some(found), None) | (None, Some(found)) => found,
            both => panic!("{both:?}"),
        };
        assert_ne!(
            check(&guest, &found),
            Some(false),
            "it was begun, and never ran"
        );
    });
}

#[test]
fn a_guest_that_is_recalled_comes_home_once() {
    check_taking_back(2, false);
}

#[test]
fn a_guest_that_is_recalled_between_two_turns_comes_home_once() {
    check_taking_back(1, false);
}

#[test]
fn a_line_is_begun_or_seized_and_never_both() {
    check_taking_back(2, true);
}

#[test]
fn a_guest_is_seized_in_the_turn_that_was_closed() {
    check_taking_back(1, true);
}

#[test]
#[should_panic]
fn without_what_is_released_the_model_fails() {
    weaken(Weaker::Release);
    check_taking_back(2, true);
}

#[test]
#[should_panic]
fn without_what_is_acquired_the_model_fails() {
    weaken(Weaker::Acquire);
    check_taking_back(2, true);
}

/// Checks a worker that dies before its step of that number, while the host asks for the guest. Returns whether it
/// died.
fn check_death(steps: usize) -> bool {
    let has_died = Arc::new(AtomicUsize::new(0));
    let died = Arc::clone(&has_died);
    all_orders(move || {
        let guest = ModelGuest::that_sends(2);
        let state = no_hand_offs();
        state.hand_off(PLACE);
        let worker = {
            let (state, guest) = (Arc::clone(&state), Arc::clone(&guest));
            thread::spawn(move || {
                die_after(steps);
                let served = catch_unwind(AssertUnwindSafe(|| {
                    serve(&mut WorkerCursor::at(state), &guest);
                }));
                match served {
                    Err(why) if !why.is::<Died>() => resume_unwind(why),
                    served => served.is_err(),
                }
            })
        };
        let taken = take_back(&state, &guest, false);
        // The kernel reports the death, and with it all that the worker has stored.
        let is_dead = worker.join().unwrap();
        died.fetch_max(usize::from(is_dead), Relaxed);
        let handed_back = lock(&guest.handed_back).take();
        let found = match (taken, handed_back) {
            (Some(found), None) | (None, Some(found)) => found,
            (None, None) if is_dead => unfinished(&state, &guest),
            both => panic!("{both:?}"),
        };
        check(&guest, &found);
    });
    has_died.load(Relaxed) > 0
}

#[test]
fn whenever_the_worker_dies_its_work_is_found() {
    let steps = (0..).take_while(|steps| check_death(*steps)).count();
    assert!(steps > 20, "{steps}");
}

#[test]
fn a_command_begins_or_is_withdrawn_and_never_both() {
    all_orders(|| {
        let state = no_hand_offs();
        let worker = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let mut last = 0;
                let begins = |index: &usize| state.begin(&mut last, 4, *index);
                (0..2).take_while(begins).count()
            })
        };
        let begun = match state.withdraw(4).begun(4) {
            Begun::None => 0,
            Begun::Some(count) => count,
            Begun::All => 2,
        };
        assert_eq!(begun, worker.join().unwrap());
    });
}

#[test]
fn a_running_command_is_never_told_with_the_start_of_another() {
    all_orders(|| {
        let state = no_hand_offs();
        let worker = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                state.run(4, 0, 40);
                state.run(5, 0, 50);
                state.rest();
            })
        };
        if let Some((word, since)) = state.running_words() {
            assert!(since == 0 || since == 10 * (word >> 16), "{word:x} {since}");
        }
        worker.join().unwrap();
        assert_eq!(state.running(), None);
    });
}
