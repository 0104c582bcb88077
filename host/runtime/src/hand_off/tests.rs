//! Tests of the steps that host and worker take at a hand-off state: alone, in every order that matters, and on two
//! threads.

use super::atomics::{Ordering, TAKEN_BYTES};
use super::buffer::BufferGuard;
use super::cursor::WorkerCursor;
use super::progress::Begun;
use super::slot::{BUSY, Custody, HANDED_OFF, HELD, HandOffSlot, Owner, SEIZED, WANTED};
use super::socket::ByteCounts;
use super::state::{HandOffState, LostWork, Position};
use crate::os::clock::monotonic_ns;
use std::sync::Arc;
use std::time::Duration;

const NOTHING: ByteCounts = ByteCounts {
    read: 0,
    written: 0,
};

/// Returns the host's side and the worker's.
fn both() -> (Arc<HandOffState>, WorkerCursor) {
    let (hand_off_state, file) = HandOffState::create().unwrap();
    (
        hand_off_state,
        WorkerCursor::at(HandOffState::open(&file).unwrap()),
    )
}

const fn place(id: u64) -> HandOffSlot {
    HandOffSlot { id, slot: 3 }
}

fn read(cursor: &mut WorkerCursor, bytes: &[u8]) {
    let read = cursor.read(place(7), |mut room| {
        assert!(room.write(0, bytes));
        Ok(bytes.len())
    });
    assert_eq!(read.unwrap(), bytes.len());
}

/// Returns what the host finds if the worker dies now and the kernel has counted these numbers of bytes.
fn found(
    hand_off_state: &HandOffState,
    read: u64,
    written: u64,
) -> (String, Option<String>, String) {
    let work = hand_off_state.lost_work(7, ByteCounts { read, written });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(work.replies), work.line.map(text), text(work.rest))
}

#[test]
fn whatever_a_worker_was_at_is_found_after_its_death() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(cursor.pick_up(place(7), NOTHING));
    let none = || (String::new(), None, String::new());
    assert_eq!(found(&hand_off_state, 0, 0), none());
    read(&mut cursor, b"a\nbc\nd");
    let whole = |text: &str| (String::new(), None, text.to_owned());
    assert_eq!(found(&hand_off_state, 6, 0), whole("a\nbc\nd"));
    // The worker was killed before it could record how much it had read. The kernel's count still covers it.
    hand_off_state
        .memory
        .cursor
        .taken
        .store(0, Ordering::Relaxed);
    assert_eq!(found(&hand_off_state, 6, 0), whole("a\nbc\nd"));
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    let at_a = (String::new(), Some("a\n".to_owned()), "bc\nd".to_owned());
    assert_eq!(found(&hand_off_state, 6, 0), at_a);
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 5)), Owner::Ours);
    let at_b = ("A\n".to_owned(), Some("bc\n".to_owned()), "d".to_owned());
    assert_eq!(found(&hand_off_state, 6, 0), at_b);
    assert!(cursor.done(5, b"BC\n"));
    assert_eq!(
        found(&hand_off_state, 6, 0),
        ("A\nBC\n".to_owned(), None, "d".to_owned())
    );
    // The kernel took three bytes and no more.
    assert!(cursor.finish(place(7)));
    cursor.send(|_, part| Ok(if part.len() > 2 { 3 } else { 0 }));
    assert_eq!(
        found(&hand_off_state, 6, 3),
        ("C\n".to_owned(), None, "d".to_owned())
    );
    assert_eq!(cursor.unsent(), b"C\n");
    // The worker had no work of another hand-off.
    assert_eq!(hand_off_state.lost_work(8, NOTHING), LostWork::default());
}

#[test]
fn a_recalled_guest_returns_at_once_or_at_the_next_line() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert_eq!(hand_off_state.recall(place(7)), Custody::Now);
    assert!(!cursor.pick_up(place(7), NOTHING));
    hand_off_state.hand_off(place(7));
    assert!(cursor.pick_up(place(7), NOTHING));
    read(&mut cursor, b"a\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    assert_eq!(hand_off_state.recall(place(7)), Custody::Soon);
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Wanted);
    assert!(cursor.finish(place(7)));
    cursor.send(|_, part| Ok(part.len()));
    assert!(
        !hand_off_state.seize(place(7), None),
        "it is being handed back"
    );
    assert!(!cursor.release(place(7)));
    hand_off_state.clear(place(7));
    hand_off_state.hand_off(place(9));
    // A late step changes nothing of another hand-off.
    assert!(!cursor.pick_up(place(7), NOTHING) && !hand_off_state.seize(place(7), None));
    assert_eq!(hand_off_state.recall(place(7)), Custody::Now);
    hand_off_state.clear(place(7));
    assert!(cursor.pick_up(place(9), NOTHING) && cursor.release(place(9)));
    assert_eq!((hand_off_state.at(), hand_off_state.turns(3)), (None, 2));
}

#[test]
fn what_is_seized_is_the_hosts_alone() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(!hand_off_state.seize(place(7), None), "nobody holds it");
    assert!(cursor.pick_up(place(7), NOTHING));
    read(&mut cursor, b"a\nb\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    assert!(
        hand_off_state
            .at()
            .is_some_and(|(hand_off, _)| hand_off == 7)
    );
    assert!(
        !hand_off_state.seize(place(7), None),
        "the host has not asked for it"
    );
    assert_eq!(hand_off_state.recall(place(7)), Custody::Soon);
    assert!(hand_off_state.seize(place(7), None));
    let lost = (String::new(), Some("a\n".to_owned()), "b\n".to_owned());
    assert_eq!(found(&hand_off_state, 4, 0), lost);
    hand_off_state.clear(place(7));
    // Another guest has the slot now, and the worker does not know that.
    hand_off_state.hand_off(place(9));
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Lost);
    assert!(!cursor.finish(place(7)));
    cursor.yield_seized(place(7));
    assert_eq!(hand_off_state.at(), None);
    assert!(cursor.pick_up(place(9), NOTHING));
}

/// Returns the worker's current line, as the host names it.
fn line_of(hand_off_state: &HandOffState) -> Option<Position> {
    hand_off_state.at().map(|(_, line)| line)
}

#[test]
fn a_line_that_ends_while_its_guest_is_seized_is_never_put_back() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(cursor.pick_up(place(7), NOTHING));
    read(&mut cursor, b"a\nb\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    let stuck = line_of(&hand_off_state);
    // The line ends and the next one begins before the host seizes. Then there is no reason to seize.
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Ours);
    assert!(!hand_off_state.seize(place(7), stuck));
    // This line is stuck. It ends just after the seizure, when the host already counts it as begun.
    let stuck = line_of(&hand_off_state);
    assert_eq!(hand_off_state.recall(place(7)), Custody::Soon);
    assert!(hand_off_state.seize(place(7), stuck));
    let seen = found(&hand_off_state, 4, 0);
    assert!(cursor.done(4, b"B\n"));
    assert_eq!(
        seen,
        ("A\n".to_owned(), Some("b\n".to_owned()), String::new())
    );
    assert_eq!(cursor.begin(place(7), (4, 4)), Owner::Lost);
}

#[test]
fn a_worker_that_ends_its_line_while_the_turn_is_closed_begins_no_other() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(cursor.pick_up(place(7), NOTHING));
    read(&mut cursor, b"a\nb\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    // The moment between the two steps: the host has closed the turn, and has not yet changed the slot.
    assert!(hand_off_state.close(place(7), line_of(&hand_off_state)));
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Wanted);
    assert_eq!(
        found(&hand_off_state, 4, 0),
        ("A\n".to_owned(), None, "b\n".to_owned())
    );
    // The worker hands the guest back, and the host finds nothing to seize.
    assert!(cursor.finish(place(7)));
    assert!(!hand_off_state.seize(place(7), None));
    // A turn of another hand-off in the same slot is not the one that was closed.
    hand_off_state.clear(place(7));
    cursor.let_go();
    hand_off_state.hand_off(place(9));
    assert!(cursor.pick_up(place(9), NOTHING));
    assert!(!hand_off_state.close(place(7), None));
}

#[test]
fn each_line_is_run_or_put_back_and_never_both() {
    const ROUNDS: u64 = 3_000;
    const LINES: usize = 8;
    for round in 1..=ROUNDS {
        let (hand_off_state, mut cursor) = both();
        hand_off_state.hand_off(place(7));
        assert!(cursor.pick_up(place(7), NOTHING));
        read(&mut cursor, &[b'\n'; LINES]);
        let worker = std::thread::spawn(move || {
            let run = |line: &usize| {
                let is_begun = cursor.begin(place(7), (*line, line + 1)) == Owner::Ours;
                is_begun && cursor.done(line + 1, b"x")
            };
            (0..LINES).take_while(run).count()
        });
        for _ in 0..round % 97 {
            std::hint::spin_loop();
        }
        assert_eq!(hand_off_state.recall(place(7)), Custody::Soon);
        if hand_off_state.seize(place(7), None) {
            let work = hand_off_state.lost_work(
                7,
                ByteCounts {
                    read: LINES as u64,
                    written: 0,
                },
            );
            let answered = work.replies.len() + work.line.map_or(0, |line| line.len());
            let run = worker.join().unwrap();
            assert_eq!((answered, answered + work.rest.len()), (run, LINES));
        } else {
            worker.join().unwrap();
        }
    }
}

#[test]
fn a_state_that_no_rule_leads_to_is_not_sound() {
    let (hand_off_state, _) = both();
    hand_off_state.hand_off(place(7));
    assert!(hand_off_state.is_sound(place(7)));
    let sound = [
        HANDED_OFF | HELD,
        HANDED_OFF | HELD | BUSY | WANTED,
        HANDED_OFF | HELD | SEIZED,
    ];
    for bits in sound {
        hand_off_state
            .slot(place(7))
            .0
            .store(place(7).state(bits), Ordering::Release);
        assert!(hand_off_state.is_sound(place(7)), "{bits:b}");
    }
    let spoilt = [
        0,
        HELD,
        HANDED_OFF | WANTED,
        HANDED_OFF | BUSY,
        HANDED_OFF | HELD | 32,
        255,
    ];
    for bits in spoilt
        .map(|bits| place(7).state(bits))
        .into_iter()
        .chain([1, u64::MAX])
    {
        hand_off_state
            .slot(place(7))
            .0
            .store(bits, Ordering::Release);
        assert!(!hand_off_state.is_sound(place(7)), "{bits:b}");
    }
}

#[test]
fn what_has_begun_is_told_from_what_is_withdrawn_and_never_begins() {
    let (hand_off_state, _file) = HandOffState::create().unwrap();
    let mut last = 0;
    assert_eq!(hand_off_state.begun(4), Begun::None);
    assert!(hand_off_state.begin(&mut last, 4, 0) && hand_off_state.begin(&mut last, 4, 1));
    assert_eq!(
        (hand_off_state.begun(4), hand_off_state.begun(3)),
        (Begun::Some(2), Begun::All)
    );
    let front = hand_off_state.withdraw(5);
    assert_eq!(
        (front.begun(4), front.begun(5)),
        (Begun::Some(2), Begun::None)
    );
    // The withdrawal covers the rest of a batch and the next one. A later one begins.
    assert!(!hand_off_state.begin(&mut last, 4, 2) && !hand_off_state.begin(&mut last, 5, 0));
    assert!(hand_off_state.begin(&mut last, 6, 0));
    assert_eq!(hand_off_state.withdraw(5).begun(6), Begun::Some(1));
}

#[test]
fn a_command_that_runs_is_seen_with_its_time_and_nonsense_is_no_time() {
    let (hand_off_state, _file) = HandOffState::create().unwrap();
    assert_eq!(hand_off_state.running(), None);
    hand_off_state.run(4, 1, monotonic_ns() - 1_000_000);
    let running = hand_off_state.running().unwrap();
    assert_eq!((running.id, running.index), (4, 1));
    assert!(running.time >= Duration::from_millis(1));
    hand_off_state.run(4, 2, u64::MAX);
    assert_eq!(hand_off_state.running().unwrap().time, Duration::ZERO);
    hand_off_state.rest();
    assert_eq!(hand_off_state.running(), None);
}

#[test]
fn on_two_threads_a_command_begins_or_is_withdrawn_and_never_both() {
    const COMMANDS: usize = 50;
    for round in 0..2_000 {
        let (hand_off_state, file) = HandOffState::create().unwrap();
        let theirs = HandOffState::open(&file).unwrap();
        let worker = std::thread::spawn(move || {
            let mut last = 0;
            (0..COMMANDS)
                .filter(|index| theirs.begin(&mut last, 4, *index))
                .count()
        });
        for _ in 0..round % 61 {
            std::hint::spin_loop();
        }
        let begun = match hand_off_state.withdraw(4).begun(4) {
            Begun::None => 0,
            Begun::Some(count) => count,
            Begun::All => COMMANDS,
        };
        assert_eq!(begun, worker.join().unwrap());
    }
}

#[test]
fn a_buffer_gives_back_what_was_written_at_any_offset_and_nothing_past_its_end() {
    let (hand_off_state, _file) = HandOffState::create().unwrap();
    let (taken, mut guard) = (&hand_off_state.memory.taken, BufferGuard::of_cursor());
    let mut own = taken.own(&mut guard);
    let bytes: Vec<u8> = (1..=40).collect();
    for start in 0..9 {
        for length in 0..32 {
            assert!(own.write(0, &[0xee; 40]) && own.write(start, &bytes[..length]));
            let copy = taken.copy(0..40);
            assert_eq!(copy[..start], vec![0xee; start]);
            assert_eq!(copy[start..start + length], bytes[..length]);
            assert_eq!(copy[start + length..], vec![0xee; 40 - start - length]);
            assert_eq!(taken.copy(start..start + length), bytes[..length]);
            let mut private = b"x".to_vec();
            own.copy_into(start..start + length, &mut private);
            assert_eq!(private[1..], bytes[..length]);
        }
    }
    assert!(own.write(TAKEN_BYTES - 3, b"end") && !own.write(TAKEN_BYTES - 2, b"end"));
    assert_eq!(taken.copy(TAKEN_BYTES - 3..usize::MAX), b"end");
    assert!(own.write(TAKEN_BYTES, b"") && !own.write(usize::MAX, b"x"));
    let (from, to) = (9, 3);
    assert!(taken.copy(from..to).is_empty() && taken.copy(usize::MAX..usize::MAX).is_empty());
    assert_eq!(own.address(from..to).1, 0);
}
