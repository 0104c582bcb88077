//! Dae, the daemon of daemons: one ecosystem, from taking its home to its end.
//!
//! It owns the registry, and one supervised [`Daemon`] for each entry in it. Every change of the ecosystem is a
//! method in `change`. The control socket, the drop-in directory and embedding programs all call these methods.
//! Changes to one name take turns; changes to other names don't wait for them.
//!
//! Life cycle: [`Builder::start`] takes the home's lock and restores the daemons of the registry. [`Dae::shutdown`]
//! undoes this in reverse order.

mod answer;
mod carry;
mod change;
mod changes;
mod restore;
// Public because the program applies the rules of `departure` and `request` if no host runs.
#[doc(hidden)]
pub mod departure;
mod fault;
mod foreign;
mod install;
mod logs;
mod notices;
mod order;
#[doc(hidden)]
pub mod request;
mod rollback;
mod shutdown;
mod stage;
mod status;
mod topics;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::discover::Discovery;
use crate::supervise::{Daemon, HealthTimer, Notice, StopSteps, SupervisorShared};
use dae_runtime::peers::directory::CredentialSource;
use dae_runtime::plugin::libraries::Libraries;
use dae_runtime::process::subprocess::{GroupRecords, Spawner};
use dae_runtime::session::accept::{self, Listener};
use dae_runtime::session::control::ControlSocket;
use dae_runtime::session::gate::{Gate, GatePhase};
use dae_runtime::session::thread_start;
use dae_runtime::threads::spare::Threads;
use dae_store::archive::Archive;
use dae_store::atomic_file;
use dae_store::config::Config;
use dae_store::home::{Home, HomeLock};
use dae_store::lock::lock;
use dae_store::log::{Console, Journal};
use dae_store::plugin_store::PluginStore;
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::{Credential, Refusal};
use dae_store::snapshots::Snapshots;
use dae_store::tasks;

pub use fault::{Fault, FaultKind};
pub use shutdown::StopNews;

/// The number of ports after its own that Dae tries if that one is taken. After them, it takes any free port.
const PORTS_TRIED: u16 = 16;

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
    port: u16,
    gate: Arc<Gate>,
    control_gate: Arc<Gate>,
    registry: Mutex<Registry>,
    /// The number of changes of the registry. It grows under the registry's lock.
    registry_changes: AtomicU64,
    /// Ports that were chosen and are not recorded yet.
    new_ports: Mutex<BTreeMap<String, u16>>,
    daemons: Mutex<BTreeMap<String, Arc<Daemon>>>,
    /// The daemons of this machine that this host doesn't run.
    foreign: Arc<Discovery>,
    /// A lock for publishing foreign daemons to the name directory, so that the list published last is the latest.
    sharing: Mutex<()>,
    /// Daemons of the registry that could not be restored, and why. They stay in the registry until they are
    /// installed again or uninstalled.
    lost: Mutex<BTreeMap<String, String>>,
    /// Notes on how a daemon was started: a circle in the start order, or other daemons that weren't ready.
    start_notes: Mutex<BTreeMap<String, String>>,
    /// The last refused change of each daemon, until one is accepted.
    refusals: Mutex<BTreeMap<String, Refusal>>,
    /// One lock for each name that is or was changed. See [`Inner::turn`].
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Hashes of artefacts that are staged but not in the registry yet. They must not be swept.
    staged: Mutex<Vec<String>>,
    /// Locked shared while staging and exclusively while sweeping. So no sweep runs between storing a file and
    /// noting its hash.
    sweeping: RwLock<()>,
    tasks: Mutex<Vec<Task>>,
    /// Drop-ins whose file has gone, and the time at which they are uninstalled, counted from the host's start.
    absent: Mutex<BTreeMap<String, Duration>>,
    /// Cancelled when the end begins. After that nothing new begins.
    ending: CancellationToken,
    /// Cancelled when everything has ended. Open requests are then answered that the host has ended.
    ended: CancellationToken,
    /// A signal that the set of files to watch has changed.
    watch_anew: tokio::sync::Notify,
    /// The threads for daemons' code and guests. They are separate, so that no handler can block the management of
    /// the ecosystem.
    guests: Mutex<Option<Threads>>,
    // Drops last: the home stays locked for as long as anything of it is used.
    held: Arc<HomeLock>,
}

/// A part that runs for the whole ecosystem. They are kept in the order of their start.
#[derive(Debug)]
enum Task {
    Listening(#[expect(dead_code, reason = "held until it is dropped")] Listener),
    Control(#[expect(dead_code, reason = "held until it is dropped")] ControlSocket),
    Loop(JoinHandle<()>),
}

/// A builder that configures and starts an ecosystem.
#[derive(Debug, Default)]
pub struct Builder {
    home: Option<Home>,
    journal: Option<Journal>,
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
        self.inner.port
    }

    /// Returns the ecosystem's home.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// Waits until no daemon is starting or reloading any more.
    pub async fn ready(&self) {
        for daemon in self.inner.all_daemons() {
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

    /// Starts the ecosystem: takes the home, restores the registry's daemons, and listens. It doesn't wait for the
    /// daemons; see [`Dae::ready`].
    ///
    /// # Errors
    /// Fails with [`dae_store::home::HomeBusy`] if another host has the home. Also fails if the home, the registry or
    /// the ports are not usable. Nothing runs then.
    pub async fn start(self) -> anyhow::Result<Dae> {
        let since = Instant::now();
        let (notices, noticed) = tokio::sync::mpsc::unbounded_channel();
        let inner = Arc::new(self.assemble(since, notices)?);
        let dae = Dae { inner };
        if let Err(error) = Inner::begin(&dae.inner, noticed) {
            dae.shutdown(dae.inner.shared.config.stop_grace()).await;
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
        let home_lock = home.lock()?;
        atomic_file::sweep(&home.data, &home.drop_in_dir());
        let journal = match self.journal {
            Some(journal) => journal,
            None => Journal::open(home.logs_dir(), Console::Off)?,
        };
        let config = Config::load(&home.config_file())?;
        let mut registry = Registry::load(&home.registry_file())?;
        let gate = Gate::new(DAE_NAME, config.limits());
        let listening = listen_as_dae(&home, &config, &mut registry, &gate)?;
        let guests = Threads::start(thread_start::prepare)
            .context("the threads for guests can't be started")?;
        let foreign = Discovery::new(&config);
        let control_gate = Gate::new("control", config.control_limits());
        let of = (&home, guests.handle());
        Ok(Inner {
            shared: Arc::new(shared(of, (config, journal), notices, since)?),
            port: listening.port(),
            gate,
            control_gate,
            foreign,
            sharing: Mutex::default(),
            absent: Mutex::default(),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
            watch_anew: tokio::sync::Notify::new(),
            guests: Mutex::new(Some(guests)),
            registry: Mutex::new(registry),
            registry_changes: AtomicU64::new(0),
            new_ports: Mutex::default(),
            daemons: Mutex::default(),
            lost: Mutex::default(),
            refusals: Mutex::default(),
            start_notes: Mutex::default(),
            turns: Mutex::default(),
            staged: Mutex::default(),
            sweeping: RwLock::default(),
            tasks: Mutex::new(vec![Task::Listening(listening)]),
            home,
            held: Arc::new(home_lock),
        })
    }
}

/// Creates what all daemons of a home share.
fn shared(
    (home, runtime): (&Home, &Handle),
    (config, journal): (Config, Journal),
    notices: UnboundedSender<Notice>,
    since: Instant,
) -> anyhow::Result<SupervisorShared> {
    let store = PluginStore::open(home)?;
    store.sweep_images()?;
    let spawner = Spawner::start(runtime.clone(), end_left(home));
    Ok(SupervisorShared {
        config: Arc::new(config),
        libraries: Arc::new(Libraries::default()),
        store: Arc::new(store),
        journal,
        directory: Arc::default(),
        states: Snapshots::of(home),
        past: Archive::of(home),
        notices,
        runtime: runtime.clone(),
        spawner: spawner.context("the thread that makes processes can't be made")?,
        stop_steps: StopSteps::default(),
        health_timer: HealthTimer::of(since),
        since,
    })
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

/// Listens on Dae's port, and records the port if it has changed.
fn listen_as_dae(
    home: &Home,
    config: &Config,
    registry: &mut Registry,
    gate: &Arc<Gate>,
) -> anyhow::Result<Listener> {
    let listener = dae_listener(registry.dae_port.unwrap_or(config.dae_port))?;
    let listening = Listener::over(listener, Arc::clone(gate), &Handle::current())?;
    let port = Some(listening.port());
    if registry.dae_port != port {
        registry.dae_port = port;
        registry.save(&home.registry_file())?;
    }
    Ok(listening)
}

impl Inner {
    /// Starts everything that needs the complete ecosystem.
    fn begin(inner: &Arc<Self>, noticed: UnboundedReceiver<Notice>) -> anyhow::Result<()> {
        let taking_note = notices::take_note(inner, noticed);
        lock(&inner.tasks).push(Task::Loop(taking_note));
        inner.enter_as_dae();
        inner.finish_uninstalls();
        inner.bring_back();
        answer::open(inner);
        let (held, gate) = (Arc::clone(&inner.held), Arc::clone(&inner.control_gate));
        let control = ControlSocket::listen(&inner.home, held, gate)?;
        lock(&inner.tasks).push(Task::Control(control));
        let watching = watch::watch(&Dae {
            inner: Arc::clone(inner),
        })?;
        lock(&inner.tasks).push(Task::Loop(watching));
        inner.reserve_names(lock(&inner.registry).daemons.keys().cloned());
        lock(&inner.tasks).push(Task::Loop(inner.sweep_past()));
        lock(&inner.tasks).push(Task::Loop(inner.share_others()));
        let idle = dae_store::blocking::keep_one_idle;
        let idle = tasks::keep_alive(&Handle::current(), "the idle thread", idle);
        lock(&inner.tasks).push(Task::Loop(idle));
        lock(&inner.tasks).push(Task::Loop(inner.look_for_others()));
        tracing::info!(port = inner.port, home = %inner.home.data.display(), "Dae listens");
        Ok(())
    }

    /// Enters Dae into the name directory, so that it is found like every other daemon.
    fn enter_as_dae(&self) {
        let gate = Arc::clone(&self.gate);
        let directory = &self.shared.directory;
        directory.enter(&self.gate, Arc::new(DaeAnswers(gate)));
    }

    /// Waits for the turn to change that name.
    async fn turn(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = Arc::clone(lock(&self.turns).entry(name.to_owned()).or_default());
        turn.lock_owned().await
    }

    /// Changes the registry both in memory and on the disk, or in neither.
    fn change_registry(&self, change: impl FnOnce(&mut Registry)) -> anyhow::Result<()> {
        let mut registry = lock(&self.registry);
        let mut changed = registry.clone();
        change(&mut changed);
        changed.save(&self.home.registry_file())?;
        let has_same_names = registry.daemons.keys().eq(changed.daemons.keys());
        *registry = changed;
        self.registry_changes.fetch_add(1, Ordering::Relaxed);
        if !has_same_names {
            self.reserve_names(registry.daemons.keys().cloned());
        }
        Ok(())
    }

    /// Removes stored files that nothing refers to.
    fn sweep(&self) -> anyhow::Result<()> {
        // If a file is being staged, the sweep after that install does this too.
        let Ok(_alone) = self.sweeping.try_write() else {
            return Ok(());
        };
        // In this order, because staged hashes move to the registry.
        let mut keep: HashSet<String> = lock(&self.staged).iter().cloned().collect();
        keep.extend(lock(&self.registry).hashes());
        self.shared.store.sweep(&keep)
    }

    fn daemon(&self, name: &str) -> Option<Arc<Daemon>> {
        lock(&self.daemons).get(name).cloned()
    }

    fn all_daemons(&self) -> Vec<Arc<Daemon>> {
        lock(&self.daemons).values().cloned().collect()
    }
}

/// The source of Dae's credential. There is one once Dae's gate is open.
#[derive(Debug)]
struct DaeAnswers(Arc<Gate>);

impl CredentialSource for DaeAnswers {
    fn credential(&self) -> Option<Credential> {
        match &**self.0.phase() {
            GatePhase::Open(lease) => Some(lease.instance.identity.credential()),
            _ => None,
        }
    }
}

/// Binds Dae's own port, or the next free one.
fn dae_listener(port: u16) -> anyhow::Result<tokio::net::TcpListener> {
    let own = port..=port.saturating_add(PORTS_TRIED);
    for tried in own.chain([0]) {
        match accept::listen_on(tried) {
            Ok(listener) => {
                if tried != port {
                    let has = listener
                        .local_addr()
                        .map_or(tried, |address| address.port());
                    tracing::warn!(
                        "port {port}, which is Dae's own, is taken; Dae listens on {has} instead"
                    );
                }
                return Ok(listener);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error).with_context(|| format!("Dae can't listen on port {tried}"));
            }
        }
    }
    bail!("no port is free on the loopback address")
}
