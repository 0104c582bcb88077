//! A new instance, wholly built: port, code, construction, and an answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::value::RawValue;

use super::{Shared, Spec, Supervisor};
use crate::child::ChildPlan;
use crate::dylib::Image;
use crate::errands::Errands;
use crate::frame::StartMessage;
use crate::identity::Identity;
use crate::instance::{self, Instance, StartPlan};
use crate::report::Mode;
use crate::services::{Local, Resident};
use crate::states::KeptState;
use crate::visit::Host;

impl Supervisor {
    /// Binds the port if that is still to be done, and constructs an instance that has answered.
    pub(super) async fn build(
        &mut self,
        spec: &Spec,
        state: Option<&KeptState>,
    ) -> Result<Arc<Instance>, String> {
        let port = self.bind(spec)?;
        let generation = self.now.generation.fetch_add(1, Ordering::Relaxed) + 1;
        // The port that it has, whatever was asked for.
        let mut spec = spec.clone();
        spec.port = Some(port);
        let state = state.map(|kept| kept.state.clone());
        let built = match self.where_to(&spec) {
            Mode::InProcess => self.build_here(&spec, state, generation).await,
            Mode::Subprocess => self.build_apart(&spec, state, generation).await,
        };
        built.map(Arc::new)
    }

    async fn build_here(
        &self,
        spec: &Spec,
        state: Option<Box<RawValue>>,
        generation: u64,
    ) -> Result<Instance, String> {
        let plan = StartPlan {
            image: self.image(spec).await?,
            manifest: Arc::new(spec.artefact.manifest.clone()),
            resident: Resident {
                identity: Arc::new(identity(
                    spec,
                    (Mode::InProcess, generation),
                    std::process::id(),
                )),
                config: spec.config.to_string(),
                outlet: Arc::new(self.local(generation)),
            },
            runtime: self.shared.runtime.clone(),
            state,
            limit: self.shared.config.start_limit(),
        };
        instance::start(plan)
            .await
            .map_err(|fault| fault.to_string())
    }

    async fn image(&self, spec: &Spec) -> Result<Image, String> {
        let hash = spec.artefact.hash.clone();
        let store = Arc::clone(&self.shared.store);
        let copy = move || store.image(&hash);
        self.shared.images.get(&spec.artefact.hash, copy).await
    }

    /// Loads its file beside the one that runs, where there is room for it: nobody has to wait for that.
    pub(super) async fn load(&self, spec: &Spec) -> Result<(), String> {
        let Shared { images, config, .. } = &self.shared;
        let has_room = images.count() < config.images_max;
        match has_room && self.where_to(spec) == Mode::InProcess {
            true => self.image(spec).await.map(drop),
            false => Ok(()),
        }
    }

    async fn build_apart(
        &self,
        spec: &Spec,
        state: Option<Box<RawValue>>,
        generation: u64,
    ) -> Result<Instance, String> {
        let message = StartMessage {
            generation,
            ..self.start_message(spec, state)
        };
        let plan = ChildPlan {
            message,
            settings: spec.settings.clone(),
            local: self.local(generation),
            limit: self.shared.config.start_limit(),
            on_end: self.hold_at_end(generation),
        };
        let spawner = self.shared.spawner.clone();
        let spec = spec.clone();
        let identity = move |pid| identity(&spec, (Mode::Subprocess, generation), pid);
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

    /// In-process as long as the process has room for another image, which it never gives back.
    fn where_to(&self, spec: &Spec) -> Mode {
        let Shared { images, config, .. } = &self.shared;
        if spec.mode == Mode::Subprocess || images.has(&spec.artefact.hash) {
            return spec.mode;
        }
        let count = images.count();
        if count >= config.images_max {
            let text = format!(
                "{count} files are loaded into the host's process, as many as it may keep (a thread key of the process each, \
                 for ever); this one runs in a process of its own until the host is restarted"
            );
            self.shared.tell(&spec.name, None, "warn", &text);
            return Mode::Subprocess;
        }
        if count == config.images_warn {
            let max = config.images_max;
            let text = format!(
                "{count} files are loaded into the host's process; from {max} on, new ones run in their own"
            );
            self.shared.tell(&spec.name, None, "warn", &text);
        }
        Mode::InProcess
    }

    /// What a worker is told; of no generation yet.
    pub(super) fn start_message(&self, spec: &Spec, state: Option<Box<RawValue>>) -> StartMessage {
        StartMessage {
            host_pid: std::process::id(),
            // Straight from the store: a new process has nothing mapped under that name, and the store never writes over
            // a file.
            file: spec.artefact.path.clone(),
            manifest: spec.artefact.manifest.clone(),
            name: spec.name.clone(),
            port: spec.port.unwrap_or(0),
            generation: 0,
            config: spec.config.to_string(),
            state,
            is_trial: false,
            start_ms: self.shared.config.start_ms,
            bounds: spec.settings.bounds.clone(),
            nice: spec.settings.nice,
        }
    }

    /// Lines wait from the moment at which nobody is there to take them, and not only once this task has heard of it.
    fn hold_at_end(&self, generation: u64) -> Box<dyn FnOnce() + Send> {
        let door = Arc::clone(&self.door);
        Box::new(move || door.hold_behind(generation))
    }

    pub(super) fn local(&self, generation: u64) -> Local {
        let host = Host {
            visitor: self.spec.name.clone(),
            neighbours: Arc::clone(&self.shared.neighbours),
            limits: self.door.limits.clone(),
            runtime: self.shared.runtime.clone(),
            told: OnceLock::new(),
        };
        Local {
            generation,
            journal: self.shared.journal.clone(),
            neighbourhood: Errands::new(host, Arc::clone(&self.door.guests)),
        }
    }
}

fn identity(spec: &Spec, (mode, generation): (Mode, u64), pid: u32) -> Identity {
    Identity {
        name: spec.name.clone(),
        plugin: spec.artefact.manifest.name.clone(),
        version: spec.artefact.manifest.version.clone(),
        mode,
        pid,
        port: spec.port.unwrap_or(0),
        generation,
        since: Instant::now(),
    }
}
