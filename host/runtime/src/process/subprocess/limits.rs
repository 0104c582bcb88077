//! Commands that a subprocess has and has not begun: when they are withdrawn, and the result that their senders get.
//!
//! The limit of a command runs from its own start, which the subprocess records in the [hand-off
//! state](crate::hand_off). A command that waits behind others has no limit of its own. It is withdrawn if it
//! has no prospect of beginning: the subprocess runs a command that has exceeded its limit, and this one has waited as
//! long. It is also withdrawn if its instance must go. A withdrawn command never runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dae_plugin_api::abi::status;

use super::{Link, PendingCommands, lock};
use crate::hand_off::{Begun, HandOffState};
use crate::plugin::completion::{Completion, host_status};
use crate::process::ipc::FrameKind;

/// The interval at which a command that waits for its start is checked.
const LOOK: Duration = Duration::from_millis(50);

/// The reason why commands are withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithdrawalReason {
    /// The command before them has exceeded this limit.
    Stuck(Duration),
    /// Their instance must go.
    Revoked,
}

impl WithdrawalReason {
    /// Returns the completion of a withdrawn command.
    pub(super) fn ended(self) -> Completion {
        let (status, why) = match self {
            WithdrawalReason::Stuck(limit) => (
                host_status::TIMEOUT,
                format!("another command of its daemon had run past its limit of {limit:?}"),
            ),
            WithdrawalReason::Revoked => (
                status::GONE,
                "its daemon was replaced or stopped".to_owned(),
            ),
        };
        Completion {
            status,
            bytes: not_begun(&why).into_bytes(),
        }
    }
}

/// Returns the message for a command that never runs.
fn not_begun(why: &str) -> String {
    format!(
        "the command had not begun when {why}; it was cancelled and never runs, so it is safe to send it again"
    )
}

/// The next step for a command that a subprocess has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverdueAction {
    /// Check it again at this time.
    Look(Instant),
    /// The command has exceeded its limit.
    TooLong,
}

impl Link {
    /// Returns the next step for the command at `place` of a batch or call that was queued at `since`.
    pub(super) fn due(
        &self,
        (id, place): (u64, usize),
        since: Instant,
        limit: Duration,
    ) -> OverdueAction {
        let now = Instant::now();
        let Some(hand_off_state) = &self.hand_off_state else {
            // It is not known whether the command has begun, so the limit runs from when it was queued.
            let end = since + limit;
            return if now < end {
                OverdueAction::Look(end)
            } else {
                OverdueAction::TooLong
            };
        };
        let running = hand_off_state.running();
        let is_ours = running.is_some_and(|running| (running.id, running.index) == (id, place));
        match running {
            Some(running) if running.time >= limit => {
                self.withdraw_behind(limit, now);
                if is_ours {
                    return OverdueAction::TooLong;
                }
            }
            Some(running) if is_ours => return OverdueAction::Look(now + (limit - running.time)),
            None if self.handed_off_time(hand_off_state, now) >= limit => {
                self.withdraw_behind(limit, now)
            }
            _ => {}
        }
        OverdueAction::Look(now + LOOK.min(limit))
    }

    /// Returns how long the subprocess has been seen at the same line of a handed-off guest.
    fn handed_off_time(&self, hand_off_state: &HandOffState, now: Instant) -> Duration {
        let mut seen = lock(&self.seen_at);
        let at = hand_off_state.at();
        let since = match *seen {
            Some((before, since)) if Some(before) == at => since,
            _ => now,
        };
        *seen = at.map(|at| (at, since));
        now.duration_since(since)
    }

    /// Returns whether the subprocess has begun a call.
    fn has_begun(&self, id: u64) -> bool {
        let hand_off_state = self.hand_off_state.as_ref();
        let is_past =
            hand_off_state.is_none_or(|hand_off_state| hand_off_state.begun(id) != Begun::None);
        is_past && !lock(&self.calls).is_aside(id)
    }

    /// Withdraws what has waited for at least the limit, behind the command that the subprocess runs.
    fn withdraw_behind(&self, limit: Duration, now: Instant) {
        let mut calls = lock(&self.calls);
        let has_waited = |since: Instant| now.duration_since(since) >= limit;
        let batches = calls.batches.handed_over();
        let singles = calls.by_id.iter().map(|(id, call)| (*id, call.since));
        let waited = batches
            .chain(singles)
            .filter(|(_, since)| has_waited(*since));
        if let Some(last) = waited.map(|(id, _)| id).max() {
            self.withdraw(&mut calls, last, WithdrawalReason::Stuck(limit));
        }
    }

    /// Withdraws all that has not begun, because the instance must go.
    pub(super) fn withdraw_all(&self) {
        let mut calls = lock(&self.calls);
        let last = self.last_id.load(std::sync::atomic::Ordering::Relaxed);
        self.withdraw(&mut calls, last, WithdrawalReason::Revoked);
        drop(calls);
        // Commands that were set aside are answered once the subprocess has confirmed that they never begin.
        lock(&self.outgoing).put(FrameKind::DropAside, last, &[]);
        self.flush();
    }

    fn withdraw(&self, calls: &mut PendingCommands, last: u64, why: WithdrawalReason) {
        let Some(hand_off_state) = &self.hand_off_state else {
            return;
        };
        let front = hand_off_state.withdraw(last);
        calls.batches.withdraw(last, front, why);
        let is_withdrawn = |id: &u64| *id <= last && front.begun(*id) == Begun::None;
        let withdrawn = calls
            .by_id
            .extract_if(|id, call| call.is_command && !call.is_aside && is_withdrawn(id));
        for (_, call) in withdrawn {
            // The receiver may be gone.
            let _ = call.sender.send(why.ended().into());
        }
    }
}

impl PendingCommands {
    /// Returns whether a call was set aside and has not begun since.
    fn is_aside(&self, id: u64) -> bool {
        self.by_id.get(&id).is_some_and(|call| call.is_aside)
    }

    /// Marks a batch or call as set aside, or a call as begun after that.
    pub(super) fn set_aside(&mut self, id: u64, is_aside: bool) {
        match self.by_id.get_mut(&id) {
            Some(call) => call.is_aside = is_aside,
            None => self.batches.set_aside(id),
        }
    }

    /// Drops the commands of what was set aside from the index `from` on, which never begin.
    pub(super) fn dropped(&mut self, id: u64, from: usize) {
        let why = WithdrawalReason::Revoked;
        match self.by_id.remove(&id) {
            // The receiver may be gone.
            Some(call) => drop(call.sender.send(why.ended().into())),
            None => self.batches.dropped(id, from, why),
        }
    }
}

/// The start of a call, as far as the host knows it.
pub struct CallStart {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) since: Instant,
}

impl CallStart {
    /// Waits until the call has exceeded its limit, counted from its start.
    pub(crate) async fn too_long(&self, limit: Duration) {
        while !self.link.has_begun(self.id) {
            let OverdueAction::Look(at) = self.link.due((self.id, 0), self.since, limit) else {
                return;
            };
            tokio::time::sleep_until(at.into()).await;
        }
        let seen = Instant::now();
        // The start of a command that occupies the worker's thread is known exactly.
        let is_running = |hand_off_state: &Arc<HandOffState>| {
            hand_off_state
                .running()
                .filter(|running| running.id == self.id)
        };
        let running = self.link.hand_off_state.as_ref().and_then(is_running);
        let before = running.map_or(Duration::ZERO, |running| running.time);
        tokio::time::sleep_until((seen + limit.saturating_sub(before)).into()).await;
    }

    /// Withdraws the call if it has not begun. Returns false if it has.
    pub(crate) fn withdraw(&self) -> bool {
        self.link.withdraw_all();
        let calls = lock(&self.link.calls);
        // The subprocess confirms the end of a call that was set aside.
        calls.is_aside(self.id) || !calls.by_id.contains_key(&self.id)
    }
}
