//! The clock that a test moves: the timers of its daemons, which fire in order, each at its own time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::core::Core;
use super::signal::lock;
use super::world::Timer;
use crate::Result;

/// The most that the clock counts: a hundred years, so that no sum with it overflows.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A future that ends at a time on the test's clock.
pub struct Sleep {
    core: Weak<Core>,
    /// The instance that sleeps; 0 for the host itself.
    instance: u64,
    duration: Duration,
    /// The deadline, and the place among the timers of the same deadline, once it waits.
    place: Option<(Duration, u64)>,
}

impl Sleep {
    pub fn new(core: Weak<Core>, instance: u64, duration: Duration) -> Self {
        let mut sleep = Sleep {
            core,
            instance,
            duration,
            place: None,
        };
        // Counted from the request, and not from the first poll.
        if let Some(core) = sleep.core.upgrade() {
            sleep.start(&core);
        }
        sleep
    }

    fn start(&mut self, core: &Arc<Core>) {
        let mut world = lock(&core.world);
        let deadline = world.now.saturating_add(self.duration);
        self.place = Some((deadline, world.number()));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (Some(core), Some(place)) = (self.core.upgrade(), self.place) else {
            return Poll::Ready(());
        };
        let mut world = lock(&core.world);
        let is_due = world.now >= place.0;
        if is_due && !self.duration.is_zero() {
            return Poll::Ready(());
        }
        if is_due {
            // The next poll ends it. A loop that sleeps for no time must not keep the thread from the other tasks.
            self.duration = Duration::from_nanos(1);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let timer = Timer {
            instance: self.instance,
            waker: context.waker().clone(),
        };
        let before = world.timers.insert(place, timer);
        drop(world);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(core), Some(place)) = (self.core.upgrade(), self.place) {
            let timer = lock(&core.world).timers.remove(&place);
            drop(timer);
        }
    }
}

impl Core {
    /// Moves the clock. Each timer that is due on the way fires at its time, and its task runs before the next one.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.settle()?;
        let target = lock(&self.world).now.saturating_add(by).min(TIME_MAX);
        while let Some(next) = self.next_timer(target) {
            self.move_to(next);
            self.settle()?;
        }
        self.move_to(target);
        self.settle()
    }

    /// Returns the time of the next timer, if that is not after `end`.
    pub fn next_timer(&self, end: Duration) -> Option<Duration> {
        let next = lock(&self.world).timers.keys().next().map(|(at, _)| *at);
        next.filter(|at| *at <= end)
    }

    /// Sets the clock, and wakes the timers that are due.
    pub fn move_to(&self, time: Duration) {
        let mut due: Vec<Waker> = Vec::new();
        {
            let mut world = lock(&self.world);
            world.now = world.now.max(time);
            while let Some(timer) = world.timers.first_entry() {
                if timer.key().0 > time {
                    break;
                }
                due.push(timer.remove().waker);
            }
        }
        due.into_iter().for_each(Waker::wake);
    }
}
