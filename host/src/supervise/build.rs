//! Builds a new instance completely: port, code, construction, and an answer.
//!
//! There are two steps, so that guests need not wait for the first. [`Supervisor::prepare`] loads the file beside
//! the running instance, in this process or in another. If it hangs there, it blocks no guest. [`Supervisor::start`]
//! passes the state to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::time::timeout;

use super::listen;
use super::{DaemonSpec, Supervisor};
use dae_runtime::instance::{self, Instance, StartPlan};
use dae_runtime::peers::client::Host;
use dae_runtime::peers::ecosystem_api::EcosystemApi;
use dae_runtime::plugin::host_api::{HostedInstance, LocalHostApi};
use dae_runtime::plugin::identity::Identity;
use dae_runtime::plugin::libraries::{LibraryFault, LibraryUse};
use dae_runtime::plugin::start_fault::StartFault;
use dae_runtime::process::StartMessage;
use dae_runtime::process::subprocess::{LoadedSubprocess, Spawner, Subprocess, SubprocessPlan};
use dae_runtime::session::accept::Listener;
use dae_store::blocking;
use dae_store::plugin_store::Artefact;
use dae_store::report::Mode;
use dae_store::settings::GrantedRight;
use dae_store::snapshots::KeptState;
use dae_store::state_text::StateText;

/// A successor that has its port, its number and its code, but is not started. Guests need not wait for this step.
pub(super) struct Successor {
    spec: DaemonSpec,
    attempt: Attempt,
    /// The new listener, if the successor uses another port than the running instance.
    listening: Option<Listener>,
    code: LoadedCode,
}

/// One attempt to build an instance.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    /// The generation that it becomes if it is accepted. A refused attempt takes no generation: the next one gets
    /// it.
    generation: u64,
    /// The unique number of the attempt. It distinguishes a late report of a refused attempt from one of its
    /// successor.
    number: u64,
}

/// The place where the code was loaded.
pub(super) enum LoadedCode {
    Here(Arc<LibraryUse>),
    Apart(Box<LoadedSubprocess>),
}

/// A new instance that has answered, and all that replaces the previous one.
pub(super) struct Built {
    pub(super) instance: Arc<Instance>,
    /// The library that it runs, if it is in-process.
    pub(super) library: Option<Arc<LibraryUse>>,
    pub(super) listening: Option<Listener>,
}

impl Successor {
    /// Returns its file, with the schemas that its code has made.
    pub(super) fn artefact(&self) -> Arc<Artefact> {
        Arc::clone(&self.spec.artefact)
    }
}

impl Supervisor {
    /// Loads and starts an instance.
    pub(super) async fn build(
        &mut self,
        spec: &DaemonSpec,
        state: Option<&KeptState>,
    ) -> Result<Built, String> {
        let successor = self.prepare(spec).await?;
        let built = self.start(successor, state).await;
        built.map_err(|fault| fault.text)
    }

    /// Binds the port if needed, and loads the file, beside the running instance.
    pub(super) async fn prepare(&mut self, spec: &DaemonSpec) -> Result<Successor, String> {
        if spec.artefact.manifest.exclusive {
            self.all_retired().await;
        }
        let (port, listening) = self.bind(spec)?;
        self.attempts += 1;
        let attempt = Attempt {
            generation: self.now.generation.load(Ordering::Relaxed) + 1,
            number: self.attempts,
        };
        // Use the actual port, whatever was requested.
        let mut spec = spec.clone();
        spec.port = Some(port);
        let mut code = self.load(&spec, attempt).await?;
        self.describe(&mut spec, &mut code).await?;
        Ok(Successor {
            spec,
            attempt,
            listening,
            code,
        })
    }

    /// Constructs an instance from the successor. The instance has answered.
    pub(super) async fn start(
        &self,
        successor: Successor,
        state: Option<&KeptState>,
    ) -> Result<Built, StartFault> {
        let Successor {
            spec,
            attempt,
            listening,
            code,
        } = successor;
        let state = state.map(|kept| kept.state.clone());
        let (instance, library) = match code {
            LoadedCode::Here(library) => {
                let started = self.start_here(&spec, attempt, (&library, state)).await?;
                (started, Some(library))
            }
            LoadedCode::Apart(loaded) => {
                let started = self.start_apart(spec, attempt, (*loaded, state)).await?;
                (started, None)
            }
        };
        Ok(Built {
            instance: Arc::new(instance),
            library,
            listening,
        })
    }

    /// Returns the daemon's port, and a new listener if another port than the present one is needed.
    pub(super) fn bind(&mut self, spec: &DaemonSpec) -> Result<(u16, Option<Listener>), String> {
        if let Some(listening) = &self.listening
            && (!spec.is_port_pinned || spec.port == Some(listening.port()))
        {
            return Ok((listening.port(), None));
        }
        let listening = listen::bind(spec, &self.gate, &self.shared.runtime)?;
        let port = listening.port();
        if self.listening.is_some() {
            return Ok((port, Some(listening)));
        }
        self.listen(listening);
        Ok((port, None))
    }

    /// Makes `listening` the daemon's listener. A listener on another port ends; its guests stay.
    pub(super) fn listen(&mut self, listening: Listener) {
        self.now.running().port = Some(listening.port());
        self.listening = Some(listening);
    }

    async fn start_here(
        &self,
        spec: &DaemonSpec,
        attempt: Attempt,
        (library, state): (&LibraryUse, Option<StateText>),
    ) -> Result<Instance, StartFault> {
        let place = (Mode::InProcess, attempt);
        let plan = StartPlan {
            library: library.library(),
            manifest: Arc::clone(&spec.artefact.manifest),
            commands: library.commands(&spec.artefact.manifest),
            hosted: HostedInstance {
                identity: Arc::new(identity(spec, place, std::process::id())),
                config: spec.config.to_string(),
                outlet: Arc::new(self.local(attempt.generation, spec)),
            },
            runtime: self.shared.runtime.clone(),
            state,
            limit: self.shared.config().start_limit(),
        };
        instance::start(plan).await
    }

    /// Loads the code where the daemon is to run. If only the loader refuses the file, because the host's process
    /// has no space left for it, the code runs in a process of its own.
    async fn load(&self, spec: &DaemonSpec, attempt: Attempt) -> Result<LoadedCode, String> {
        if self.where_to(spec) == Mode::InProcess {
            match self.library(spec).await {
                Ok(library) => return Ok(LoadedCode::Here(library)),
                Err(fault) if fault.is_of_loader && Spawner::is_possible() => {
                    let apart = self.load_apart(spec, attempt).await?;
                    let text = format!(
                        "it can't be loaded into the host's process and runs in a process of its own: {}",
                        fault.text
                    );
                    self.shared.tell(&spec.name, None, "warn", &text);
                    return Ok(LoadedCode::Apart(Box::new(apart)));
                }
                Err(fault) => return Err(fault.text),
            }
        }
        let apart = self.load_apart(spec, attempt).await?;
        Ok(LoadedCode::Apart(Box::new(apart)))
    }

    async fn library(&self, spec: &DaemonSpec) -> Result<Arc<LibraryUse>, LibraryFault> {
        let artefact = Arc::clone(&spec.artefact);
        let store = Arc::clone(&self.shared.code.store);
        let copy = move || store.copy_for_loading(&artefact);
        let limit = self.shared.config().start_limit();
        let library = self.shared.code.libraries.get(&spec.artefact.hash, copy);
        timeout(limit, library).await.unwrap_or_else(|_| {
            let text = format!(
                "it was not loaded within {limit:?}; a thread of the host is left behind with it"
            );
            Err(LibraryFault::from(text))
        })
    }

    async fn load_apart(
        &self,
        spec: &DaemonSpec,
        attempt: Attempt,
    ) -> Result<LoadedSubprocess, String> {
        let limit = self.shared.config().start_limit();
        let plan = SubprocessPlan {
            message: StartMessage {
                generation: attempt.generation,
                ..self.load_message(spec)
            },
            settings: (*spec.settings).clone(),
            local: self.local(attempt.generation, spec),
            load_limit: limit,
            start_limit: limit,
            on_end: self.hold_at_end(attempt),
        };
        let spawner = self.shared.code.spawner.clone();
        // Runs on the guests' runtime, because its socket is used there.
        let loading = self
            .shared
            .runtime
            .spawn(async move { Subprocess::load(plan, &spawner).await });
        loading
            .await
            .map_err(|error| format!("it can't be loaded: {}", blocking::why(error)))?
    }

    async fn start_apart(
        &self,
        spec: DaemonSpec,
        attempt: Attempt,
        (loaded, state): (LoadedSubprocess, Option<StateText>),
    ) -> Result<Instance, StartFault> {
        let identity = move |pid| identity(&spec, (Mode::Subprocess, attempt), pid);
        let starting = self
            .shared
            .runtime
            .spawn(async move { instance::start_subprocess(loaded, identity, state).await });
        starting
            .await
            .map_err(|error| format!("it can't be started: {}", blocking::why(error)))?
    }

    /// Returns the place where the code runs: in-process while the process may load another library, which it never
    /// unloads.
    fn where_to(&self, spec: &DaemonSpec) -> Mode {
        let (config, libraries) = (self.shared.config(), &self.shared.code.libraries);
        if spec.mode == Mode::Subprocess || libraries.has(&spec.artefact.hash) {
            return spec.mode;
        }
        let count = libraries.count();
        if count >= config.libraries_max {
            let text = format!(
                "{count} files are loaded into the host's process, as many as it may keep (a thread key of the process each, \
                 for ever); this one runs in a process of its own until the host is restarted"
            );
            self.shared.tell(&spec.name, None, "warn", &text);
            return Mode::Subprocess;
        }
        if count == config.libraries_warn && count > 0 {
            let max = config.libraries_max;
            let text = format!(
                "{count} files are loaded into the host's process; from {max} on, new ones run in their own"
            );
            self.shared.tell(&spec.name, None, "warn", &text);
        }
        Mode::InProcess
    }

    /// Returns the first message to a worker, without a generation.
    pub(super) fn load_message(&self, spec: &DaemonSpec) -> StartMessage {
        StartMessage {
            host_pid: std::process::id(),
            // Straight from the store: a new process has nothing mapped under that name, and the store never writes
            // over a file.
            file: spec.artefact.path.clone(),
            manifest: (*spec.artefact.manifest).clone(),
            name: spec.name.clone(),
            port: spec.port.unwrap_or(0),
            generation: 0,
            config: spec.config.to_string(),
            preflight: None,
            start_ms: self.shared.config().start_ms,
            env: spec.settings.env.clone(),
            bounds: spec.settings.bounds.clone(),
            nice: spec.settings.nice,
            is_held: spec.artefact.manifest.hands_over_delta(),
        }
    }

    /// Returns a callback that makes the gate queue lines as soon as the process ends, before this task learns of
    /// it.
    fn hold_at_end(&self, attempt: Attempt) -> Box<dyn FnOnce() + Send> {
        let gate = Arc::clone(&self.gate);
        Box::new(move || gate.hold_behind(attempt.number))
    }

    /// Returns the host API for an instance of that generation; 0 stands for a preflight, which changes nothing.
    pub(super) fn local(&self, generation: u64, spec: &DaemonSpec) -> LocalHostApi {
        let is_bridge = generation > 0 && spec.settings.grants.contains(&GrantedRight::Bridge);
        let host = Host {
            visitor: self.spec.name.clone(),
            directory: Arc::clone(&self.shared.directory),
            limits: self.gate.limits.clone(),
            runtime: self.shared.runtime.clone(),
            client_listener: OnceLock::new(),
            opened: AtomicUsize::new(0),
            state_keeper: Some(self.now.saver.keeper(generation)),
            bridge: is_bridge.then(|| Arc::clone(&self.gate)),
        };
        LocalHostApi {
            generation,
            journal: self.shared.journal.clone(),
            log_limit: Arc::clone(&self.now.log_limit),
            peers: EcosystemApi::new(host, Arc::clone(&self.gate.guests)),
        }
    }
}

fn identity(spec: &DaemonSpec, (mode, attempt): (Mode, Attempt), pid: u32) -> Identity {
    Identity {
        name: spec.name.clone(),
        plugin: spec.artefact.manifest.name.clone(),
        version: spec.artefact.manifest.version.clone(),
        is_shared: spec.artefact.manifest.shared,
        mode,
        pid,
        port: spec.port.unwrap_or(0),
        generation: attempt.generation,
        attempt: attempt.number,
        since: Instant::now(),
    }
}
