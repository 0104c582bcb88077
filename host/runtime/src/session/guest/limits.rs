//! The limits of a connection's waits, each with its own timer: no wait may end by the remaining time of another.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::{Guest, InboxLook, Stream};
use crate::connection::reply_budget;
use crate::session::gate::GatePhase;

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

/// The limit that a wait has passed.
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
}

impl<S: Stream> Guest<S> {
    /// Polls the timers of the current waits. Ends when one has passed its limit.
    pub(super) fn poll_limits(
        &mut self,
        taken: &InboxLook,
        context: &mut Context<'_>,
    ) -> Poll<LimitPassed> {
        let has_all = matches!(taken, InboxLook::All);
        let waits = !has_all && self.waits_for_instance();
        // Half a line behind waiting lines is younger than they are, and is not read further.
        let is_mid_line = has_all && self.inbox.is_mid_line() && !self.is_deaf();
        let leaves = has_all && self.is_closing && self.answers.in_flight() == 0;
        // The daemon's other large replies wait for this one.
        let has_bulk = self.outbox.len() - self.sent > reply_budget::BULK_BYTES_MIN;
        if has_bulk && self.poll_unread(context) {
            return Poll::Ready(LimitPassed::Unread);
        }
        let limits = &self.gate.limits;
        let timers = &mut self.timers;
        let polled = [
            (
                LimitPassed::Instance,
                &mut timers.instance,
                waits,
                limits.instance_wait,
            ),
            (
                LimitPassed::HalfLine,
                &mut timers.half_line,
                is_mid_line,
                limits.half_line,
            ),
            (LimitPassed::Goodbye, &mut timers.goodbye, leaves, GOODBYE),
        ]
        .map(|(passed, timer, is_on, limit)| {
            (passed, poll_timer(timer, is_on.then_some(limit), context))
        });
        let mut passed = polled.into_iter().filter(|(_, has_passed)| *has_passed);
        passed
            .next()
            .map_or(Poll::Pending, |(passed, _)| Poll::Ready(passed))
    }

    #[cold]
    fn poll_unread(&mut self, context: &mut Context<'_>) -> bool {
        let limit = self.gate.limits.half_line;
        poll_timer(&mut self.timers.unread, Some(limit), context)
    }

    fn waits_for_instance(&self) -> bool {
        self.gate_change.is_some() && matches!(**self.gate.phase(), GatePhase::Waiting)
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
