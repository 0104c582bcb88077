//! The limits of a connection's waits, each with a timer of its own: one wait must not end by what is left of another's.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::{Guest, InboxLook, Stream};
use crate::connection::reply_budget;
use crate::session::gate::GatePhase;

/// How long a guest that is closed may take to read the last that is said to it.
const GOODBYE: Duration = Duration::from_secs(5);

/// The timers that run. A wait that ends takes its timer with it.
#[derive(Default)]
pub(super) struct Timers {
    /// Since half a line came.
    half_line: Timer,
    /// Since a line came for which there is no instance.
    instance: Timer,
    /// Since the guest last took some of a bulk.
    unread: Timer,
    /// Since the connection is to be closed.
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
    /// A line was finished: the half one behind it is a new one.
    #[inline]
    pub(super) fn on_line(&mut self) {
        self.half_line = None;
    }

    /// The guest took something of what waits for it.
    #[inline]
    pub(super) fn on_written(&mut self) {
        self.unread = None;
    }
}

impl<S: Stream> Guest<S> {
    /// Polls the timers of the waits that go on, and ends when one has passed its limit.
    pub(super) fn poll_limits(
        &mut self,
        taken: &InboxLook,
        context: &mut Context<'_>,
    ) -> Poll<LimitPassed> {
        let has_all = matches!(taken, InboxLook::All);
        let waits = !has_all && self.waits_for_instance();
        // Half a line behind lines that wait is younger than they are, and is not read on.
        let is_mid_line = has_all && self.inbox.is_mid_line() && !self.is_deaf();
        let leaves = has_all && self.is_closing && self.answers.in_flight() == 0;
        // A daemon's other bulks wait for this one.
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

/// Whether the limit of a wait has passed; a wait that doesn't go on has none.
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
