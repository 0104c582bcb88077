//! How long the worker has been at commands since the event loop had its turn, and since replies were sent.

use std::time::{Duration, Instant};

/// How long replies of a batch may wait for those behind them. A batch of usual commands is over long before; of slow ones
/// each guest gets what is done, and a crash takes no more with it.
const REPLIES_HELD_MAX: Duration = Duration::from_millis(1);
/// How long commands that were handed over run before the event loop has its turn.
const WORK_MAX: Duration = Duration::from_millis(2);

/// How long this has been at work since the event loop had its turn.
pub(super) struct TurnClock {
    began: Instant,
    flushed: Instant,
    now: Instant,
}

impl TurnClock {
    pub(super) fn now() -> Self {
        let now = Instant::now();
        TurnClock {
            began: now,
            flushed: now,
            now,
        }
    }

    /// A command has ended; whether replies have been held back for long enough.
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
