//! What a child has in its hands and has not begun: when it is withdrawn, and what those who wait for it are told.
//!
//! The limit of a command runs from its own start, which the child writes down in the [hand-off state](crate::process::hand_off). A command
//! that waits behind others has no limit of its own. It is withdrawn where it can't hope to begin: the child is at a
//! command that has run past its limit, and this one has waited as long. And it is withdrawn where its instance is to go.
//! What was withdrawn never runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dae_plugin_api::abi::status;

use super::{Link, PendingCommands, lock};
use crate::plugin::completion::{Completion, host_status};
use crate::process::hand_off::{Begun, HandOffState};
use crate::process::ipc::FrameKind;

/// How often a command that waits for its start is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Why commands are withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithdrawalReason {
    /// The one before them has run past this limit.
    Stuck(Duration),
    /// Their instance is to go.
    Revoked,
}

impl WithdrawalReason {
    /// What a command ends with that was withdrawn.
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

/// What is said of a command that never runs.
fn not_begun(why: &str) -> String {
    format!(
        "the command had not begun when {why}; it was cancelled and never runs, so it is safe to send it again"
    )
}

/// What is to be done about a command that a child has in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverdueAction {
    /// To look again then.
    Look(Instant),
    /// It has run past its limit.
    TooLong,
}

impl Link {
    /// What is to be done about the command at `place` of a batch or call that was handed over at `since`.
    pub(super) fn due(
        &self,
        (id, place): (u64, usize),
        since: Instant,
        limit: Duration,
    ) -> OverdueAction {
        let now = Instant::now();
        let Some(hand_off_state) = &self.hand_off_state else {
            // Whether it has begun can't be known, and it is given the limit from when it was handed over.
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

    /// For how long the child has been seen at one line of a lent guest.
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

    /// Whether the child has begun with a call.
    fn has_begun(&self, id: u64) -> bool {
        let hand_off_state = self.hand_off_state.as_ref();
        let is_past =
            hand_off_state.is_none_or(|hand_off_state| hand_off_state.begun(id) != Begun::None);
        is_past && !lock(&self.calls).is_aside(id)
    }

    /// Withdraws what has waited as long as the command that the child is at may take.
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

    /// Withdraws all that has not begun, since the instance is to go.
    pub(super) fn withdraw_all(&self) {
        let mut calls = lock(&self.calls);
        let last = self.last_id.load(std::sync::atomic::Ordering::Relaxed);
        self.withdraw(&mut calls, last, WithdrawalReason::Revoked);
        drop(calls);
        // What was set aside is answered when the child has said that it never begins.
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
            // Whoever waited may have given up.
            let _ = call.sender.send(why.ended());
        }
    }
}

impl PendingCommands {
    /// Whether a call was set aside and has not begun since.
    fn is_aside(&self, id: u64) -> bool {
        self.by_id.get(&id).is_some_and(|call| call.is_aside)
    }

    /// A batch or call is set aside, or a call goes on.
    pub(super) fn set_aside(&mut self, id: u64, is_aside: bool) {
        match self.by_id.get_mut(&id) {
            Some(call) => call.is_aside = is_aside,
            None => self.batches.set_aside(id),
        }
    }

    /// Of what was set aside, the commands from that one on never begin.
    pub(super) fn dropped(&mut self, id: u64, from: usize) {
        let why = WithdrawalReason::Revoked;
        match self.by_id.remove(&id) {
            // Whoever waited may have given up.
            Some(call) => drop(call.sender.send(why.ended())),
            None => self.batches.dropped(id, from, why),
        }
    }
}

/// What is known of the start of a call.
pub struct CallStart {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) since: Instant,
}

impl CallStart {
    /// Ends when the call has run past its limit, counted from its start.
    pub(crate) async fn too_long(&self, limit: Duration) {
        while !self.link.has_begun(self.id) {
            let OverdueAction::Look(at) = self.link.due((self.id, 0), self.since, limit) else {
                return;
            };
            tokio::time::sleep_until(at.into()).await;
        }
        let seen = Instant::now();
        // A command that holds the child's thread has a start that is known exactly.
        let is_running = |hand_off_state: &Arc<HandOffState>| {
            hand_off_state
                .running()
                .filter(|running| running.id == self.id)
        };
        let running = self.link.hand_off_state.as_ref().and_then(is_running);
        let before = running.map_or(Duration::ZERO, |running| running.time);
        tokio::time::sleep_until((seen + limit.saturating_sub(before)).into()).await;
    }

    /// Withdraws the call if it has not begun; false where it has.
    pub(crate) fn withdraw(&self) -> bool {
        self.link.withdraw_all();
        let calls = lock(&self.link.calls);
        // Of one that was set aside the child will say so.
        calls.is_aside(self.id) || !calls.by_id.contains_key(&self.id)
    }
}
