//! The limits of a connection's waits, each with its own timer: no wait may end by the remaining time of another.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use dae_store::config::Limits;

/// The longest time for a closed guest to read its last messages.
const GOODBYE: Duration = Duration::from_secs(5);

/// The running timers. A wait that ends removes its timer.
#[derive(Default)]
pub(super) struct Timers {
    /// Runs from the arrival of half a line.
    half_line: Timer,
    /// Runs from the arrival of a line for which there is no instance.
    instance: Timer,
    /// Runs from the last time that the guest read some of a large reply.
    unread: Timer,
    /// Runs from the time when the connection is to be closed.
    goodbye: Timer,
}

type Timer = Option<Pin<Box<Sleep>>>;

/// The waits that are under way and have a limit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LimitedWaits {
    /// For the rest of a line.
    pub(super) half_line: bool,
    /// For an instance.
    pub(super) instance: bool,
    /// For the guest to read a large reply.
    pub(super) unread: bool,
    /// For the guest to read its last messages.
    pub(super) goodbye: bool,
}

/// The limit that a wait has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitPassed {
    HalfLine,
    Instance,
    Unread,
    Goodbye,
}

impl Timers {
    /// Notes that a line was finished: half a line behind it is a new one.
    #[inline]
    pub(super) fn on_line(&mut self) {
        self.half_line = None;
    }

    /// Notes that the guest read some of its waiting replies.
    #[inline]
    pub(super) fn on_written(&mut self) {
        self.unread = None;
    }

    /// Polls the timers of the waits that are under way, and removes the others. Ends when a wait has passed its limit.
    pub(super) fn poll(
        &mut self,
        waits: LimitedWaits,
        limits: &Limits,
        context: &mut Context<'_>,
    ) -> Poll<LimitPassed> {
        let has_passed = [
            (LimitPassed::Unread, waits.unread, &mut self.unread),
            (LimitPassed::Instance, waits.instance, &mut self.instance),
            (LimitPassed::HalfLine, waits.half_line, &mut self.half_line),
            (LimitPassed::Goodbye, waits.goodbye, &mut self.goodbye),
        ]
        .map(|(passed, is_on, timer)| {
            let limit = is_on.then(|| passed.limit(limits));
            poll_timer(timer, limit, context).then_some(passed)
        });
        let passed = has_passed.into_iter().flatten().next();
        passed.map_or(Poll::Pending, Poll::Ready)
    }
}

impl LimitPassed {
    fn limit(self, limits: &Limits) -> Duration {
        match self {
            LimitPassed::HalfLine | LimitPassed::Unread => limits.half_line,
            LimitPassed::Instance => limits.instance_wait,
            LimitPassed::Goodbye => GOODBYE,
        }
    }
}

/// Returns whether the limit of a wait has passed. Without a limit, stops the timer.
fn poll_timer(timer: &mut Timer, limit: Option<Duration>, context: &mut Context<'_>) -> bool {
    let Some(limit) = limit else {
        *timer = None;
        return false;
    };
    let running = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
    let has_passed = running.as_mut().poll(context).is_ready();
    if has_passed {
        *timer = None;
    }
    has_passed
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use dae_store::config::Config;

    use super::*;

    const HALF_LINE: LimitedWaits = LimitedWaits {
        half_line: true,
        instance: false,
        unread: false,
        goodbye: false,
    };

    #[tokio::test]
    async fn a_timer_exists_only_while_its_wait_is_under_way() {
        let limits = Config::default().limits();
        let mut timers = Timers::default();
        let mut poll = async |waits| {
            poll_fn(|context| Poll::Ready(timers.poll(waits, &limits, context).is_pending())).await
                && timers.half_line.is_some() == waits.half_line
                && timers.instance.is_some() == waits.instance
                && timers.unread.is_some() == waits.unread
                && timers.goodbye.is_some() == waits.goodbye
        };
        let instance = LimitedWaits {
            instance: true,
            ..LimitedWaits::default()
        };
        for waits in [LimitedWaits::default(), HALF_LINE, instance, HALF_LINE] {
            assert!(poll(waits).await, "{waits:?}");
        }
    }

    #[tokio::test]
    async fn the_wait_that_passed_its_limit_is_named() {
        let limits = Limits {
            half_line: Duration::ZERO,
            ..Config::default().limits()
        };
        let mut timers = Timers::default();
        let passed = poll_fn(|context| timers.poll(HALF_LINE, &limits, context)).await;
        assert_eq!(passed, LimitPassed::HalfLine);
        assert!(timers.half_line.is_none());
    }
}
