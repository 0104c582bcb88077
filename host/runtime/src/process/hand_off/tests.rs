//! Tests of the steps that host and worker take at a hand-off state: alone, in every order that matters, and on two
//! threads.

use super::*;

const NOTHING: Counts = Counts {
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
    let read = cursor.read(place(7), |room| {
        room[..bytes.len()].copy_from_slice(bytes);
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
    let hand = hand_off_state.in_hand(7, Counts { read, written });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(hand.replies), hand.line.map(text), text(hand.rest))
}

#[test]
fn whatever_a_worker_was_at_is_found_after_its_death() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(cursor.take_up(place(7), NOTHING));
    let none = || (String::new(), None, String::new());
    assert_eq!(found(&hand_off_state, 0, 0), none());
    read(&mut cursor, b"a\nbc\nd");
    let whole = |text: &str| (String::new(), None, text.to_owned());
    assert_eq!(found(&hand_off_state, 6, 0), whole("a\nbc\nd"));
    // The worker was killed before it could record how much it had read. The kernel's count still covers it.
    hand_off_state.page.hand.taken.store(0, Ordering::Relaxed);
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
    cursor.send(|bytes| Ok(if bytes.len() > 2 { 3 } else { 0 }));
    assert_eq!(
        found(&hand_off_state, 6, 3),
        ("C\n".to_owned(), None, "d".to_owned())
    );
    assert_eq!(cursor.unsent(), b"C\n");
    // The worker had no work of another hand-off.
    assert_eq!(hand_off_state.in_hand(8, NOTHING), LostWork::default());
}

#[test]
fn a_guest_comes_home_at_once_or_at_the_next_line() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert_eq!(hand_off_state.take_home(place(7)), Custody::Now);
    assert!(!cursor.take_up(place(7), NOTHING));
    hand_off_state.hand_off(place(7));
    assert!(cursor.take_up(place(7), NOTHING));
    read(&mut cursor, b"a\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    assert_eq!(hand_off_state.take_home(place(7)), Custody::Soon);
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Wanted);
    assert!(cursor.finish(place(7)));
    cursor.send(|bytes| Ok(bytes.len()));
    assert!(
        !hand_off_state.seize(place(7), None),
        "it is being handed back"
    );
    assert!(!cursor.put_down(place(7)));
    hand_off_state.clear(place(7));
    hand_off_state.hand_off(place(9));
    // A late step changes nothing of another hand-off.
    assert!(!cursor.take_up(place(7), NOTHING) && !hand_off_state.seize(place(7), None));
    assert_eq!(hand_off_state.take_home(place(7)), Custody::Now);
    hand_off_state.clear(place(7));
    assert!(cursor.take_up(place(9), NOTHING) && cursor.put_down(place(9)));
    assert_eq!((hand_off_state.at(), hand_off_state.turns(3)), (None, 2));
}

#[test]
fn what_is_seized_is_the_hosts_alone() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(!hand_off_state.seize(place(7), None), "nobody holds it");
    assert!(cursor.take_up(place(7), NOTHING));
    read(&mut cursor, b"a\nb\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    assert!(
        hand_off_state
            .at()
            .is_some_and(|(hand_off, _)| hand_off == 7)
    );
    assert!(hand_off_state.seize(place(7), None));
    let in_hand = (String::new(), Some("a\n".to_owned()), "b\n".to_owned());
    assert_eq!(found(&hand_off_state, 4, 0), in_hand);
    hand_off_state.clear(place(7));
    // Another guest has the slot now, and the worker does not know that.
    hand_off_state.hand_off(place(9));
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Lost);
    assert!(!cursor.finish(place(7)));
    cursor.yield_seized(place(7));
    assert_eq!(hand_off_state.at(), None);
    assert!(cursor.take_up(place(9), NOTHING));
}

/// Returns the worker's current line, as the host names it.
fn line_of(hand_off_state: &HandOffState) -> Option<Position> {
    hand_off_state.at().map(|(_, line)| line)
}

#[test]
fn a_line_that_ends_while_its_guest_is_seized_is_never_put_back() {
    let (hand_off_state, mut cursor) = both();
    hand_off_state.hand_off(place(7));
    assert!(cursor.take_up(place(7), NOTHING));
    read(&mut cursor, b"a\nb\n");
    assert_eq!(cursor.begin(place(7), (0, 2)), Owner::Ours);
    let stuck = line_of(&hand_off_state);
    // The line ends and the next one begins before the host seizes. Then there is no reason to seize.
    assert!(cursor.done(2, b"A\n"));
    assert_eq!(cursor.begin(place(7), (2, 4)), Owner::Ours);
    assert!(!hand_off_state.seize(place(7), stuck));
    // This line is stuck. It ends just after the seizure, when the host already counts it as begun.
    let stuck = line_of(&hand_off_state);
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
    assert!(cursor.take_up(place(7), NOTHING));
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
    assert!(cursor.take_up(place(9), NOTHING));
    assert!(!hand_off_state.close(place(7), None));
}

#[test]
fn each_line_is_run_or_put_back_and_never_both() {
    const ROUNDS: u64 = 3_000;
    const LINES: usize = 8;
    for round in 1..=ROUNDS {
        let (hand_off_state, mut cursor) = both();
        hand_off_state.hand_off(place(7));
        assert!(cursor.take_up(place(7), NOTHING));
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
        if hand_off_state.seize(place(7), None) {
            let hand = hand_off_state.in_hand(
                7,
                Counts {
                    read: LINES as u64,
                    written: 0,
                },
            );
            let answered = hand.replies.len() + hand.line.map_or(0, |line| line.len());
            let run = worker.join().unwrap();
            assert_eq!((answered, answered + hand.rest.len()), (run, LINES));
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
        LENT | HELD,
        LENT | HELD | BUSY | WANTED,
        LENT | HELD | SEIZED,
    ];
    for bits in sound {
        hand_off_state
            .slot(place(7))
            .store(place(7).state(bits), Ordering::Release);
        assert!(hand_off_state.is_sound(place(7)), "{bits:b}");
    }
    let spoilt = [0, HELD, LENT | WANTED, LENT | BUSY, LENT | HELD | 32, 255];
    for bits in spoilt
        .map(|bits| place(7).state(bits))
        .into_iter()
        .chain([1, u64::MAX])
    {
        hand_off_state.slot(place(7)).store(bits, Ordering::Release);
        assert!(!hand_off_state.is_sound(place(7)), "{bits:b}");
    }
}
