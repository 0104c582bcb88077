//! A clock for the time that the worker has run commands since the event loop ran, and since it sent replies.

use std::time::{Duration, Instant};

/// The longest time that replies of a batch wait for later ones. Usual batches finish long before. For slow commands
/// each guest gets the finished replies early, and a crash loses fewer of them.
const REPLIES_HELD_MAX: Duration = Duration::from_millis(1);
/// The longest time that handed-over commands run before the event loop runs again.
const WORK_MAX: Duration = Duration::from_millis(2);

/// The time since the event loop ran, and since replies were sent.
pub(super) struct WorkClock {
    began: Instant,
    flushed: Instant,
    now: Instant,
}

impl WorkClock {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        WorkClock {
            began: now,
            flushed: now,
            now,
        }
    }

    /// Notes that a command has ended. Returns whether replies have been held back for long enough.
    pub(super) fn tick(&mut self) -> bool {
        self.now = Instant::now();
        let is_due = self.now - self.flushed > REPLIES_HELD_MAX;
        if is_due {
            self.flushed = self.now;
        }
        is_due
    }

    pub(super) fn is_over(&self) -> bool {
        self.now - self.began > WORK_MAX
    }
}
