//! Probation: what is gone back to when new code doesn't last.
//!
//! Code has shown that it lasts when it has outlived its probation, or was there from the start. Of a chain of reloads
//! within that time, A -> B -> C, a crash of C goes back to A: nobody knows yet about B, though it is free to come again,
//! since it has not crashed. It starts from the newest state there is, the one saved at the last swap, so that nothing is
//! lost that was answered before it. Where A can't read that, since B wrote it in a newer shape, it starts from the one
//! that it left itself; the log says so. What C has kept since, a checkpoint say, is not looked at: it may be the reason.

use std::sync::Arc;
use std::time::Instant;

use super::build::Built;
use super::{DaemonSpec, Notice, Supervisor};
use dae_store::durations;
use dae_store::snapshots::KeptState;

/// New code on probation, and what was before it.
#[derive(Debug)]
pub(super) struct RollbackWindow {
    until: Instant,
    /// What has shown that it lasts.
    back: DaemonSpec,
    /// The state of the last swap.
    newest: Option<KeptState>,
    /// The one that `back` left itself, where that is an older one.
    own: Option<KeptState>,
}

impl Supervisor {
    /// What is to be gone back to now that `self.spec` has taken over from `old`, which left that state.
    pub(super) fn probation_behind(
        &mut self,
        old: DaemonSpec,
        left: Option<KeptState>,
    ) -> Option<RollbackWindow> {
        let is_new = old.artefact.hash != self.spec.artefact.hash;
        let probation_ms = self.spec.settings.probation_ms;
        let until = durations::after(Instant::now(), durations::ms(probation_ms));
        let Some(before) = self.probation.take().filter(RollbackWindow::is_on) else {
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
            // The same code in another place, or once more: it has shown no more than before.
            false => RollbackWindow {
                back: DaemonSpec {
                    mode: self.spec.mode,
                    ..before.back.clone()
                },
                ..before.with(left)
            },
        })
    }

    /// New code has ended by itself while on probation: what was good before it takes over again. False where there is
    /// nothing to go back to.
    ///
    /// # Errors
    /// Why what was good before doesn't start any more.
    pub(super) async fn roll_back(&mut self, cause: &str) -> Result<bool, String> {
        let Some(probation) = self.probation.take().filter(RollbackWindow::is_on) else {
            return Ok(false);
        };
        let back = probation.back.clone();
        let (built, state) = self.build_from(&back, probation.states()).await?;
        let bad = std::mem::replace(&mut self.spec, back).artefact;
        let generation = built.instance.identity.generation;
        self.swap(built, state.as_ref()).await;
        if let Some(state) = &state {
            // Over what the bad one has kept since, in whatever shape.
            self.set_aside_newer(state, generation);
            self.keep(state).await;
        }
        let text = format!(
            "rolled back to {}: {cause}",
            short(&self.spec.artefact.hash)
        );
        self.shared
            .tell(&self.spec.name, Some(generation), "error", &text);
        let notice = Notice::RolledBack {
            bad: bad.hash.clone(),
            good: Box::new(self.spec.clone()),
            reason: cause.to_owned(),
            gate: Arc::clone(&self.gate),
        };
        // Where nobody listens any more the host is ending.
        let _ = self.shared.notices.send(notice);
        Ok(true)
    }

    /// Builds it from the first of these states that it takes.
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
    fn is_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// After another swap within it, at which that state was saved.
    fn with(self, left: Option<KeptState>) -> Self {
        RollbackWindow {
            own: self.own.or_else(|| self.newest.clone()),
            newest: left.or(self.newest),
            ..self
        }
    }

    /// What to start from, the best first.
    fn states(self) -> Vec<Option<KeptState>> {
        let own = self.own.filter(|own| {
            let is_same = |newest: &KeptState| newest.state.get() == own.state.get();
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
