//! The share of time in which threads of this process run the code of each in-process daemon, found by samples.
//!
//! Threads share a process, so the kernel's count of CPU time can't tell their daemons apart, and a clock call for each
//! command would cost more than many a command. Each thread notes which instance's code it runs anyway, for the
//! watchdog. Looks at these notes at regular times show how long each daemon holds threads. This adds nothing to a
//! command, and nothing is done while nobody asks.
//!
//! The share counts held threads, not instructions: a handler that blocks its thread counts for as long as it holds
//! it. A command that awaits holds none, and does not count meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use super::watchdog;
use dae_store::usage;

/// The interval of the looks for a short window. It bounds the resolution: 50 looks in 250 ms make steps of 2 %.
const EVERY: Duration = Duration::from_millis(5);

/// The interval for a window of [`LONG`] or more, which has enough looks all the same.
const EVERY_LONG: Duration = Duration::from_millis(10);

/// A window of 100 looks.
const LONG: Duration = Duration::from_secs(1);

/// The looks at the threads of this process within a window.
#[derive(Debug, Default)]
pub struct HandlerSamples {
    looks: u32,
    /// The number of looks that saw each number of [`crate::instance::Instance::numbers_of_code`].
    seen: HashMap<u64, u32>,
}

impl HandlerSamples {
    /// Returns the interval at which to look in a window of that length.
    #[must_use]
    pub fn interval(window: Duration) -> Duration {
        match window < LONG {
            true => EVERY,
            false => EVERY_LONG,
        }
    }

    /// Looks once.
    pub fn look(&mut self) {
        self.add(watchdog::running());
    }

    fn add(&mut self, running: Vec<u64>) {
        self.looks += 1;
        for number in running {
            *self.seen.entry(number).or_default() += 1;
        }
    }

    /// Returns how much of one thread the code of those numbers held, in percent. Two threads all the time are 200.
    /// Returns `None` without a look.
    #[must_use]
    pub fn percent(&self, numbers: &[u64]) -> Option<f64> {
        let seen = numbers.iter().filter_map(|number| self.seen.get(number));
        let seen: u32 = seen.sum();
        usage::percent(seen.into(), self.looks.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_the_looks_that_saw_the_code() {
        let mut samples = HandlerSamples::default();
        assert_eq!(samples.percent(&[1]), None, "nobody has looked");
        for running in [vec![1, 1], vec![1, 2], vec![], vec![7]] {
            samples.add(running);
        }
        for (numbers, expected) in [
            (&[1][..], "75"),
            (&[2], "25"),
            (&[1, 2], "100"),
            (&[3], "0"),
            (&[], "0"),
        ] {
            let percent = samples.percent(numbers).expect("there were looks");
            assert_eq!(percent.to_string(), expected, "{numbers:?}");
        }
    }

    #[test]
    fn a_handler_that_runs_is_seen() {
        const INSTANCE: u64 = u64::MAX - 21;
        let mut samples = HandlerSamples::default();
        watchdog::during(INSTANCE, 0, false, || samples.look());
        samples.look();
        assert_eq!(samples.percent(&[INSTANCE]), Some(50.0));
    }
}
