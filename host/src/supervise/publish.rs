//! Publishes what becomes of a daemon: its state, its last end, and the events of both.

use std::sync::atomic::Ordering;

use super::Supervisor;
use dae_store::daemon_state::DaemonState;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::report::{EndKind, LastEnd, Mode};

impl Supervisor {
    /// Sends the event of an instance that ended by a failure.
    pub(super) fn send_crash(&self, kind: EndKind, cause: &str, generation: u64) {
        let crashed = DaeEventKind::Crashed {
            cause: cause.to_owned(),
            cause_kind: kind.into(),
        };
        let events = &self.shared.events;
        events.send(&self.spec.name, Some(generation), crashed);
    }

    pub(super) fn note_last_end(&self, (kind, cause): (EndKind, &str), generation: u64) {
        self.now.running().last_end = Some(LastEnd {
            kind,
            cause: cause.to_owned(),
            time: jiff::Timestamp::now(),
            generation,
        });
    }

    /// Sets the state, logs it and sends its event.
    pub(super) fn set(&self, state: DaemonState) {
        let cause_kind = match (&state, self.spec_mode()) {
            (DaemonState::Degraded { .. }, Mode::Subprocess) => CauseKind::Unanswered,
            (DaemonState::Degraded { .. }, Mode::InProcess) => CauseKind::HeldThread,
            (DaemonState::Failed { .. }, _) => CauseKind::StartFailed,
            _ => self.monitor.restart_reason.into(),
        };
        self.set_by(state, cause_kind);
    }

    /// Returns the process of the instance that answers, or of the next one.
    fn spec_mode(&self) -> Mode {
        let current = self.current.as_ref();
        current.map_or(self.spec.mode, |one| one.instance.identity.mode)
    }

    /// Sets the state, logs it and sends its event, whose cause is of that kind.
    pub(super) fn set_by(&self, state: DaemonState, cause_kind: CauseKind) {
        let (events, name) = (&self.shared.events, &self.spec.name);
        self.change(state, cause_kind, |generation, kind| {
            events.send(name, generation, kind);
        });
    }

    /// Sets the state, logs it, and gives its event and generation to `send`, unless the last event told the same. Every
    /// change of state passes here, except for an announced start.
    pub(super) fn change(
        &self,
        state: DaemonState,
        cause_kind: CauseKind,
        send: impl FnOnce(Option<u64>, DaeEventKind),
    ) {
        let generation = self.now.generation.load(Ordering::Relaxed);
        let generation = (generation > 0).then_some(generation);
        let reason = state.to_string();
        let level = match state {
            DaemonState::Failed { .. } | DaemonState::CrashLoop { .. } => "error",
            DaemonState::Backoff { .. } | DaemonState::Degraded { .. } => "warn",
            _ => "debug",
        };
        let text = match reason.is_empty() {
            true => state.word().to_owned(),
            false => format!("{}: {reason}", state.word()),
        };
        self.shared.tell(&self.spec.name, generation, level, &text);
        let is_over = matches!(
            state,
            DaemonState::Stopped | DaemonState::Failed { .. } | DaemonState::CrashLoop { .. }
        );
        let now = (state, generation);
        let cell = &self.now.state;
        cell.change(now, cause_kind, |kind| send(generation, kind));
        if is_over {
            // Nobody answers for the daemons of other hosts any more.
            self.shared.directory.withdraw_all(&self.gate);
        }
        self.shared.directory.tell(&self.gate.name);
    }
}
