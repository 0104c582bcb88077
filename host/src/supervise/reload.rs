//! The takeover of a new instance from the running one: the steps of every reload, replacement, restart and move.
//!
//! The steps: run the preflight; load the file; compare it for callers; hold the gate and let running commands finish; save the state;
//! start the successor with it; open the gate to it; retire the old instance. Guests wait only while the gate is
//! held: for the running commands (`stop_grace_ms`), the `save` (as long again) and the successor's `start`
//! (`start_ms`). A failure before the gate opens again leaves the old instance in place, with its queue, and
//! returns the reason. An exclusive daemon ends before its successor starts, and is started again from the same
//! state if that fails.

use std::sync::Arc;

use super::build::{Built, Successor};
use super::exclusive;
use super::retire::drain;
use super::tally::ReloadOutcome;
use super::{Current, DaemonSpec, OrderResult, Replacement, StartFrom, Supervisor};
use dae_runtime::plugin::start_fault::{StartFault, StartFaultKind};
use dae_store::blocking;
use dae_store::daemon_state::DaemonState;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::report::{CommandChanges, EndKind, Mode};
use dae_store::snapshots::{KeptState, SnapshotOccasion};
use dae_store::state_text::StateText;

impl Supervisor {
    /// Replaces the running instance, if any, with one of the replacement's file and settings.
    pub(super) async fn take_over(
        &mut self,
        replacement: Replacement,
    ) -> Result<OrderResult, String> {
        self.room_to_retire().await;
        self.monitor.history.clear();
        let before = self.now.state.borrow().clone();
        self.set(match self.current {
            Some(_) => DaemonState::Reloading,
            None => DaemonState::Starting,
        });
        let had_port = self.listening.is_some();
        let result = self.walk(&replacement).await;
        if let Err(fault) = &result {
            let is_same = replacement.spec.artefact.hash == self.spec.artefact.hash;
            self.stay(before, had_port, (&fault.text, is_same));
        }
        result.map_err(cured)
    }

    /// Returns to the previous state, or to having failed. Releases a port that was bound for nothing. If the same
    /// code failed again, its cause is replaced by the new one.
    fn stay(&mut self, before: DaemonState, had_port: bool, (cause, is_same): (&str, bool)) {
        if !had_port {
            self.listening = None;
            self.now.running().port = None;
        }
        let name = &self.spec.name;
        let cause = cause.to_owned();
        let after = match before {
            DaemonState::Starting
            | DaemonState::Asleep { .. }
            | DaemonState::Stopped
            | DaemonState::Failed { .. } => DaemonState::Failed { cause },
            // An exclusive daemon that could not be started again.
            DaemonState::Ready | DaemonState::Degraded { .. } if self.current.is_none() => {
                DaemonState::Failed { cause }
            }
            DaemonState::Backoff { until, rule, .. } if is_same => {
                self.monitor.restart_reason = EndKind::StartFailed;
                DaemonState::Backoff { cause, until, rule }
            }
            DaemonState::CrashLoop { rule, .. } if is_same => {
                self.monitor.restart_reason = EndKind::StartFailed;
                DaemonState::CrashLoop { cause, rule }
            }
            other => other,
        };
        match &after {
            DaemonState::Failed { cause } => self.gate.shut(format!("{name} has failed: {cause}")),
            DaemonState::CrashLoop { cause, .. } => {
                self.gate
                    .shut(format!("{name} is in a crash loop: {cause}"));
            }
            _ => {}
        }
        self.set(after);
    }

    pub(super) async fn walk(
        &mut self,
        replacement: &Replacement,
    ) -> Result<OrderResult, StartFault> {
        let from = &replacement.from;
        let (successor, spec, changes) = self.loaded(replacement).await?;
        let (spec, changes) = (&spec, &changes);
        if let Some(old) = self.in_two_phases(spec, from) {
            return self.walk_in_two(successor, old, (spec, changes)).await;
        }
        let was_kept = self.stateful().is_none();
        let left = self.quiesce(from).await?;
        let set_aside = self.set_aside(from, left.as_ref()).await?;
        let state = match from {
            StartFrom::Kept => left.as_ref(),
            StartFrom::Nothing => None,
            StartFrom::State(state) => Some(&**state),
        };
        let is_exclusive = [spec, &self.spec].map(|spec| spec.artefact.manifest.exclusive);
        let is_exclusive = is_exclusive.contains(&true);
        let was_retired = is_exclusive && self.retire_first(left.as_ref()).await?;
        let built = match self.start_checked(successor, state).await {
            Ok(built) => built,
            Err(fault) => {
                self.take_back(set_aside).await;
                let fault = with_hint(fault, is_exclusive);
                return Err(self.go_on(fault, was_retired, left.as_ref()).await);
            }
        };
        let is_reload = self.current.is_some() || was_retired;
        let old = std::mem::replace(&mut self.spec, spec.clone());
        let old_mode = old.mode;
        let done = OrderResult {
            generation: built.instance.identity.generation,
            state_bytes: state.map(KeptState::bytes),
            changes: changes.clone(),
            set_aside,
            ..OrderResult::default()
        };
        let state = state.cloned();
        self.monitor.rollback_window = match is_reload {
            true => self.rollback_window_behind(old, left),
            false => None,
        };
        let held_back = self.now.saver.hold_back().await;
        self.swap(built, state.as_ref());
        self.tell_done(&done);
        if is_reload {
            self.send_reload(&done, old_mode);
        }
        self.keep_after(from, state.as_ref(), was_kept).await;
        drop(held_back);
        Ok(done)
    }

    /// Tries the replacement's file and loads it. Returns the successor, its spec, and what it changes for callers.
    async fn loaded(
        &mut self,
        replacement: &Replacement,
    ) -> Result<(Successor, DaemonSpec, CommandChanges), StartFault> {
        let strict = replacement.strict;
        self.try_out(&replacement.spec, &replacement.from).await?;
        // A library that is refused here isn't loaded into this process, which could never unload it.
        let (spec, _) = self.check_callers(&replacement.spec, strict).await?;
        let successor = self.prepare(&spec).await?;
        let spec = DaemonSpec {
            artefact: successor.artefact(),
            ..spec
        };
        // Loading may have added schemas.
        let (spec, changes) = self.check_callers(&spec, strict).await?;
        Ok((successor, spec, changes))
    }

    /// Stores the state that the new instance has started from. Otherwise a crash would bring back another one.
    async fn keep_after(&self, from: &StartFrom, state: Option<&KeptState>, was_kept: bool) {
        match (from, state) {
            // The state is already stored. A host that restores a thousand daemons writes only what the disk hasn't
            // taken before.
            (StartFrom::Kept, Some(_)) if was_kept => self.settle_states().await,
            (_, Some(state)) => self.keep(state).await,
            (StartFrom::Kept, None) => {}
            (_, None) => self.forget().await,
        }
    }

    /// Ends the running instance before its successor starts. Returns false if none runs. The state that it has `left` must
    /// be good, since it can't save it again.
    async fn retire_first(&mut self, left: Option<&KeptState>) -> Result<bool, String> {
        if let Some(left) = left
            && let Err(text) = check_aside(&left.state).await
        {
            self.reopen();
            return Err(text);
        }
        let Some(old) = self.take_away() else {
            return Ok(false);
        };
        self.gate.hold_for_change();
        self.retiree(old).retire().await;
        Ok(true)
    }

    /// Constructs an instance from the successor, and checks meanwhile that its state is JSON: guests wait for both.
    pub(super) async fn start_checked(
        &mut self,
        successor: Successor,
        state: Option<&KeptState>,
    ) -> Result<Built, StartFault> {
        let Some(kept) = state.filter(|kept| !kept.state.is_checked()) else {
            return self.start(successor, state).await;
        };
        let checking = check_aside(&kept.state);
        let (built, checked) = tokio::join!(self.start(successor, state), checking);
        let Err(text) = checked else {
            return built;
        };
        if let Ok(built) = built {
            self.discard(built);
        }
        Err(text.into())
    }

    /// Sends the events of a generation that took over from a running one.
    pub(super) fn send_reload(&self, done: &OrderResult, old_mode: Mode) {
        self.now.tally.count_reload(ReloadOutcome::Accepted);
        let (spec, generation) = (&self.spec, Some(done.generation));
        let send = |kind| self.shared.events.send(&spec.name, generation, kind);
        send(DaeEventKind::Reloaded {
            version: spec.artefact.manifest.version.clone(),
            hash: spec.artefact.hash.clone(),
            changes: done.changes.to_string(),
        });
        match spec.mode {
            mode if mode == old_mode => {}
            Mode::Subprocess => send(DaeEventKind::Isolated),
            Mode::InProcess => send(DaeEventKind::Embedded),
        }
    }

    pub(super) fn tell_done(&self, done: &OrderResult) {
        if let Some(id) = &done.set_aside {
            self.tell_set_aside(id, done.generation);
        }
        if !done.changes.is_empty() {
            let text = format!("its commands have changed: {}", done.changes);
            self.shared
                .tell(&self.spec.name, Some(done.generation), "info", &text);
        }
    }

    /// Returns the state that the successor starts from, or that the old instance may have to resume from. If a
    /// stateful instance runs, this queues new lines and waits until those in flight have finished or were
    /// cancelled. So no change of the state is lost.
    async fn quiesce(&mut self, from: &StartFrom) -> Result<Option<KeptState>, String> {
        let is_kept = matches!(from, StartFrom::Kept);
        let Some(current) = self.stateful() else {
            return match self.kept_state().await {
                Err(_) if !is_kept => Ok(None),
                kept => kept,
            };
        };
        let instance = Arc::clone(&current.instance);
        self.gate.hold_for_change();
        let grace = self.shared.config().stop_grace();
        if let Some(current) = &mut self.current {
            drain(&mut current.leased, grace).await;
        }
        // The state that is handed over is the last one of this instance.
        self.now.saver.close().await;
        let generation = instance.identity.generation;
        let saved = instance.save(grace).await;
        let saved = saved.map(|state| {
            self.monitor.state_bytes = state.bytes().len();
            // It is checked while the successor reads it.
            KeptState::unchecked(state, SnapshotOccasion::Reload, generation)
        });
        match saved {
            Ok(kept) if is_kept => Ok(Some(kept)),
            // The successor doesn't start from this state, so a bad one is no reason to refuse.
            Ok(kept) => Ok(check_aside(&kept.state).await.is_ok().then_some(kept)),
            Err(_) if !is_kept => Ok(None),
            Err(text) => {
                self.reopen();
                Err(text)
            }
        }
    }

    /// Returns the running instance if it has a state to pass on.
    pub(super) fn stateful(&self) -> Option<&Current> {
        let current = self.current.as_ref();
        current.filter(|current| current.instance.has_state())
    }

    /// Returns the state that was stored at the last stop, reload or checkpoint.
    pub(super) async fn kept_state(&self) -> Result<Option<KeptState>, String> {
        let name = self.spec.name.clone();
        let kept = self.shared.on_disk(move |disk| disk.states.load(&name));
        kept.await.map_err(|error| format!("{error:#}"))
    }

    /// Resumes the old instance after the successor didn't start. Returns the reason.
    async fn go_on(
        &mut self,
        fault: StartFault,
        was_retired: bool,
        state: Option<&KeptState>,
    ) -> StartFault {
        if self.current.is_some() {
            self.reopen();
            return fault;
        }
        if !was_retired {
            return fault;
        }
        let spec = self.spec.clone();
        let text = match self.build(&spec, state).await {
            Ok(built) => {
                self.swap(built, state);
                return fault;
            }
            Err(text) => text,
        };
        let StartFault { text: cause, kind } = fault;
        let text = format!("{cause}; and the one before doesn't start again: {text}");
        StartFault { text, kind }
    }

    /// Opens the gate again to the running instance.
    pub(super) fn reopen(&mut self) {
        if let Some(current) = &mut self.current {
            self.now.saver.open(&current.instance);
            current.leased = self.gate.open(Arc::clone(&current.instance));
        }
    }

    pub(super) async fn forget(&self) {
        let name = self.spec.name.clone();
        let forgotten = self.shared.on_disk(move |disk| disk.states.forget(&name));
        if let Err(error) = forgotten.await {
            let text = format!("its former state could not be removed: {error:#}");
            self.shared.tell(&self.spec.name, None, "error", &text);
        }
    }

    async fn settle_states(&self) {
        let states = &self.shared.disk.states;
        if states.unwritten().is_empty() {
            return;
        }
        if let Err(error) = self.shared.on_disk(|disk| disk.states.settle()).await {
            let text = format!("states that could not be kept before still can't be: {error:#}");
            self.shared.tell(&self.spec.name, None, "error", &text);
        }
    }

    /// Stores a state for the next start. If the disk refuses it, this is only logged.
    pub(super) async fn keep(&self, state: &KeptState) {
        let (states, name) = (&self.shared.disk.states, &self.spec.name);
        if let Err(error) = states.keep_with_others(name, state).await {
            let cause = format!("{error:#}");
            let text = format!("its state could not be kept: {cause}");
            let generation = Some(state.generation);
            self.shared.tell(name, generation, "error", &text);
            let cause_kind = CauseKind::Disk;
            let unsaved = DaeEventKind::StateUnsaved { cause, cause_kind };
            self.shared.events.send(name, generation, unsaved);
        }
    }
}

/// Checks that a state is JSON. A large one takes a while, in which no thread of the guests is held.
pub(super) async fn check_aside(state: &StateText) -> Result<(), String> {
    let state = state.clone();
    let checked = blocking::run_or_here(move || state.check()).await;
    checked.unwrap_or_else(Err)
}

/// Adds a hint to the reason why an instance didn't start, if another one may hold what it needs.
fn with_hint(fault: StartFault, is_exclusive: bool) -> StartFault {
    match fault.kind {
        StartFaultKind::State => fault,
        StartFaultKind::Other => StartFault {
            text: exclusive::with_hint(fault.text, is_exclusive),
            ..fault
        },
    }
}

/// Returns the text of a fault, with a hint if the new code can't read the state. Only the owner may give up a state.
pub(super) fn cured(fault: StartFault) -> String {
    let StartFault { text, kind } = fault;
    match kind {
        StartFaultKind::State => format!(
            "{text}; an install, a reload or a rollback with `fresh` starts without the state"
        ),
        StartFaultKind::Other => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_kind_of_a_fault() {
        let fault = |text: &str, kind| StartFault {
            text: text.to_owned(),
            kind,
        };
        let (other, state) = (StartFaultKind::Other, StartFaultKind::State);
        for (text, kind, hints) in [
            ("the state can't be read: x", state, [false, true]),
            ("the state can't be read: x", other, [false, false]),
            ("the file is locked", other, [true, false]),
            ("the file is locked", state, [false, true]),
            ("bind: Address already in use", other, [true, false]),
            ("it is blocked", other, [false, false]),
        ] {
            let hinted = cured(with_hint(fault(text, kind), false));
            let found = ["#[daemon(exclusive)]", "`fresh`"].map(|hint| hinted.contains(hint));
            assert_eq!(found, hints, "{text} {kind:?}");
            let of_exclusive = with_hint(fault(text, kind), true);
            assert_eq!(of_exclusive.text, text, "it says so already");
        }
    }
}
