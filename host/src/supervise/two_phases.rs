//! A takeover in two phases, for daemons with a large state (`#[daemon(delta = …)]`).
//!
//! In the first phase the old instance saves a snapshot and goes on, and the successor starts from it. In the second one the
//! guests wait while the old instance hands over what has changed since, and the successor takes it over. So their wait
//! doesn't depend on the size of the state. A failure in either phase leaves the old instance in place.
//!
//! Then the old instance, which no command can change any more, saves its whole state for the disk and for a rollback.
//! Until it has, it lives, and so does the successor.

use std::sync::Arc;

use super::build::{Built, Successor};
use super::reload::check_aside;
use super::retire::drain;
use super::{DaemonSpec, OrderResult, StartFrom, Supervisor};
use dae_runtime::instance::Instance;
use dae_runtime::plugin::start_fault::StartFault;
use dae_runtime::plugin::state_part::StatePart;
use dae_store::blocking;
use dae_store::report::CommandChanges;
use dae_store::snapshots::{KeptState, SnapshotOccasion};

impl Supervisor {
    /// Returns the running instance if the successor can take over from it in two phases: both know how, and speak of the
    /// same shape of the state.
    pub(super) fn in_two_phases(
        &self,
        spec: &DaemonSpec,
        from: &StartFrom,
    ) -> Option<Arc<Instance>> {
        let current = self.stateful()?;
        let [old, new] = [&self.spec, spec].map(|spec| &spec.artefact.manifest);
        let is_possible = [old, new].map(|one| one.hands_over_delta() && !one.exclusive);
        let is_same_shape = old.state_version == new.state_version;
        let is_wanted = matches!(from, StartFrom::Kept) && is_possible == [true, true];
        (is_wanted && is_same_shape).then(|| Arc::clone(&current.instance))
    }

    pub(super) async fn walk_in_two(
        &mut self,
        successor: Successor,
        old: Arc<Instance>,
        change: (&DaemonSpec, &CommandChanges),
    ) -> Result<OrderResult, StartFault> {
        let grace = self.shared.config().stop_grace();
        let (built, kept) = match self.start_from_snapshot(successor, &old).await {
            Ok(started) => started,
            Err(fault) => {
                // It would note changes for ever. Their end is no part of the reload, and neither is a failure there.
                let _ = old.save_part(StatePart::Delta, grace).await;
                return Err(fault);
            }
        };
        if let Err(text) = self.pass_delta(&old, &built.instance).await {
            self.reopen();
            self.discard(built);
            return Err(text.into());
        }
        Ok(self.switch(built, (kept, old), change).await)
    }

    /// Has the old instance save a snapshot, and starts the successor from it.
    async fn start_from_snapshot(
        &mut self,
        successor: Successor,
        old: &Arc<Instance>,
    ) -> Result<(Built, KeptState), StartFault> {
        let grace = self.shared.config().stop_grace();
        let snapshot = old.save_part(StatePart::Snapshot, grace).await?;
        self.monitor.state_bytes = snapshot.bytes().len();
        let generation = old.identity.generation;
        let kept = KeptState::unchecked(snapshot, SnapshotOccasion::Reload, generation);
        let built = self.start_checked(successor, Some(&kept)).await?;
        Ok((built, kept))
    }

    /// Holds the guests, and hands over what has changed since the snapshot.
    async fn pass_delta(&mut self, old: &Arc<Instance>, new: &Arc<Instance>) -> Result<(), String> {
        let grace = self.shared.config().stop_grace();
        self.gate.hold_for_change();
        if let Some(current) = &mut self.current {
            drain(&mut current.leased, grace).await;
        }
        self.now.saver.close().await;
        let delta = old.save_part(StatePart::Delta, grace).await?;
        check_aside(&delta).await?;
        new.apply(&delta, grace).await
    }

    /// Lets the new instance answer, stores the old one's last state, and ends it.
    async fn switch(
        &mut self,
        built: Built,
        (kept, old): (KeptState, Arc<Instance>),
        (spec, changes): (&DaemonSpec, &CommandChanges),
    ) -> OrderResult {
        let done = OrderResult {
            generation: built.instance.identity.generation,
            state_bytes: Some(kept.bytes()),
            changes: changes.clone(),
            ..OrderResult::default()
        };
        let before = std::mem::replace(&mut self.spec, spec.clone());
        let mode_before = before.mode;
        let new = Arc::clone(&built.instance);
        let held_back = self.now.saver.hold_back().await;
        let retired = self.put_in_charge(built, Some(&kept));
        drop(kept);
        self.tell_done(&done);
        self.send_reload(&done, mode_before);
        let mut left = self.last_state_of(old).await;
        if let Some(retired) = retired {
            self.retire_aside(retired);
        }
        if left.is_none() {
            // It has taken everything over.
            left = self.last_state_of(new).await;
        }
        // Without a state the code before would begin with none, so there is no way back.
        self.monitor.rollback_window = match &left {
            Some(left) => self.rollback_window_behind(before, Some(left.clone())),
            None => None,
        };
        if let Some(left) = &left {
            self.keep(left).await;
        }
        drop(held_back);
        done
    }

    /// Returns the whole state of an instance, for the disk and for a rollback. If it can't be had, this is logged.
    async fn last_state_of(&self, instance: Arc<Instance>) -> Option<KeptState> {
        let generation = instance.identity.generation;
        let grace = self.shared.config().stop_grace();
        let saved = match instance.save(grace).await {
            Ok(state) => {
                let of = move || KeptState::of(state, SnapshotOccasion::Reload, generation);
                blocking::run_or_here(of).await.unwrap_or_else(Err)
            }
            Err(text) => Err(text),
        };
        let name = &self.spec.name;
        saved
            .inspect_err(|cause| {
                let text = format!("its state could not be kept: {cause}");
                self.shared.tell(name, Some(generation), "error", &text);
            })
            .ok()
    }
}
