//! The progress of a command that takes longer than a moment: a bar on standard error, which is gone when the work ends.
//!
//! It is drawn at a terminal alone, and neither with `--json` nor with `--quiet`. Work that ends at once shows none.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Session;

/// The time after which a bar is drawn: a person notices a longer wait.
const DELAY: Duration = Duration::from_millis(300);

/// The time between two looks at work that others do.
const LOOK: Duration = Duration::from_millis(100);

/// The progress of some work with a known number of steps. Dropping it takes the bar away.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// Begins work of so many steps.
    pub(super) fn of(session: &Session, steps: u64) -> Self {
        let target = match session.out.may_draw() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        // A template is wrong only if its text is.
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {human_pos}/{human_len} {msg}") {
            bar.set_style(style);
        }
        Progress {
            bar,
            began: Instant::now(),
        }
    }

    /// Shows how many steps are done until nobody holds the other end of the channel.
    pub(super) fn follow(&self, what: &str, ended: &Receiver<()>, done: impl Fn() -> u64) {
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            self.show(done(), what);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows that so many steps are done, and what comes next.
    pub(super) fn show(&self, done: u64, next: &str) {
        if self.began.elapsed() >= DELAY && !self.bar.is_finished() {
            self.bar.set_message(next.to_owned());
            self.bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
