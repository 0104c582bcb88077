//! Sets aside states that no instance starts from, before something else replaces them. They are kept for a while.
//!
//! This file also sets the file and the state for the next start of a daemon that its owner has stopped.

use super::reload::cured;
use super::{DaemonSpec, OrderResult, Replacement, StartFrom, Supervisor};
use dae_store::archive::{Departure, DepartureReason};
use dae_store::report::Mode;
use dae_store::snapshots::{KeptState, StoredState};

impl Supervisor {
    /// Makes the next start run the replacement instead of the previous file. Only its preflight runs now.
    pub(super) async fn put_in(&mut self, replacement: Replacement) -> Result<OrderResult, String> {
        let Replacement {
            spec, from, strict, ..
        } = replacement;
        if spec.artefact.hash != self.spec.artefact.hash {
            // A subprocess is its own preflight only if it is started.
            let tried = DaemonSpec {
                mode: Mode::InProcess,
                ..spec.clone()
            };
            self.try_out(&tried, &from).await.map_err(cured)?;
        }
        let (spec, changes) = self.check_callers(&spec, strict).await?;
        let set_aside = self.set_aside(&from, None).await?;
        match &from {
            StartFrom::Kept => {}
            StartFrom::Nothing => self.forget().await,
            StartFrom::State(state) => self.keep(state).await,
        }
        let done = OrderResult {
            changes,
            set_aside,
            ..OrderResult::default()
        };
        self.now.log_limit.adopt(spec.settings.log_level);
        self.now.running().spec = spec.clone();
        self.spec = spec;
        Ok(done)
    }

    /// Sets aside the state that the successor doesn't start from: the one that the running instance has `left`, or
    /// else the stored one. Returns its id.
    pub(super) async fn set_aside(
        &mut self,
        from: &StartFrom,
        left: Option<&KeptState>,
    ) -> Result<Option<String>, String> {
        let reason = match from {
            StartFrom::Kept => return Ok(None),
            StartFrom::Nothing => DepartureReason::Fresh,
            StartFrom::State(_) => DepartureReason::Replaced,
        };
        let (name, left) = (self.spec.name.clone(), left.cloned());
        let kept = self.shared.on_disk(move |disk| match left {
            Some(left) => {
                let departure = Departure::of(reason, StoredState::State(left));
                disk.archive.keep(&name, &departure)
            }
            None => disk.archive.set_aside(&disk.states, &name, reason),
        });
        kept.await.map_err(|error| {
            self.reopen();
            format!("its state can't be set aside: {error:#}")
        })
    }

    /// Undoes [`Supervisor::set_aside`] after the successor didn't start.
    pub(super) async fn take_back(&self, set_aside: Option<String>) {
        if let Some(id) = set_aside {
            let name = self.spec.name.clone();
            let taken_back = self.shared.on_disk(move |disk| {
                disk.archive.take_back(&name, &id);
                Ok(())
            });
            // A leftover is a harmless duplicate that expires after a week.
            let _ = taken_back.await;
        }
    }

    /// Sets aside the state that newer code has stored, before older code starts from `state`.
    pub(super) async fn set_aside_newer(&self, state: &KeptState, generation: u64) {
        let name = &self.spec.name;
        let (daemon, state) = (name.clone(), state.clone());
        let kept = self.shared.on_disk(move |disk| {
            let Ok(StoredState::State(newer)) = disk.states.find(&daemon) else {
                return Ok(None);
            };
            if newer.state == state.state {
                return Ok(None);
            }
            let departure = Departure::of(DepartureReason::RolledBack, StoredState::State(newer));
            disk.archive.keep(&daemon, &departure)
        });
        match kept.await {
            Ok(Some(id)) => self.tell_set_aside(&id, generation),
            Ok(None) => {}
            Err(error) => {
                let text = format!("the state of the newer code can't be set aside: {error:#}");
                self.shared.tell(name, Some(generation), "error", &text);
            }
        }
    }

    pub(super) fn tell_set_aside(&self, id: &str, generation: u64) {
        let name = &self.spec.name;
        let text = format!(
            "its former state is kept for a week as {id}; an install of {name} with the `state` {id} starts from it"
        );
        self.shared.tell(name, Some(generation), "info", &text);
    }
}
