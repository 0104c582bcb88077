//! The state of a daemon, which changes only together with its event.
//!
//! The state is private to this file, so no other code can change it past its event. [`StateCell::change`] sends the event
//! of the new state, and [`event_of`] lists all states: code with a state that it doesn't list does not compile.
//!
//! Two states pass without an event: an announced start, and `Reloading`. The state after them has an event, unless it is
//! the one of before. So the last event always tells the present state, or the one that it passes from.

use std::sync::Mutex;
use std::time::Instant;

use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::lock::lock;
use tokio::sync::watch;

/// The present state, and the state that the last event told.
#[derive(Debug)]
pub(super) struct StateCell {
    state: watch::Sender<DaemonState>,
    /// With the generation of the event.
    told: Mutex<(DaemonState, Option<u64>)>,
}

impl StateCell {
    /// Returns the state of a daemon that has not been started.
    pub(super) fn stopped() -> Self {
        StateCell {
            state: watch::Sender::new(DaemonState::Stopped),
            told: Mutex::new((DaemonState::Stopped, None)),
        }
    }

    pub(super) fn borrow(&self) -> watch::Ref<'_, DaemonState> {
        self.state.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<DaemonState> {
        self.state.subscribe()
    }

    /// Shows a start that is to follow. The start itself has the event.
    pub(super) fn announce_start(&self) {
        self.state.send_replace(DaemonState::Starting);
    }

    /// Changes the state, and sends its event unless the last one told the same. `now` has the generation of the event, and
    /// `cause_kind` is the kind of its cause.
    pub(super) fn change(
        &self,
        now: (DaemonState, Option<u64>),
        cause_kind: CauseKind,
        send: impl FnOnce(DaeEventKind),
    ) {
        self.state.send_replace(now.0.clone());
        let Some(kind) = event_of(&now.0, cause_kind) else {
            return;
        };
        let mut told = lock(&self.told);
        if *told != now {
            *told = now;
            send(kind);
        }
    }
}

/// Returns the event of a state. `None` stands for a state that passes, whose outcome has an event.
fn event_of(state: &DaemonState, cause_kind: CauseKind) -> Option<DaeEventKind> {
    Some(match state.clone() {
        DaemonState::Starting => DaeEventKind::Started,
        DaemonState::Ready => DaeEventKind::Ready,
        DaemonState::Degraded { cause } => DaeEventKind::Degraded { cause, cause_kind },
        DaemonState::Backoff { cause, until, rule } => {
            let wait = until.saturating_duration_since(Instant::now());
            DaeEventKind::RestartPlanned {
                cause,
                cause_kind,
                wait_ms: durations::in_ms(wait),
                rule: Some(rule),
            }
        }
        DaemonState::CrashLoop { cause, rule } => DaeEventKind::CrashLoop {
            cause,
            cause_kind,
            rule: Some(rule),
        },
        DaemonState::Failed { cause } => DaeEventKind::Failed { cause, cause_kind },
        DaemonState::Asleep { rule } => DaeEventKind::Asleep { rule },
        DaemonState::Finished => DaeEventKind::Finished,
        DaemonState::Stopped => DaeEventKind::Stopped,
        DaemonState::Reloading => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: &str) -> DaemonState {
        DaemonState::Failed {
            cause: cause.to_owned(),
        }
    }

    #[test]
    fn each_change_has_one_event_and_a_return_to_the_state_of_before_has_none() {
        use DaemonState::{Ready, Reloading, Starting, Stopped};
        let cell = StateCell::stopped();
        cell.announce_start();
        // The state, its generation, and whether it has an event.
        for (state, generation, is_told) in [
            (Starting, None, true),
            (Ready, Some(1), true),
            (Reloading, Some(1), false),
            (Ready, Some(1), false),
            (Reloading, Some(1), false),
            (Ready, Some(2), true),
            (Stopped, Some(2), true),
            (Stopped, Some(2), false),
            (Starting, Some(2), true),
            (failed("a"), Some(2), true),
            (failed("a"), Some(2), false),
            (failed("b"), Some(2), true),
            (Starting, Some(2), true),
            (failed("b"), Some(2), true),
        ] {
            let mut sent = Vec::new();
            let now = (state.clone(), generation);
            cell.change(now, CauseKind::Unknown, |kind| sent.push(kind));
            assert_eq!(*cell.borrow(), state);
            assert_eq!(sent.len(), usize::from(is_told), "{state:?}: {sent:?}");
        }
    }
}
