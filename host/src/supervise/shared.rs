//! The working data of a supervisor: the file and settings of its daemon, and the parts of the host that all share.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::daemon::Notice;
use super::events::EventSender;
use super::health_timer::HealthTimer;
use super::stop::StopSteps;
use dae_runtime::peers::directory::Directory;
use dae_runtime::plugin::libraries::Libraries;
use dae_runtime::process::subprocess::{Preflights, Spawner};
use dae_store::archive::Archive;
use dae_store::blocking;
use dae_store::config::Config;
use dae_store::lock::lock;
use dae_store::log::{Journal, Record};
use dae_store::plugin_store::{Artefact, PluginStore};
use dae_store::report::Mode;
use dae_store::settings::Settings;
use dae_store::snapshots::Snapshots;

/// The file that a daemon runs, and its settings.
#[derive(Debug, Clone)]
pub struct DaemonSpec {
    /// The name that the daemon runs under.
    pub name: String,
    /// The daemon's file in the plugin store.
    pub artefact: Arc<Artefact>,
    /// The JSON object for the daemon's `start`.
    pub config: serde_json::Value,
    /// The port that the daemon had or was given.
    pub port: Option<u16>,
    /// True if the daemon must have that port and no other.
    pub is_port_pinned: bool,
    /// The place where the daemon's code runs.
    pub mode: Mode,
    /// The settings. Many daemons share the same ones.
    pub settings: Arc<Settings>,
}

/// The parts of the host that all supervisors share.
#[derive(Debug)]
pub struct SupervisorShared {
    /// The host's settings.
    pub(crate) config: CurrentConfig,
    /// The sources of daemons' code.
    pub code: CodeSources,
    /// The states of daemons on the disk.
    pub(crate) disk: DaemonDisk,
    /// The log.
    pub journal: Journal,
    /// The runtime for daemons' code and guests, separate from the supervisors' own.
    pub runtime: Handle,
    /// The name directory.
    pub(crate) directory: Arc<Directory>,
    /// The channel for changes that supervisors made by themselves.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// The sender of the ecosystem's events.
    pub(crate) events: EventSender,
    /// The count of steps that stopping daemons have taken.
    pub(crate) stop_steps: StopSteps,
    /// The timer for the daemons' health checks.
    pub health_timer: Arc<HealthTimer>,
    /// The time at which the host started: the zero of its monotonic time.
    pub since: Instant,
}

/// The host's settings, which a reload of the config replaces.
#[derive(Debug)]
pub(crate) struct CurrentConfig(Mutex<Arc<Config>>);

impl CurrentConfig {
    pub(crate) fn of(config: Config) -> Self {
        CurrentConfig(Mutex::new(Arc::new(config)))
    }

    /// Puts other settings in their place.
    pub(crate) fn replace(&self, config: Arc<Config>) {
        *lock(&self.0) = config;
    }
}

/// The sources of daemons' code, and the spawner of the processes that run it.
#[derive(Debug)]
pub struct CodeSources {
    /// The loaded libraries.
    pub libraries: Arc<Libraries>,
    /// The plugin store.
    pub store: Arc<PluginStore>,
    /// The spawner of processes.
    pub spawner: Spawner,
    /// The processes that try many files.
    pub preflights: Arc<Preflights>,
}

/// The states of daemons on the disk, present and archived.
#[derive(Debug)]
pub(crate) struct DaemonDisk {
    /// The stored states of daemons.
    pub(crate) states: Snapshots,
    /// The archive of what was uninstalled or set aside.
    pub(crate) archive: Archive,
}

impl SupervisorShared {
    /// Returns the host's settings as they are now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.config.0))
    }

    /// Runs work on the stored states or the archive on a thread that may block, or on this one if the system has no
    /// thread left.
    ///
    /// # Errors
    /// The work's own, or the host is ending.
    pub(crate) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&DaemonDisk) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let shared = Arc::clone(self);
        let done = blocking::run_or_here(move || work(&shared.disk)).await;
        done.map_err(anyhow::Error::msg)?
    }

    pub(crate) fn tell(&self, daemon: &str, generation: Option<u64>, level: &str, text: &str) {
        self.journal
            .write(Record::about(daemon, generation, level, text));
    }
}
