//! Guests that keep a daemon busy, and hold it to what it owes them: every command answered once, in order.
//!
//! Twenty connections, each on a thread of its own: half of them send a command, wait for its reply and send the next;
//! the others have many in flight, with tags and without. Whatever happens to the daemon meanwhile, a command may be
//! answered by its reply or by `crashed`, and in no other way; how many were which is told at the end.
//!
//! The daemon must have the command `echo`, which returns what it was given.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::json;

use crate::{Guest, Message};

/// Commands that a pipelining guest has in flight.
const IN_FLIGHT: u64 = 16;

/// Who makes up the load.
const HABITS: [(Habit, usize); 3] = [
    (Habit::OneByOne, 10),
    (Habit::Pipelined, 5),
    (Habit::Tagged, 5),
];

/// How a guest sends.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// One command, its reply, the next.
    OneByOne,
    /// Many at once, whose replies come in their order.
    Pipelined,
    /// Many at once, each with a tag.
    Tagged,
}

/// What guests have seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Commands answered by their reply.
    pub replies: u64,
    /// Commands answered by `crashed`.
    pub crashed: u64,
}

/// A load that goes on until it is ended or dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    guests: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Starts one on the daemon at that port; its connections stand when this returns.
    ///
    /// # Panics
    /// When a connection is refused.
    #[track_caller]
    #[must_use]
    pub fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut guests = Vec::new();
        for (habit, count) in HABITS {
            for _ in 0..count {
                let (guest, stop) = (Guest::connect(port), Arc::clone(&stop));
                guests.push(std::thread::spawn(move || habit.drive(guest, &stop)));
            }
        }
        Load { stop, guests }
    }

    /// Ends it, and tells what its guests have seen together.
    ///
    /// # Panics
    /// When one of them was not served as it should have been, or not at all.
    #[track_caller]
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Seen::default();
        for guest in self.guests.drain(..) {
            let seen = guest.join().unwrap_or_else(|panic| resume_unwind(panic));
            assert!(seen.replies > 0, "a guest got no reply at all");
            sum.replies += seen.replies;
            sum.crashed += seen.crashed;
        }
        sum
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Habit {
    fn in_flight(self) -> u64 {
        match self {
            Habit::OneByOne => 1,
            Habit::Pipelined | Habit::Tagged => IN_FLIGHT,
        }
    }

    fn drive(self, mut guest: Guest, stop: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            let numbers = next..next + self.in_flight();
            next = numbers.end;
            let lines: Vec<String> = numbers.clone().map(|number| self.line(number)).collect();
            guest.send(lines.concat());
            let mut owed: BTreeSet<u64> = numbers.collect();
            while let Some(oldest) = owed.first().copied() {
                let number = take(&guest.message(), oldest, &mut seen);
                assert!(
                    owed.remove(&number),
                    "{self:?}: {number} was answered and not asked"
                );
            }
        }
        // Nothing has come twice: the next line answers the next command.
        guest.send("echo [\"the end\"]\n");
        guest.expect("echo [\"the end\"]");
        seen
    }

    fn line(self, number: u64) -> String {
        match self {
            Habit::OneByOne | Habit::Pipelined => format!("echo [{number}]\n"),
            Habit::Tagged => format!("echo#{number} [{number}]\n"),
        }
    }
}

/// Which command a line answers: without a tag it must be the oldest.
fn take(message: &Message, oldest: u64, seen: &mut Seen) -> u64 {
    let tag = message.tag.as_ref();
    let number = tag.map_or(oldest, |tag| tag.parse().expect("a tag of ours"));
    match message.clone().result() {
        Ok(value) => {
            seen.replies += 1;
            assert_eq!(value, json!(number), "the reply to {number}");
        }
        Err(fault) => {
            seen.crashed += 1;
            let (code, command) = (fault.code.as_str(), fault.command.as_str());
            assert_eq!((code, command), ("crashed", "echo"), "{fault:?}");
        }
    }
    number
}
