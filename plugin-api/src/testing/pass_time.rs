//! The wait for a step of a daemon's life, such as `start`: real time passes, and so does the time of the test's clock.
//!
//! The test itself waits for the step, so nobody else can move the clock meanwhile. What a step waits for is known only
//! in part: a timer and a blocking command are the host's, but a thread of the daemon or a task of tokio is not. So the
//! clock moves at once if the step can wait for a timer, and after the limit of real time otherwise.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::signal::{Signal, lock};
use crate::Result;

/// A step of an instance's life.
pub struct LifeStep<'a> {
    /// The step's name in errors.
    pub label: &'a str,
    pub instance: u64,
    /// The time that the step may take: on the test's clock, and in real time.
    pub limit: Duration,
}

/// The time that may pass during a wait.
pub struct Patience {
    pub instance: u64,
    /// The timers of the instance up to this number belong to something else.
    pub timers_after: u64,
    pub on_clock: Duration,
    pub real: Duration,
}

impl Core {
    /// Runs a step as a task, and waits until it and all other tasks wait or have ended. Returns `None` if it has not
    /// ended within its limit; it is dropped then.
    ///
    /// # Errors
    /// A task holds the thread of the host.
    pub fn run_step<T: Send + 'static>(
        &self,
        step: &LifeStep<'_>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Option<T>> {
        let patience = Patience {
            instance: step.instance,
            timers_after: lock(&self.world).number(),
            on_clock: step.limit,
            real: step.limit,
        };
        let result = Arc::new(Signal::new(None));
        let place = Arc::clone(&result);
        let task = self.executor.spawn(0, step.label, async move {
            let ended = work.await;
            place.change(|result| *result = Some(ended));
        });
        let ended = self.pass_time_until(&patience, || result.with(Option::take));
        if !matches!(ended, Ok(Some(_))) {
            self.executor.cancel(task);
        }
        ended
    }

    /// Runs the tasks until `look` returns something. Returns `None` if it doesn't, neither after the real time nor after
    /// the time on the clock.
    ///
    /// # Errors
    /// A task holds the thread of the host.
    pub fn pass_time_until<T>(
        &self,
        patience: &Patience,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>> {
        let clock_end = lock(&self.world).now.saturating_add(patience.on_clock);
        let real_end = self.deadline().min(Instant::now() + patience.real);
        // A task that always wakes itself is work without an end.
        let has_work = || Instant::now() < real_end && self.executor.waits_for_work(real_end);
        loop {
            self.settle()?;
            if let Some(found) = look() {
                return Ok(Some(found));
            }
            if self.is_elsewhere(patience) && has_work() {
                continue;
            }
            match self.next_timer(clock_end) {
                Some(next) => self.move_to(next),
                None if has_work() => {}
                None => return Ok(None),
            }
        }
    }

    /// Returns whether something is waited for that the clock doesn't move: a blocking command, or perhaps tokio.
    fn is_elsewhere(&self, patience: &Patience) -> bool {
        let world = lock(&self.world);
        let mut timers = world.timers.iter();
        let has_timer = timers.any(|((_, number), timer)| {
            timer.instance == patience.instance && *number > patience.timers_after
        });
        world.threads > 0 || (cfg!(feature = "tokio") && !has_timer)
    }
}
