//! Dae, the daemon of daemons: one ecosystem, from its home to its end.
//!
//! It owns the registry, and one supervised [`Daemon`] for each entry in it. Whatever changes the ecosystem is one of the
//! methods in `change`; the control socket, the drop-in directory and an embedding program all end there. Changes to one
//! name take turns; those to others don't wait for them.
//!
//! A life: [`Builder::start`] takes the home's lock and brings back what the registry says; [`Dae::shutdown`] undoes it in
//! the reverse order.

mod answer;
mod carry;
mod change;
mod changes;
mod restore;
// The program applies the rules of these two where no host runs.
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

/// How many ports after its own Dae tries where that is taken, before it takes any.
const PORTS_TRIED: u16 = 16;

/// A running ecosystem. Cloning it gives another handle on the same.
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
    /// Grows with each change of it, under its lock.
    registry_changes: AtomicU64,
    /// Ports that were chosen, and are to be recorded.
    new_ports: Mutex<BTreeMap<String, u16>>,
    daemons: Mutex<BTreeMap<String, Arc<Daemon>>>,
    /// The daemons of this machine that others run.
    foreign: Arc<Discovery>,
    /// Held by who tells of them to those who ask by name: what is told last is the latest.
    sharing: Mutex<()>,
    /// Daemons of the registry that could not be brought back, and why. They stay in it until they are installed again or
    /// uninstalled.
    lost: Mutex<BTreeMap<String, String>>,
    /// What is to be known of how a daemon was started: a circle in the start order, or others that weren't ready.
    start_notes: Mutex<BTreeMap<String, String>>,
    /// The last change of each daemon that was refused, until one is accepted.
    refusals: Mutex<BTreeMap<String, Refusal>>,
    /// One turn for each name that is or was changed; see [`Inner::turn`].
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Hashes of artefacts that are staged, but not in the registry yet: not to be swept.
    staged: Mutex<Vec<String>>,
    /// Held by who stages, and alone by who sweeps: no sweep between a file's being there and its being known.
    sweeping: RwLock<()>,
    tasks: Mutex<Vec<Task>>,
    /// Drop-ins whose file has gone, and when they are uninstalled: since the host's start.
    absent: Mutex<BTreeMap<String, Duration>>,
    /// Cancelled when the end begins: from then on nothing new is begun.
    ending: CancellationToken,
    /// Cancelled when everything has ended: what is still asked for is answered so.
    ended: CancellationToken,
    /// There are other files to watch now.
    watch_anew: tokio::sync::Notify,
    /// Where daemons' code and guests run: apart, so that no handler can keep the ecosystem from being managed.
    guests: Mutex<Option<Threads>>,
    // Drops last: the home is ours for as long as anything of it is used.
    held: Arc<HomeLock>,
}

/// What runs for the ecosystem as a whole, in the order in which it began.
#[derive(Debug)]
enum Task {
    Listening(#[expect(dead_code, reason = "held until it is dropped")] Listener),
    Control(#[expect(dead_code, reason = "held until it is dropped")] ControlSocket),
    Loop(JoinHandle<()>),
}

/// How an ecosystem is started.
#[derive(Debug, Default)]
pub struct Builder {
    home: Option<Home>,
    journal: Option<Journal>,
}

impl Dae {
    /// The way to start one.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns how many threads one starts for guests and daemons' code.
    pub fn threads() -> usize {
        Threads::count()
    }

    /// Its Common TCP port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// Where it keeps what it keeps.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// Waits until every daemon answers, or won't by itself.
    pub async fn ready(&self) {
        for daemon in self.inner.all_daemons() {
            daemon.settled().await;
        }
    }
}

impl Builder {
    /// The ecosystem's home. Without it, the one that the environment says: `DAE_HOME`, or the XDG base directories.
    #[must_use]
    pub fn home(mut self, home: impl Into<Home>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Where logs go. Without it, only to the home's files.
    #[must_use]
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Starts it: takes the home, brings back the registry's daemons, and listens. It doesn't wait for the daemons; see
    /// [`Dae::ready`].
    ///
    /// # Errors
    /// [`dae_store::home::Held`] where another host has the home; else what of the home, the registry or the ports is not as
    /// it should be. Nothing runs then.
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

    /// Takes the home and puts together all that nothing runs in yet, but for Dae's port, which is listened on.
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

/// Puts together what all daemons of a home work with.
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
        images: Arc::new(Libraries::default()),
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

/// Ends what daemons of a host that was killed have left running; where this host's own are recorded.
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

/// Dae's port, which is recorded where it isn't the one of before.
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
    /// Everything that needs the whole to be there.
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

    /// Dae is to be found like every other daemon.
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

    /// Changes the registry, in memory and on the disk, or neither.
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
        // Where somebody stages, whoever tidies after that does this too.
        let Ok(_alone) = self.sweeping.try_write() else {
            return Ok(());
        };
        // In this order: what is staged moves from the one to the other.
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

/// Dae as others find it: there from the opening of its gate on.
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

/// Dae's own port, or the next free one.
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
