//! Guests that keep a daemon busy and check that it answers every command once, in order.
//!
//! There are twenty connections, each on its own thread. Half of them send a command, wait for its reply and send the
//! next. The others have many commands in flight, with and without tags. A command may be answered by its reply or by
//! `crashed`, and by nothing else. The counts of both are returned at the end.
//!
//! The daemon must have the command `echo`, which returns its argument.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::json;

use crate::{Guest, Message};

/// The number of commands that a pipelining guest has in flight.
const IN_FLIGHT: u64 = 16;

/// The number of guests with each habit.
const HABITS: [(Habit, usize); 3] = [
    (Habit::OneByOne, 10),
    (Habit::Pipelined, 5),
    (Habit::Tagged, 5),
];

/// The number of guests with each habit in a light load.
const LIGHT: [(Habit, usize); 3] = [
    (Habit::OneByOne, 3),
    (Habit::Pipelined, 1),
    (Habit::Tagged, 1),
];

/// The way in which a guest sends commands.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// One command, its reply, the next.
    OneByOne,
    /// Many at once, whose replies come in their order.
    Pipelined,
    /// Many at once, each with a tag.
    Tagged,
}

/// The answers that guests have received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadResult {
    /// Commands answered by their reply.
    pub replies: u64,
    /// Commands answered by `crashed`.
    pub crashed: u64,
}

/// A load that runs until it is ended or dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    guests: Vec<JoinHandle<LoadResult>>,
}

impl Load {
    /// Starts a load on the daemon at the given port. All connections are open when this returns.
    ///
    /// # Panics
    /// Panics if a connection is refused.
    #[track_caller]
    #[must_use]
    pub fn on(port: u16) -> Self {
        Self::of(&HABITS, port)
    }

    /// Does the same as [`Load::on`] with five connections, for a slow system.
    ///
    /// # Panics
    /// Panics if a connection is refused.
    #[track_caller]
    #[must_use]
    pub fn light(port: u16) -> Self {
        Self::of(&LIGHT, port)
    }

    #[track_caller]
    fn of(habits: &[(Habit, usize)], port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut guests = Vec::new();
        for &(habit, count) in habits {
            for _ in 0..count {
                let (guest, stop) = (Guest::connect(port), Arc::clone(&stop));
                guests.push(std::thread::spawn(move || habit.drive(guest, &stop)));
            }
        }
        Load { stop, guests }
    }

    /// Ends the load, and returns the sum of the answers that its guests have received.
    ///
    /// # Panics
    /// Panics if a guest got a wrong answer, or no reply at all.
    #[track_caller]
    pub fn end(mut self) -> LoadResult {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = LoadResult::default();
        for guest in self.guests.drain(..) {
            let result = guest.join().unwrap_or_else(|panic| resume_unwind(panic));
            assert!(result.replies > 0, "a guest got no reply at all");
            sum.replies += result.replies;
            sum.crashed += result.crashed;
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

    fn drive(self, mut guest: Guest, stop: &AtomicBool) -> LoadResult {
        let mut result = LoadResult::default();
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            let numbers = next..next + self.in_flight();
            next = numbers.end;
            let lines: Vec<String> = numbers.clone().map(|number| self.line(number)).collect();
            guest.send(lines.concat());
            let mut owed: BTreeSet<u64> = numbers.collect();
            while let Some(oldest) = owed.first().copied() {
                let number = take(&guest.message(), oldest, &mut result);
                assert!(
                    owed.remove(&number),
                    "{self:?}: {number} was answered and not asked"
                );
            }
        }
        // No answer came twice: the next line answers the next command.
        guest.send("echo [\"the end\"]\n");
        guest.expect("echo [\"the end\"]");
        result
    }

    fn line(self, number: u64) -> String {
        match self {
            Habit::OneByOne | Habit::Pipelined => format!("echo [{number}]\n"),
            Habit::Tagged => format!("echo#{number} [{number}]\n"),
        }
    }
}

/// Returns the number of the command that a line answers. Without a tag it must be the oldest.
fn take(message: &Message, oldest: u64, result: &mut LoadResult) -> u64 {
    let tag = message.tag.as_ref();
    let number = tag.map_or(oldest, |tag| tag.parse().expect("a tag of ours"));
    match message.clone().result() {
        Ok(value) => {
            result.replies += 1;
            assert_eq!(value, json!(number), "the reply to {number}");
        }
        Err(fault) => {
            result.crashed += 1;
            let (code, command) = (fault.code.as_str(), fault.command.as_str());
            assert_eq!((code, command), ("crashed", "echo"), "{fault:?}");
        }
    }
    number
}
