//! A new instance, wholly built: port, code, construction, and an answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Spec, Supervisor};
use crate::child::ChildPlan;
use crate::frame::StartMessage;
use crate::identity::Identity;
use crate::instance::{self, Instance, StartPlan};
use crate::report::Mode;
use crate::services::{Local, Resident};

impl Supervisor {
    /// Binds the port if that is still to be done, and constructs an instance that has answered.
    pub(super) async fn build(&mut self, spec: &Spec) -> Result<Arc<Instance>, String> {
        let port = self.bind(spec)?;
        let generation = self.now.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let built = match spec.mode {
            Mode::InProcess => self.build_here(spec, port, generation).await,
            Mode::Subprocess => self.build_apart(spec, port, generation).await,
        };
        built.map(Arc::new)
    }

    async fn build_here(
        &self,
        spec: &Spec,
        port: u16,
        generation: u64,
    ) -> Result<Instance, String> {
        let hash = spec.artefact.hash.clone();
        let store = Arc::clone(&self.shared.store);
        let image = self
            .shared
            .images
            .get(&spec.artefact.hash, move || store.image(&hash))
            .await?;
        let plan = StartPlan {
            image,
            manifest: Arc::new(spec.artefact.manifest.clone()),
            resident: Resident {
                identity: Arc::new(identity(spec, port, generation, std::process::id())),
                config: spec.config.to_string(),
                outlet: Arc::new(self.local(generation)),
            },
            runtime: self.shared.runtime.clone(),
            limit: self.shared.config.start_limit(),
        };
        instance::start(plan)
            .await
            .map_err(|fault| fault.to_string())
    }

    async fn build_apart(
        &self,
        spec: &Spec,
        port: u16,
        generation: u64,
    ) -> Result<Instance, String> {
        let message = StartMessage {
            host_pid: std::process::id(),
            // Straight from the store: a new process has nothing mapped under that name, and the store never writes over
            // a file.
            file: spec.artefact.path.clone(),
            manifest: spec.artefact.manifest.clone(),
            name: spec.name.clone(),
            port,
            generation,
            config: spec.config.to_string(),
            start_ms: self.shared.config.start_ms,
            bounds: spec.settings.bounds.clone(),
            nice: spec.settings.nice,
        };
        let plan = ChildPlan {
            message,
            settings: spec.settings.clone(),
            local: self.local(generation),
            limit: self.shared.config.start_limit(),
        };
        let spawner = self.shared.spawner.clone();
        let spec = spec.clone();
        let identity = move |pid| identity(&spec, port, generation, pid);
        // On the runtime of the guests, since that is where its socket is used.
        let started = self
            .shared
            .runtime
            .spawn(async move { instance::start_child(plan, identity, &spawner).await });
        let started = started
            .await
            .map_err(|error| format!("its start crashed: {error}"))?;
        started.map_err(|fault| fault.to_string())
    }

    fn local(&self, generation: u64) -> Local {
        Local {
            generation,
            journal: self.shared.journal.clone(),
            guests: Arc::clone(&self.door.guests),
        }
    }
}

fn identity(spec: &Spec, port: u16, generation: u64, pid: u32) -> Identity {
    Identity {
        name: spec.name.clone(),
        plugin: spec.artefact.manifest.name.clone(),
        version: spec.artefact.manifest.version.clone(),
        mode: spec.mode,
        pid,
        port,
        generation,
        since: Instant::now(),
    }
}
