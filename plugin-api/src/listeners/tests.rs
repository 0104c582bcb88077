//! Tests of event handlers: which are called, in which order, and when they end.

use std::sync::{Arc, Mutex};

use crate::Guest;
use crate::fake_host::FakeHost;
use crate::listeners::{TABLE, with_table};

/// The notes that handlers take.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl ToString) {
        self.0.lock().unwrap().push(note.to_string());
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn host_and_guest() -> (FakeHost, Guest, Notes) {
    let host = FakeHost::new();
    let guest = host.guest(5);
    (host, guest, Notes::default())
}

/// Returns whether the table has an entry for that guest.
fn is_known(host: &FakeHost, guest: u64) -> bool {
    with_table(|table| table.contains_key(&(host.host().daemon, guest)))
}

#[test]
fn handlers_run_in_the_order_of_events_and_of_their_registration() {
    let (host, guest, notes) = host_and_guest();
    for who in ["a", "b"] {
        let notes = notes.clone();
        let note = move |(n,): (u64,)| notes.add(format!("{who}{n}"));
        guest.on("tick", note).unwrap();
    }
    let others = notes.clone();
    guest.on("tock", move |()| others.add("tock")).unwrap();
    host.say(5, "tick [1]");
    host.say(5, "tock []");
    host.say(5, "unheard [1]");
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(notes.taken(), ["a1", "b1", "tock", "a2", "b2"]);
    assert_eq!(host.open_queues(), 1, "one queue for each guest");
}

#[test]
fn what_comes_between_registration_and_the_first_run_is_not_missed() {
    let (host, guest, notes) = host_and_guest();
    host.say(5, "tick [0]");
    let noted = notes.clone();
    guest.on("tick", move |n: u64| noted.add(n)).unwrap();
    host.say(5, "tick [1]");
    assert!(notes.taken().is_empty(), "no handler runs within `on`");
    host.settle();
    assert_eq!(notes.taken(), ["1"]);
}

#[test]
fn once_is_once_and_off_is_at_once() {
    let (host, guest, notes) = host_and_guest();
    let (first, second) = (notes.clone(), notes.clone());
    guest
        .once("tick", move |n: u64| first.add(format!("once {n}")))
        .unwrap();
    let listener = guest.on("tick", move |n: u64| second.add(n)).unwrap();
    host.say(5, "tick [1]");
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(notes.taken(), ["once 1", "1", "2"]);
    assert!(!host.guest(6).off(listener), "it is none of that guest's");
    assert!(guest.off(listener));
    assert!(
        !guest.off(listener),
        "a second time there is nothing to take"
    );
    host.say(5, "tick [3]");
    host.settle();
    assert!(notes.taken().is_empty());
}

#[test]
fn a_handler_may_register_remove_and_send() {
    let (host, guest, notes) = host_and_guest();
    let noted = notes.clone();
    let removed = Arc::new(Mutex::new(None));
    let to_remove = Arc::clone(&removed);
    let act = move |n: u64| {
        let inner = noted.clone();
        guest
            .once("tick", move |n: u64| inner.add(format!("inner {n}")))
            .unwrap();
        guest.emit("seen", (n,)).unwrap();
        if let Some(listener) = to_remove.lock().unwrap().take() {
            assert!(guest.off(listener));
        }
    };
    guest.once("tick", act).unwrap();
    let noted = notes.clone();
    let second = guest.on("tick", move |n: u64| noted.add(n)).unwrap();
    *removed.lock().unwrap() = Some(second);
    host.say(5, "tick [1]");
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(
        notes.taken(),
        ["inner 2"],
        "what a handler removes isn't called any more, what it registers not yet"
    );
    assert_eq!(host.emitted(), [(5, "seen [1]".to_owned())]);
}

#[test]
fn one_that_panics_is_logged_and_the_others_go_on() {
    let (host, guest, notes) = host_and_guest();
    guest
        .on("tick", |n: u64| assert!(n > 1, "I can't bear {n}"))
        .unwrap();
    let noted = notes.clone();
    guest.on("tick", move |n: u64| noted.add(n)).unwrap();
    host.say(5, "tick [1]");
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(notes.taken(), ["1", "2"]);
    let logged = host.logged();
    assert!(
        logged.contains("guest 5: a handler of the event tick panicked"),
        "{logged}"
    );
}

#[test]
fn what_does_not_fit_a_handler_is_logged_and_named() {
    let (host, guest, notes) = host_and_guest();
    let noted = notes.clone();
    guest.on("tick", move |(n,): (u64,)| noted.add(n)).unwrap();
    host.say(5, "tick [\"x\"]");
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(notes.taken(), ["2"]);
    let logged = host.logged();
    assert!(
        logged.contains("the event tick was not handled: at [0]: expected a number"),
        "{logged}"
    );
}

#[test]
fn the_table_forgets_a_guest_that_has_gone() {
    let (host, guest, notes) = host_and_guest();
    let noted = notes.clone();
    guest
        .on("disconnect", move |why: String| noted.add(why))
        .unwrap();
    assert!(is_known(&host, 5));
    host.end_guest(5);
    host.settle();
    assert_eq!(notes.taken(), ["it has gone"]);
    assert!(!is_known(&host, 5) && host.tasks() == 0);
    assert_eq!(Arc::strong_count(&notes.0), 1, "its handlers are dropped");
    let error = guest.on("tick", |()| {}).unwrap_err();
    assert!(error.to_string().contains("guest 5 has gone"), "{error}");
    assert!(!is_known(&host, 5));
}

#[test]
fn the_table_forgets_a_daemon_that_has_ended() {
    let (host, guest, notes) = host_and_guest();
    /// A value that uses the table while it is dropped.
    struct Meddler(Notes, Guest);
    impl Drop for Meddler {
        fn drop(&mut self) {
            let refused = self.1.on("tick", |()| {}).is_err();
            self.0.add(format!("refused: {refused}"));
        }
    }
    let meddler = Meddler(notes.clone(), guest);
    let hold = move |()| {
        let _ = &meddler;
    };
    guest.on("tick", hold).unwrap();
    host.settle();
    host.end();
    assert_eq!(notes.taken(), ["refused: true"]);
    assert!(!is_known(&host, 5));
    assert!(TABLE.lock().is_ok(), "nobody panicked with the lock");
}

#[test]
fn handlers_outlive_an_event_queue_that_was_full() {
    let (host, guest, notes) = host_and_guest();
    let noted = notes.clone();
    guest.on("tick", move |n: u64| noted.add(n)).unwrap();
    host.say(5, "tick [1]");
    host.overflow_queues(5);
    host.settle();
    host.say(5, "tick [2]");
    host.settle();
    assert_eq!(notes.taken(), ["1", "2"]);
    let logged = host.logged();
    assert!(
        logged.contains("guest 5: its handlers were too slow"),
        "{logged}"
    );
}

#[test]
fn a_flood_leaves_the_thread_to_others() {
    let (host, guest, notes) = host_and_guest();
    let noted = notes.clone();
    guest.on("tick", move |n: u64| noted.add(n)).unwrap();
    for n in 0..1_000 {
        host.say(5, &format!("tick [{n}]"));
    }
    let eco = host.ecosystem();
    let other = notes.clone();
    eco.spawn(async move { other.add("other") }).unwrap();
    host.settle();
    let notes = notes.taken();
    assert_eq!(notes.len(), 1_001);
    let at = notes.iter().position(|note| note == "other").unwrap();
    assert!(at <= 64, "the other task had its turn after {at} events");
}
