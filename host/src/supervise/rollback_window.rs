//! The rollback window: the time in which new code that fails is replaced by the code before it.
//!
//! Code has proved itself once its rollback window is over, or if it was there from the start. Take a chain of
//! reloads within the window, A -> B -> C. A crash of C goes back to A, because B has not proved itself. B may be
//! installed again, because it has not crashed. A starts from the newest state, the one saved at the last swap, so
//! that no answered change before it is lost. If A can't read that state, because B wrote it in a newer format, A
//! starts from the state that it left itself, and the log says so. A state that C has stored since, such as a
//! checkpoint, is not used: it may be the cause of the crash.

use std::sync::Arc;
use std::time::Instant;

use super::build::Built;
use super::exclusive;
use super::tally::ReloadOutcome;
use super::{DaemonSpec, Notice, Supervisor};
use dae_store::durations;
use dae_store::event::DaeEventKind;
use dae_store::snapshots::KeptState;

/// The rollback window of new code, and what ran before it.
#[derive(Debug)]
pub(super) struct RollbackWindow {
    until: Instant,
    /// The last code that has proved itself.
    back: DaemonSpec,
    /// The state that was saved at the last swap.
    newest: Option<KeptState>,
    /// The state that `back` left itself, if that is an older one.
    own: Option<KeptState>,
}

impl Supervisor {
    /// Returns the rollback window after `self.spec` has taken over from `old`, which left the state `left`.
    pub(super) fn rollback_window_behind(
        &mut self,
        old: DaemonSpec,
        left: Option<KeptState>,
    ) -> Option<RollbackWindow> {
        let is_new = old.artefact.hash != self.spec.artefact.hash;
        let rollback_window_ms = self.spec.settings.rollback_window_ms;
        let until = durations::after(Instant::now(), durations::ms(rollback_window_ms));
        let Some(before) = self
            .monitor
            .rollback_window
            .take()
            .filter(RollbackWindow::is_on)
        else {
            return is_new.then_some(RollbackWindow {
                until,
                back: old,
                newest: left,
                own: None,
            });
        };
        if before.back.artefact.hash == self.spec.artefact.hash {
            return None;
        }
        Some(match is_new {
            true => RollbackWindow {
                until,
                ..before.with(left)
            },
            // The same code in another mode, or once more: it has not proved more than before.
            false => RollbackWindow {
                back: DaemonSpec {
                    mode: self.spec.mode,
                    ..before.back.clone()
                },
                ..before.with(left)
            },
        })
    }

    /// Goes back to the proven code after new code has ended by itself within its rollback window. Returns false if
    /// there is nothing to go back to.
    ///
    /// # Errors
    /// Returns the reason if the proven code doesn't start any more.
    pub(super) async fn roll_back(&mut self, cause: &str) -> Result<bool, String> {
        let Some(rollback_window) = self
            .monitor
            .rollback_window
            .take()
            .filter(RollbackWindow::is_on)
        else {
            return Ok(false);
        };
        let back = rollback_window.back.clone();
        let (built, state) = self.build_from(&back, rollback_window.states()).await?;
        let bad = std::mem::replace(&mut self.spec, back).artefact;
        // Its predecessor was still ending when it began.
        let cause = exclusive::with_hint(cause.to_owned(), bad.manifest.exclusive);
        let generation = built.instance.identity.generation;
        let held_back = self.now.saver.hold_back().await;
        self.swap(built, state.as_ref());
        if let Some(state) = &state {
            // Replace the state that the failed code has stored since, in whatever format.
            self.set_aside_newer(state, generation).await;
            self.keep(state).await;
        }
        drop(held_back);
        self.tell_rollback(generation, &cause);
        let notice = Notice::RolledBack {
            bad: bad.hash.clone(),
            good: Box::new(self.spec.clone()),
            reason: cause,
            gate: Arc::clone(&self.gate),
        };
        // An error means that the host is ending.
        let _ = self.shared.notices.send(notice);
        Ok(true)
    }

    fn tell_rollback(&self, generation: u64, cause: &str) {
        self.now.tally.count_reload(ReloadOutcome::RolledBack);
        let (name, hash) = (&self.spec.name, short(&self.spec.artefact.hash));
        let text = format!("rolled back to {hash}: {cause}");
        self.shared.tell(name, Some(generation), "error", &text);
        let rolled_back = DaeEventKind::RolledBack {
            cause: cause.to_owned(),
            cause_kind: self.monitor.restart_reason.into(),
        };
        self.shared.events.send(name, Some(generation), rolled_back);
    }

    /// Builds an instance from the first of these states that it accepts.
    async fn build_from(
        &mut self,
        spec: &DaemonSpec,
        states: Vec<Option<KeptState>>,
    ) -> Result<(Built, Option<KeptState>), String> {
        let mut last = String::new();
        for state in states {
            let text = match self.build(spec, state.as_ref()).await {
                Ok(built) => return Ok((built, state)),
                Err(text) => text,
            };
            let from = state.map_or("nothing".to_owned(), |state| state.origin());
            last = format!("what was before can't take over again from {from}: {text}");
            self.shared.tell(&spec.name, None, "error", &last);
        }
        Err(last)
    }
}

impl RollbackWindow {
    /// Returns the time at which it ends.
    pub(super) fn end(&self) -> Instant {
        self.until
    }

    fn is_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Returns the window after another swap within it, at which the state `left` was saved.
    fn with(self, left: Option<KeptState>) -> Self {
        RollbackWindow {
            own: self.own.or_else(|| self.newest.clone()),
            newest: left.or(self.newest),
            ..self
        }
    }

    /// Returns the states to start from, the best one first.
    fn states(self) -> Vec<Option<KeptState>> {
        let own = self.own.filter(|own| {
            let is_same = |newest: &KeptState| newest.state == own.state;
            !self.newest.as_ref().is_some_and(is_same)
        });
        let some: Vec<_> = self.newest.into_iter().chain(own).map(Some).collect();
        match some.is_empty() {
            true => vec![None],
            false => some,
        }
    }
}

fn short(hash: &str) -> &str {
    &hash[..hash.len().min(8)]
}
