//! A limit on how often a message is logged.
//!
//! Any client that connects can cause some messages. Logging each one would fill the log and hide all others.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// A limit on how often one message is logged.
#[derive(Debug)]
pub struct RateLimit {
    times: u32,
    every: Duration,
    now: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    logged: u32,
    skipped: u64,
}

impl RateLimit {
    /// Creates a limit of `times` messages in each period of `every`.
    pub const fn new(times: u32, every: Duration) -> Self {
        RateLimit {
            times,
            every,
            now: Mutex::new(Window {
                since: None,
                logged: 0,
                skipped: 0,
            }),
        }
    }

    /// Counts a message. Returns the number of messages skipped since the last logged one, or `None` if this one must
    /// be skipped.
    pub fn is_due(&self) -> Option<u64> {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> Option<u64> {
        let mut window = lock(&self.now);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= self.every;
        if window.since.is_none_or(is_over) {
            window.since = Some(now);
            window.logged = 0;
        }
        if window.logged >= self.times {
            window.skipped += 1;
            return None;
        }
        window.logged += 1;
        Some(std::mem::take(&mut window.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_a_few_times_a_period_and_counted() {
        let seldom = RateLimit::new(2, Duration::from_secs(60));
        let start = Instant::now();
        let due = |s| seldom.is_due_at(start + Duration::from_secs(s));
        let logged = [0, 1, 2, 59, 60, 61, 62].map(due);
        assert_eq!(
            logged,
            [Some(0), Some(0), None, None, Some(2), Some(0), None]
        );
    }
}
