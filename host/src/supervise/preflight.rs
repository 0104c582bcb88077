//! The preflight: loads a new file in a process of its own first. A crash or a hang there never reaches the host.
//!
//! The preflight reads a copy of the state that the successor will find. It starts the daemon only if the author or
//! the owner says so, because a start may have effects. It never starts an exclusive daemon, because the running
//! instance holds what it needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DaemonSpec, StartFrom, Supervisor};
use dae_runtime::plugin::libraries::PreflightRecord;
use dae_runtime::plugin::start_fault::StartFault;
use dae_runtime::process::subprocess::{Preflights, Spawner, Subprocess, SubprocessPlan};
use dae_runtime::process::{PreflightMessage, StartMessage};
use dae_store::blocking;
use dae_store::durations;
use dae_store::report::Mode;
use dae_store::settings::{Preflight, PreflightStep, Settings};
use dae_store::snapshots::{KeptState, SnapshotOccasion};
use dae_store::state_text::StateText;

impl Supervisor {
    /// Runs the preflight of a file, if it is wanted and possible.
    pub(super) async fn try_out(
        &mut self,
        spec: &DaemonSpec,
        from: &StartFrom,
    ) -> Result<(), StartFault> {
        let Some(starts) = self.preflight_of(spec) else {
            return Ok(());
        };
        let began = Instant::now();
        if starts {
            // A start is specific to one daemon, so its result isn't shared.
            let state = self.state_for_preflight(from).await?;
            return self.try_alone(spec, starts, state).await;
        }
        let (libraries, hash) = (Arc::clone(&self.shared.code.libraries), &spec.artefact.hash);
        let mut turn = libraries.preflight_turn(hash).await;
        let state = self.state_for_preflight(from).await?;
        let has_passed = matches!(*turn, PreflightRecord::Passed);
        if (has_passed && state.is_none()) || libraries.has(hash) {
            return Ok(());
        }
        if let PreflightRecord::Failed(at, reason) = &*turn
            && *at > began
        {
            if let Some((settings, text)) = reason
                && (state.is_none() && *settings == spec.settings)
            {
                return Err(text.clone().into());
            }
            // Release the turn first, so that the waiting preflights of this file run at the same time.
            drop(turn);
            return self.try_alone(spec, starts, state).await;
        }
        let settings = state.is_none().then(|| Arc::clone(&spec.settings));
        let result = self.try_alone(spec, starts, state).await;
        *turn = record_of(&result, settings);
        result
    }

    async fn state_for_preflight(&self, from: &StartFrom) -> Result<Option<StateText>, String> {
        match from {
            StartFrom::Kept => self.state_to_try().await,
            StartFrom::Nothing => Ok(None),
            StartFrom::State(state) => Ok(Some(state.state.clone())),
        }
    }

    async fn try_alone(
        &mut self,
        spec: &DaemonSpec,
        starts: bool,
        state: Option<StateText>,
    ) -> Result<(), StartFault> {
        let may_share = !starts && Preflights::may_share(&spec.settings);
        let plan = self.preflight_plan(spec, starts, may_share);
        let (spawner, preflights) = (
            self.shared.code.spawner.clone(),
            Arc::clone(&self.shared.code.preflights),
        );
        let (libraries, hash) = (
            Arc::clone(&self.shared.code.libraries),
            spec.artefact.hash.clone(),
        );
        let tried = self.shared.runtime.spawn(async move {
            let schemas = match may_share {
                true => preflights.run(plan, state, &spawner).await?,
                false => {
                    let loaded = Subprocess::load(plan, &spawner).await?;
                    let schemas = loaded.schemas();
                    loaded.start(state).await.map(drop)?;
                    schemas
                }
            };
            libraries.leave_schemas(&hash, schemas);
            Ok(())
        });
        let tried: Result<(), StartFault> = tried
            .await
            .map_err(|error| format!("its preflight has no result: {}", blocking::why(error)))?;
        tried.map_err(|fault| StartFault {
            text: format!("its preflight failed: {}", fault.text),
            ..fault
        })
    }

    /// Returns whether the preflight also starts the daemon, or `None` if there is no preflight. A preflight that
    /// only loads is skipped for a subprocess, which is its own preflight, and for a file that is already loaded.
    fn preflight_of(&self, spec: &DaemonSpec) -> Option<bool> {
        let manifest = &spec.artefact.manifest;
        let of_plugin = match manifest.preflight.as_deref() {
            Some("start") => Preflight::With(PreflightStep::Start),
            _ => Preflight::Whether(true),
        };
        if spec.artefact.is_built_in {
            return None;
        }
        let wanted = spec.settings.preflight.unwrap_or(of_plugin);
        if wanted == Preflight::Whether(false) || !Spawner::is_possible() {
            return None;
        }
        let starts = wanted == Preflight::With(PreflightStep::Start) && !manifest.exclusive;
        let is_known =
            spec.mode == Mode::Subprocess || self.shared.code.libraries.has(&spec.artefact.hash);
        (starts || !is_known).then_some(starts)
    }

    fn preflight_plan(&self, spec: &DaemonSpec, starts: bool, stays: bool) -> SubprocessPlan {
        let config = &self.shared.config();
        // The limit for each step of the preflight itself: loading the file, and reading the state.
        let step = durations::ms(spec.settings.preflight_ms);
        let more = match starts {
            true => config.start_limit() + config.stop_grace(),
            false => Duration::ZERO,
        };
        SubprocessPlan {
            message: StartMessage {
                preflight: Some(PreflightMessage {
                    starts,
                    stop_ms: config.stop_grace_ms,
                    stays,
                }),
                ..self.load_message(spec)
            },
            settings: (*spec.settings).clone(),
            local: self.local(0, spec),
            load_limit: step,
            start_limit: step + more,
            // No guests use a preflight.
            on_end: Box::new(|| ()),
        }
    }

    /// Returns a copy of the state that the successor will find. The running instance keeps its own.
    async fn state_to_try(&self) -> Result<Option<StateText>, String> {
        let Some(current) = self.stateful() else {
            return Ok(self.kept_state().await?.map(|kept| kept.state));
        };
        let limit = self.shared.config().stop_grace();
        let saved = Arc::clone(&current.instance).save(limit).await?;
        let generation = current.instance.identity.generation;
        let state = KeptState::of(saved, SnapshotOccasion::Reload, generation)?;
        Ok(Some(state.state))
    }
}

/// Returns the record of a preflight that ended now. Without `settings` its reason concerns one daemon alone.
fn record_of(result: &Result<(), StartFault>, settings: Option<Arc<Settings>>) -> PreflightRecord {
    match result {
        Ok(()) => PreflightRecord::Passed,
        Err(fault) => {
            let reason = settings.map(|own| (own, fault.text.clone()));
            PreflightRecord::Failed(Instant::now(), reason)
        }
    }
}
