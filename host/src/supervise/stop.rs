//! Stops a daemon step by step: it takes no new lines; then come its commands, its state, its `stop` and its end.
//!
//! Each step has a limit of its own, and the next one follows whatever the result. A host that ends counts the
//! steps of all its daemons as progress, and shows what each of them waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::health::Health;
use super::{OrderResult, Supervisor, retire};
use dae_runtime::instance::Instance;
use dae_store::daemon_state::DaemonState;
use dae_store::snapshots::{KeptState, SnapshotOccasion};

/// A counter for the steps of all stops in a host.
#[derive(Debug, Default)]
pub(crate) struct StopSteps(AtomicU64);

impl StopSteps {
    /// Returns the number of steps so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The progress of a daemon's stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping {
    /// The current step. `None` before the first one and after the last one.
    pub(crate) step: Option<StopStep>,
    /// The reason why the state of the last stopped instance was not saved.
    pub(crate) unsaved: Option<String>,
}

/// A step of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopStep {
    /// Its commands finish, or are cancelled.
    Commands,
    /// Its `save` runs.
    Save,
    /// Its state is written.
    Write,
    /// Its `stop` and its end.
    End,
}

impl StopStep {
    /// Returns what a daemon at this step waits for.
    pub(crate) fn text(self) -> &'static str {
        match self {
            StopStep::Commands => "its running commands",
            StopStep::Save => "its `save`",
            StopStep::Write => "the disk",
            StopStep::End => "its `stop`",
        }
    }

    /// Returns whether a daemon at this step has not saved its state yet.
    pub(crate) fn is_before_saved(self) -> bool {
        !matches!(self, StopStep::End)
    }
}

impl Supervisor {
    pub(super) async fn stop(&mut self) -> Result<OrderResult, String> {
        let name = &self.spec.name;
        self.gate.shut(format!(
            "{name} is stopped, and answers again once its owner starts it"
        ));
        self.listening = None;
        self.now.running().port = None;
        self.now.running().identity = None;
        self.now.running().sleeping = None;
        self.now.running().stopping = Stopping::default();
        self.gate.guests.close_all();
        self.monitor.health = Health::default();
        let mut faults = Vec::new();
        if let Some(mut current) = self.current.take() {
            let grace = self.shared.config().stop_grace();
            self.at(Some(StopStep::Commands));
            retire::drain(&mut current.leased, grace).await;
            self.at(Some(StopStep::Save));
            self.now.saver.close().await;
            faults.extend(self.keep_last_state(&current.instance, grace).await.err());
            self.at(Some(StopStep::End));
            faults.extend(self.retiree(current).retire().await);
        }
        self.all_retired().await;
        self.at(None);
        self.monitor.history.clear();
        self.monitor.rollback_window = None;
        self.set(DaemonState::Stopped);
        match faults.is_empty() {
            true => Ok(OrderResult::default()),
            false => Err(faults.join("; ")),
        }
    }

    /// Stores the state of an instance that is to end, for the next start. If the disk doesn't take it, this is
    /// logged, and the state stays in memory.
    async fn keep_last_state(
        &self,
        instance: &Arc<Instance>,
        limit: Duration,
    ) -> Result<(), String> {
        if !instance.has_state() {
            return Ok(());
        }
        self.at(Some(StopStep::Save));
        let generation = instance.identity.generation;
        let saved = instance.save(limit).await;
        match saved.and_then(|state| KeptState::of(state, SnapshotOccasion::Stop, generation)) {
            Ok(state) => {
                self.at(Some(StopStep::Write));
                self.keep(&state).await;
                Ok(())
            }
            Err(text) => {
                self.now.running().stopping.unsaved = Some(text.clone());
                Err(format!("its state was not kept: {text}"))
            }
        }
    }

    fn at(&self, step: Option<StopStep>) {
        self.now.running().stopping.step = step;
        self.shared.stop_steps.0.fetch_add(1, Ordering::Relaxed);
    }
}
