//! The load of a reload test: guests that send commands without end and check every reply.
//!
//! Each command carries a mark, and its reply returns the mark: this shows that no reply is lost, doubled or out of
//! order. Each reply also returns the count that the command has made, in a state that goes through every reload. Over
//! all guests the counts must be 1, 2, 3 … without gaps or duplicates, which proves more than their sum would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dae_tests::Guest;

/// The number of guests; every second one pipelines.
const GUESTS: u64 = 20;

/// The commands in flight of a guest that pipelines.
const PIPELINED: u64 = 16;

/// The distance between two slow commands, so that reloads meet running commands.
const SLOW_EVERY: u64 = 8;

/// The duration of a slow command (ms).
const SLOW_MS: u64 = 3;

/// The pause between two batches of a guest. Without it the load takes both processors of a small machine, and the test
/// measures how long the host waits for one.
const PAUSE: Duration = Duration::from_millis(5);

/// A group of guests that send commands until the end of the load.
pub(super) struct Traffic {
    is_over: Arc<AtomicBool>,
    guests: Vec<JoinHandle<Told>>,
}

/// The results of the load.
#[derive(Default)]
pub(super) struct Told {
    pub(super) counts: Vec<u64>,
    pub(super) versions: BTreeSet<u64>,
    /// The longest duration of a batch.
    pub(super) longest: Duration,
}

impl Traffic {
    pub(super) fn start(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let guest = |number| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || ask(port, number, &is_over))
        };
        Traffic {
            guests: (0..GUESTS).map(guest).collect(),
            is_over,
        }
    }

    /// Ends the load, and asserts that every command was answered once and counted once.
    #[track_caller]
    pub(super) fn end(self) -> Told {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for guest in self.guests {
            let told = guest
                .join()
                .expect("a guest found a fault; it stands above");
            all.counts.extend(told.counts);
            all.versions.extend(told.versions);
            all.longest = all.longest.max(told.longest);
        }
        all.counts.sort_unstable();
        let gap = (1..)
            .zip(&all.counts)
            .find(|(right, count)| right != *count);
        assert_eq!(
            gap, None,
            "(expected, came): an increment was lost or made twice"
        );
        all
    }
}

fn ask(port: u16, number: u64, is_over: &AtomicBool) -> Told {
    let mut guest = Guest::connect(port);
    let mut told = Told::default();
    let batch = if number.is_multiple_of(2) {
        PIPELINED
    } else {
        1
    };
    let mut first = 1;
    while !is_over.load(Ordering::Relaxed) {
        let marks = first..first + batch;
        first += batch;
        let lines: String = marks.clone().map(line).collect();
        let began = Instant::now();
        guest.send(lines);
        marks.for_each(|mark| told.take(&mut guest, mark));
        told.longest = told.longest.max(began.elapsed());
        std::thread::sleep(PAUSE);
    }
    told
}

fn line(mark: u64) -> String {
    match mark.is_multiple_of(SLOW_EVERY) {
        true => format!("slow [{mark},{SLOW_MS}]\n"),
        false => format!("increment [{mark}]\n"),
    }
}

impl Told {
    /// Takes the next reply, and asserts that it answers the command with that mark.
    fn take(&mut self, guest: &mut Guest, mark: u64) {
        let reply = guest.message();
        let asked = match mark.is_multiple_of(SLOW_EVERY) {
            true => "slow",
            false => "increment",
        };
        assert_eq!(reply.name, asked, "the reply to {mark}: {reply:?}");
        let numbers = reply.arguments[0].as_array().expect("three numbers");
        let number = |at: usize| numbers[at].as_u64().expect("a number");
        assert_eq!(number(0), mark, "the replies' order");
        self.versions.insert(number(1));
        self.counts.push(number(2));
    }
}
