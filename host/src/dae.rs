//! Dae, the daemon of daemons: one ecosystem, from taking its home to its end.
//!
//! Three owners share the ecosystem's data, each with its own file: the catalogue (what is registered, and what is
//! known about it), the running set (the supervised [`Daemon`]s, one for each entry of the registry, and the foreign
//! daemons), and staging (what is copied to the plugin store and swept from it). Every change of the ecosystem is a
//! method in `change`. The control socket, the drop-in directory and embedding programs all call these methods.
//! Changes to one name take turns; changes to other names don't wait for them.
//!
//! Life cycle: [`Builder::start`] takes the home's lock and restores the daemons of the registry. [`Dae::shutdown`]
//! undoes this in reverse order.
//!
//! # Locks
//!
//! A task takes locks only in this order, and may leave any of them out:
//!
//! 0. the turn to reload the config
//! 1. the turn of a name (`running`), of one name at a time
//! 2. the turn to sweep (`staging`), then the lock between staging and sweeping
//! 3. the turn to write the registry (`catalogue`)
//! 4. the publishing lock (`foreign`)
//! 5. one of the locks over plain data: the catalogue's records, the running set's daemons, the staged hashes, the
//!    lifetime's parts. Each is held for a few instructions, and no other lock is taken meanwhile.
//!
//! The turns are asynchronous locks: a task that waits for one holds no thread. Work on the disk runs on threads that
//! may block ([`dae_store::blocking`]), under turns alone and never under a lock over plain data. The work owns the
//! turn, so that it ends in order even if its caller goes away.

mod answer;
mod builtin;
mod call;
mod carry;
mod catalogue;
mod change;
mod changes;
mod config_reload;
mod configure;
mod departure;
mod endpoint;
mod events;
mod fault;
mod foreign;
mod graph;
mod import;
mod install;
mod lifetime;
mod log_level;
mod logs;
mod measure;
mod notices;
mod on_crash;
mod order;
mod remote;
mod restore;
mod rollback;
mod running;
mod shutdown;
mod staging;
mod status;
mod topics;
mod usage;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::supervise::{
    CodeSources, CurrentConfig, Daemon, DaemonDisk, EventSender, HealthTimer, Notice, StopSteps,
    SupervisorShared,
};
use catalogue::Catalogue;
use dae_runtime::plugin::libraries::Libraries;
use dae_runtime::process::subprocess::{GroupRecords, Spawner};
use dae_runtime::session::control::ControlSocket;
use dae_runtime::session::thread_start;
use dae_runtime::threads::spare::Threads;
use dae_store::archive::Archive;
use dae_store::atomic_file;
use dae_store::blocking;
use dae_store::config::Config;
use dae_store::event::DaeEventKind;
use dae_store::event_log;
use dae_store::home::{Home, HomeLock};
use dae_store::lock::lock;
use dae_store::log::{Console, Journal};
use dae_store::plugin_store::PluginStore;
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::snapshots::Snapshots;
use dae_store::tasks;
use endpoint::Endpoint;
use foreign::ForeignSet;
use lifetime::{Lifetime, Task};
use running::RunningSet;
use staging::Staging;

pub use crate::supervise::DaeEvents;
pub use call::CallFault;
pub use fault::{Fault, FaultKind};
pub use measure::{
    ChangeMeasures, CommandMeasures, DaemonMeasures, GuestMeasures, LatencyHistogram, Measures,
    OneCommandMeasures, OwnProcess, ReloadOutcome,
};
pub use shutdown::StopNews;

/// A running ecosystem. A clone is another handle to the same ecosystem.
///
/// ```no_run
/// # async fn embed(dir: &std::path::Path, file: &std::path::Path) -> anyhow::Result<()> {
/// use dae_host::Dae;
///
/// let dae = Dae::builder().home(dir).start().await?;
/// let sample = dae.install("Sample", file).await?;
/// println!("Sample answers on 127.0.0.1:{}", sample.port.unwrap());
/// dae.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Dae {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    shared: Arc<SupervisorShared>,
    endpoint: Endpoint,
    catalogue: Arc<Catalogue>,
    running: RunningSet,
    staging: Arc<Staging>,
    lifetime: Lifetime,
    /// A signal that the set of files to watch has changed.
    watch_anew: tokio::sync::Notify,
    /// True to reload a daemon when the file that it was installed from changes.
    watches_sources: bool,
    /// The turn to reload the config.
    config_turn: tokio::sync::Mutex<()>,
    // Drops last: the home stays locked for as long as anything of it is used.
    held: Arc<HomeLock>,
}

/// A builder that configures and starts an ecosystem.
#[derive(Debug, Default)]
pub struct Builder {
    home: Option<Home>,
    journal: Option<Journal>,
    is_apart: bool,
    ends_on_request: bool,
}

impl Dae {
    /// Returns a builder for an ecosystem.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns how many threads an ecosystem starts for guests and daemons' code.
    pub fn threads() -> usize {
        Threads::count()
    }

    /// Returns Dae's Common TCP port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.endpoint.port
    }

    /// Returns the ecosystem's home.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// Waits until no daemon is starting or reloading any more.
    pub async fn ready(&self) {
        for daemon in self.inner.running.daemons() {
            daemon.settled().await;
        }
    }
}

impl Builder {
    /// Sets the ecosystem's home. By default the environment decides: `DAE_HOME`, or the XDG base directories.
    #[must_use]
    pub fn home(mut self, home: impl Into<Home>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Sets the journal for logs. By default logs go only to the home's files.
    #[must_use]
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Sets the ecosystem apart from other hosts: it doesn't look for daemons of other programs, and takes any free
    /// port for Dae. If the home has a `config.json5`, that decides instead (`scan_ms`, `dae_port`). The file that a
    /// daemon was installed from is read again only when a caller installs or reloads it.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.is_apart = true;
        self
    }

    /// Lets the owner of the home end the ecosystem with `dae-host shutdown`. The program waits for that with
    /// [`Dae::shutdown_requested`], and then calls [`Dae::shutdown`]. By default the command is refused.
    #[must_use]
    pub fn ends_on_request(mut self) -> Self {
        self.ends_on_request = true;
        self
    }

    /// Starts the ecosystem: takes the home, restores the registry's daemons, and listens. It doesn't wait for the
    /// daemons; see [`Dae::ready`].
    ///
    /// # Errors
    /// Fails with [`dae_store::home::HomeBusy`] if another host has the home. Also fails if the home, the registry or
    /// the ports are not usable. Nothing runs then.
    pub async fn start(self) -> anyhow::Result<Dae> {
        let since = Instant::now();
        let (reply, started) = oneshot::channel();
        // A task of its own completes the start once it has begun. If the caller has gone by then, what runs is ended
        // in order.
        tokio::spawn(async move {
            if let Err(Ok(dae)) = reply.send(self.start_now(since).await) {
                dae.shutdown(dae.inner.shared.config().stop_grace()).await;
            }
        });
        let fault = "the start ended by a fault of the host, or the host is ending";
        started.await.context(fault)?
    }

    async fn start_now(self, since: Instant) -> anyhow::Result<Dae> {
        let (notices, noticed) = tokio::sync::mpsc::unbounded_channel();
        let assembled = blocking::run_or_here(move || self.assemble(since, notices)).await;
        let inner = Arc::new(assembled.map_err(anyhow::Error::msg)??);
        let dae = Dae { inner };
        if let Err(error) = Inner::begin(&dae.inner, noticed).await {
            dae.shutdown(dae.inner.shared.config().stop_grace()).await;
            return Err(error);
        }
        Ok(dae)
    }

    /// Takes the home and creates all parts. Nothing runs in them yet, but Dae's port is already bound.
    fn assemble(self, since: Instant, notices: UnboundedSender<Notice>) -> anyhow::Result<Inner> {
        let home = match self.home {
            Some(home) => home,
            None => Home::from_environment(std::env::var_os("DAE_HOME").map(PathBuf::from))?,
        };
        home.create()?;
        let held = Arc::new(home.lock()?);
        atomic_file::sweep(&home.data, &home.drop_in_dir());
        let journal = match self.journal {
            Some(journal) => journal,
            None => Journal::open(home.logs_dir(), Console::Off)?,
        };
        let config = config_of(&home, self.is_apart)?;
        let mut registry = Registry::load(&home.registry_file())?;
        let (endpoint, listening) = Endpoint::listen(&home, &config, &mut registry)?;
        let guests = Threads::start(thread_start::prepare)
            .context("the threads for guests can't be started")?;
        let parts = HostParts {
            config,
            journal,
            notices,
            runtime: guests.handle().clone(),
            since,
        };
        let shared = parts.shared(&home)?;
        let foreign = ForeignSet::new(&shared.config(), Arc::clone(&shared.directory));
        Ok(Inner {
            endpoint,
            catalogue: Catalogue::of(registry, home.registry_file(), Arc::clone(&held)),
            running: RunningSet::beside(foreign),
            staging: Staging::over(Arc::clone(&shared.code.store), Arc::clone(&held)),
            lifetime: Lifetime::of(guests, listening, self.ends_on_request),
            watch_anew: tokio::sync::Notify::new(),
            watches_sources: !self.is_apart,
            config_turn: tokio::sync::Mutex::default(),
            shared: Arc::new(shared),
            home,
            held,
        })
    }
}

/// Reads the home's config. Without the file, an ecosystem that is set apart gets other values for two settings.
fn config_of(home: &Home, is_apart: bool) -> anyhow::Result<Config> {
    let mut config = Config::load(&home.config_file())?;
    if is_apart && !home.config_file().exists() {
        (config.scan_ms, config.dae_port) = (0, 0);
    }
    Ok(config)
}

/// The parts of a host that its daemons share and that are made before them.
struct HostParts {
    config: Config,
    journal: Journal,
    notices: UnboundedSender<Notice>,
    /// The runtime for daemons' code and guests.
    runtime: Handle,
    /// The time at which the host started.
    since: Instant,
}

impl HostParts {
    /// Creates what all daemons of a home share.
    fn shared(self, home: &Home) -> anyhow::Result<SupervisorShared> {
        let store = PluginStore::open(home)?;
        store.sweep_copies()?;
        let spawner = Spawner::start(self.runtime.clone(), end_left(home));
        let spawner = spawner.context("the thread that makes processes can't be made")?;
        spawner.keep_in_reserve(self.config.reserve_processes);
        Ok(SupervisorShared {
            config: CurrentConfig::of(self.config),
            code: CodeSources {
                libraries: Arc::new(Libraries::default()),
                store: Arc::new(store),
                spawner,
                preflights: Arc::default(),
            },
            disk: DaemonDisk {
                states: Snapshots::of(home),
                archive: Archive::of(home),
            },
            journal: self.journal,
            directory: Arc::default(),
            notices: self.notices,
            runtime: self.runtime,
            events: EventSender::keeping(&home.events_dir()),
            stop_steps: StopSteps::default(),
            health_timer: HealthTimer::of(self.since),
            since: self.since,
        })
    }
}

/// Kills the processes that daemons of a killed host have left running. Returns the records for this host's own
/// processes.
fn end_left(home: &Home) -> GroupRecords {
    let records = GroupRecords::in_directory(home.runtime.join("workers"));
    let left = records.end_left();
    if left > 0 {
        tracing::warn!(
            left,
            "processes that daemons of the host before had started were left, and were killed"
        );
    }
    records
}

impl Inner {
    /// Starts everything that needs the complete ecosystem.
    async fn begin(inner: &Arc<Self>, noticed: UnboundedReceiver<Notice>) -> anyhow::Result<()> {
        let lifetime = &inner.lifetime;
        lifetime.keep(Task::Loop(notices::take_note(inner, noticed)));
        lifetime.keep(Task::Loop(on_crash::run_programs(inner)));
        inner.endpoint.enter(&inner.shared);
        inner.on_disk(Inner::send_start).await?;
        inner.on_disk(Inner::finish_uninstalls).await?;
        inner.bring_back().await;
        answer::open(inner);
        let opened = inner.on_disk(|inner| {
            std::fs::create_dir_all(inner.home.drop_in_dir())?;
            let gate = Arc::clone(&inner.endpoint.control_gate);
            ControlSocket::listen(&inner.home, Arc::clone(&inner.held), gate)
        });
        lifetime.keep(Task::Control(opened.await??));
        lifetime.keep(Task::Loop(watch::watch(&Dae {
            inner: Arc::clone(inner),
        })));
        inner.reserve_names();
        lifetime.keep(Task::Loop(inner.sweep_past()));
        lifetime.keep(Task::Loop(inner.publish_foreign()));
        let idle = blocking::keep_one_idle;
        let idle = tasks::keep_alive(&Handle::current(), "the idle thread", idle);
        lifetime.keep(Task::Loop(idle));
        lifetime.keep(Task::Loop(inner.look_for_foreign()));
        let port = inner.endpoint.port;
        tracing::info!(port, home = %inner.home.data.display(), "Dae listens");
        Ok(())
    }

    /// Sends the event of the host's start, which says whether the host before it ended in order.
    fn send_start(&self) {
        let started = DaeEventKind::HostStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            after_crash: event_log::is_host_crashed(&self.home.events_dir()),
        };
        self.shared.events.send(DAE_NAME, None, started);
    }

    /// Runs work on the disk on a thread that may block, or on this one if the system has no thread left. The home
    /// stays locked until the work has ended.
    ///
    /// # Errors
    /// The work panicked, or the host is ending.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = Arc::clone(self);
        let done = blocking::run_or_here(move || work(&inner)).await;
        done.map_err(Fault::failed)
    }

    /// Changes the registry both on the disk and in memory, or in neither. It is on the disk before this returns.
    async fn change_registry(
        &self,
        change: impl FnOnce(&mut Registry) + Send,
    ) -> anyhow::Result<()> {
        if self.catalogue.change(change).await? {
            self.reserve_names();
        }
        Ok(())
    }

    /// Reserves the names of the registry, so that no foreign daemon is listed under one of them.
    fn reserve_names(&self) {
        let foreign = &self.running.foreign;
        foreign.reserve(|| self.catalogue.names());
    }

    fn daemon(&self, name: &str) -> Option<Arc<Daemon>> {
        self.running.daemon(name)
    }
}
