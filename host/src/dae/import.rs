//! Gives a daemon a state from outside: one that was exported here or from another home.
//!
//! A new instance of the same code starts from it, as at a reload. If the code can't read the state, the old instance runs
//! on. The state of before goes to the archive, and `rollback` returns to it.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use super::carry::ChangeKind;
use super::change::{installed, refused};
use super::{Dae, Fault};
use crate::supervise::{ChangeStart, Replacement, StartFrom};
use dae_store::daemon_state::DaemonState;
use dae_store::registry::SetAside;
use dae_store::report::{ImportRequest, Installed};
use dae_store::snapshots::{KeptState, SnapshotOccasion};

/// The members that every state has; see [`KeptState::state`].
#[derive(Deserialize)]
struct StateForm {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(rename = "data")]
    _data: serde::de::IgnoredAny,
}

impl Dae {
    /// Has a daemon start from a state in the form of [`Dae::state`].
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, it keeps no state, or its code can't read this one. It runs on as before
    /// then.
    pub async fn import_state(&self, request: ImportRequest) -> Result<Installed, Fault> {
        let name = request.name.clone();
        self.carry_through(|dae, begin| async move {
            let imported = dae.import_now(request, &begin).await;
            dae.inner.note_outcome(&name, ChangeKind::Import, &imported);
            imported
        })
        .await
    }

    async fn import_now(
        &self,
        request: ImportRequest,
        begin: &Arc<ChangeStart>,
    ) -> Result<Installed, Fault> {
        let ImportRequest { name, state } = request;
        let began = Instant::now();
        let _turn = self.inner.running.turn(&name).await;
        let daemon = self.inner.known(&name)?;
        let glance = daemon.glance();
        let artefact = Arc::clone(&glance.spec.artefact);
        if artefact.manifest.state_version.is_none() {
            return Err(Fault::failed(format!("{name} keeps no state")));
        }
        if let Err(error) = serde_json::from_str::<StateForm>(state.get()) {
            return Err(Fault::bad_arguments(format!(
                "a state is an object with `version` and `data`, as `state` prints it: {error}"
            )));
        }
        let (bytes, generation) = (state.get().as_bytes(), glance.generation);
        let state = KeptState::of(bytes, SnapshotOccasion::Import, generation);
        let state = state.map_err(Fault::bad_arguments)?;
        let replacement = Replacement::of(glance.spec, StartFrom::State(Box::new(state)));
        let made = match glance.state {
            DaemonState::Stopped | DaemonState::Finished | DaemonState::Starting => {
                daemon.prepare(begin, replacement).await
            }
            _ => daemon.replace(begin, replacement).await,
        };
        let done = made.map_err(|text| refused(&name, &text, &daemon))?;
        let set_aside = done.set_aside.clone().map(|state| SetAside {
            hash: artefact.hash.clone(),
            state,
        });
        if set_aside.is_some() {
            let kept = self.inner.keep(&name, |entry| entry.set_aside = set_aside);
            kept.await?;
        }
        Ok(installed(&daemon, &artefact, done, began))
    }
}
