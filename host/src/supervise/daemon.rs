//! A supervised daemon as the rest of the host sees it: what it can be told, and what a look at it shows.
//!
//! A [`Daemon`] is a handle: it holds the gate that guests find, the way to the supervisor's task, and what that task says
//! is the case. Nothing here decides anything; orders are carried out one after another by the task.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::health::Health;
use super::stop::Stopping;
use super::{DaemonSpec, Supervisor, SupervisorShared};
use dae_runtime::peers::directory::CredentialSource;
use dae_runtime::plugin::identity::Identity;
use dae_runtime::session::gate::Gate;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::report::{CommandChanges, Credential, LastEnd};
use dae_store::restart::History;
use dae_store::snapshots::KeptState;

/// What a supervisor can be told to do. The sender hears when it is done.
#[derive(Debug)]
pub(super) enum Order {
    Start(OrderReply),
    Stop(OrderReply),
    Restart(OrderReply),
    Replace(Box<DaemonSpec>, StartFrom, OrderReply),
    Save(oneshot::Sender<Result<Vec<u8>, String>>),
    Prepare(Box<DaemonSpec>, StartFrom, OrderReply),
    End(OrderReply),
}

/// What a new instance starts from. A state that it doesn't start from is set aside.
#[derive(Debug, Clone)]
pub(crate) enum StartFrom {
    /// The state of the instance before, or the one that was kept.
    Kept,
    /// No state.
    Nothing,
    /// This one.
    State(Box<KeptState>),
}

/// Whether a change has begun. Until then its asker may abandon it; from then on it is carried through.
#[derive(Debug, Default)]
pub struct ChangeStart(AtomicU8);

impl ChangeStart {
    const WAITING: u8 = 0;
    const BEGUN: u8 = 1;
    const ABANDONED: u8 = 2;

    /// Begins the change. False where it was abandoned before, and must not be made.
    pub fn begin(&self) -> bool {
        self.leave_waiting_for(Self::BEGUN) != Self::ABANDONED
    }

    /// Abandons the change. False where it has begun, and is carried through.
    pub fn abandon(&self) -> bool {
        self.leave_waiting_for(Self::ABANDONED) != Self::BEGUN
    }

    /// Returns what it is afterwards.
    fn leave_waiting_for(&self, next: u8) -> u8 {
        let before =
            self.0
                .compare_exchange(Self::WAITING, next, Ordering::AcqRel, Ordering::Acquire);
        before.map_or_else(|now| now, |_| next)
    }
}

/// An order, and whether whoever gave it still wants it.
pub(super) struct QueuedOrder {
    pub(super) order: Order,
    pub(super) begin: Arc<ChangeStart>,
}

pub(super) type OrderReply = oneshot::Sender<Result<OrderResult, String>>;

/// What an order came to.
#[derive(Debug, Clone, Default)]
pub struct OrderResult {
    /// The generation that answers; 0 where none does.
    pub generation: u64,
    /// The length of the state that was handed over, in bytes.
    pub state_bytes: Option<u64>,
    /// What changed in its commands.
    pub changes: CommandChanges,
    /// What the state is called that was set aside.
    pub set_aside: Option<String>,
}

/// What a supervisor did by itself that the registry must know of.
#[derive(Debug)]
pub enum Notice {
    /// A new generation did not last; the one before runs again.
    RolledBack {
        /// The content that did not last.
        bad: String,
        /// What runs again.
        good: Box<DaemonSpec>,
        /// Why.
        reason: String,
        /// The daemon's gate. Another daemon may have the name by the time that this is read.
        gate: Arc<Gate>,
    },
}

/// One supervised daemon, as the rest of the host sees it.
#[derive(Debug)]
pub struct Daemon {
    /// What its guests find.
    pub gate: Arc<Gate>,
    // Boxed, since a channel has room for 32 of them from the beginning.
    orders: mpsc::Sender<Box<QueuedOrder>>,
    now: Arc<DaemonNow>,
}

/// What is the case at the moment.
#[derive(Debug)]
pub(super) struct DaemonNow {
    pub(super) state: watch::Sender<DaemonState>,
    running: Mutex<RunningView>,
    pub(super) generation: AtomicU64,
    pub(super) restarts: AtomicU64,
}

/// What a look at a daemon shows, besides its state.
#[derive(Debug)]
pub(super) struct RunningView {
    pub(super) spec: DaemonSpec,
    pub(super) port: Option<u16>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) last_end: Option<LastEnd>,
    pub(super) recent: String,
    pub(super) state_from: String,
    pub(super) retired: RetiredCounts,
    pub(super) stopping: Stopping,
}

/// What its instances of before have left in the host's process.
#[derive(Debug, Clone, Default)]
pub struct RetiredCounts {
    /// How many there were.
    pub generations: u64,
    /// Those of which something runs on for good.
    pub left_behind: u64,
    /// The contents that they ran.
    pub hashes: BTreeSet<String>,
}

impl RetiredCounts {
    pub(super) fn add(&mut self, hash: &str, is_left_behind: bool) {
        self.generations += 1;
        self.left_behind += u64::from(is_left_behind);
        self.hashes.insert(hash.to_owned());
    }
}

/// A look at a daemon.
#[derive(Debug, Clone)]
pub struct DaemonView {
    /// What it runs.
    pub spec: DaemonSpec,
    /// Its port, while it has one.
    pub port: Option<u16>,
    /// Who answers, while anybody does.
    pub identity: Option<Arc<Identity>>,
    /// Where it is in its life.
    pub state: DaemonState,
    /// The n-th instance since the host started.
    pub generation: u64,
    /// Restarts since then.
    pub restarts: u64,
    /// How the last instance that ended by itself did.
    pub last_end: Option<LastEnd>,
    /// `3 of 5 in 30 s`: restarts in the window, at the time of the last one.
    pub recent: String,
    /// Where the state of the present instance comes from; empty where it has none.
    pub state_from: String,
    /// What its instances of before have left in the host's process.
    pub retired: RetiredCounts,
}

/// Orders that may wait. A daemon is seldom told two things at once; who comes later waits with his own.
const ORDERS_MAX: usize = 16;

impl Daemon {
    /// A supervised daemon; nothing of it runs until it is told to start.
    #[must_use]
    pub fn supervise(spec: DaemonSpec, shared: Arc<SupervisorShared>) -> Self {
        let gate = Gate::new(&spec.name, shared.config.limits());
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let now = Arc::new(DaemonNow {
            state: watch::Sender::new(DaemonState::Stopped),
            running: Mutex::new(RunningView {
                spec: spec.clone(),
                port: None,
                identity: None,
                last_end: None,
                recent: String::new(),
                state_from: String::new(),
                retired: RetiredCounts::default(),
                stopping: Stopping::default(),
            }),
            generation: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
        });
        shared
            .directory
            .enter(&gate, Arc::clone(&now) as Arc<dyn CredentialSource>);
        let supervisor = Supervisor {
            spec,
            shared,
            gate: Arc::clone(&gate),
            now: Arc::clone(&now),
            listening: None,
            current: None,
            history: History::default(),
            health: Health::default(),
            probation: None,
            next_checkpoint: None,
            retiring: JoinSet::new(),
            attempts: 0,
            image: None,
        };
        tokio::spawn(supervisor.run(inbox));
        Daemon { gate, orders, now }
    }

    /// Starts it; done when it answers. Nothing to do if it does already.
    ///
    /// # Errors
    /// Why it doesn't start.
    pub async fn start(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Start).await
    }

    /// Stops it; done when nothing of it runs.
    ///
    /// # Errors
    /// What went wrong on the way; it is stopped all the same.
    pub async fn stop(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Stop).await
    }

    /// Has a new instance of the same file take over from the one that runs, if one does.
    ///
    /// # Errors
    /// Why the new one doesn't start; the old one runs on.
    pub async fn restart(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Restart).await
    }

    /// Has an instance of another file, or with other settings, take over.
    ///
    /// # Errors
    /// Why it doesn't start; what was before runs on.
    pub(crate) async fn replace(
        &self,
        begin: &Arc<ChangeStart>,
        (spec, from): (DaemonSpec, StartFrom),
    ) -> Result<OrderResult, String> {
        let order = |reply| Order::Replace(Box::new(spec), from, reply);
        self.order(begin, order).await
    }

    /// Its state as it is now, or, while nothing runs, as it was kept.
    ///
    /// # Errors
    /// It hands none over, or can't.
    pub async fn state(&self) -> Result<Vec<u8>, String> {
        let (reply, saved) = oneshot::channel();
        let gone = || "its supervisor has ended".to_owned();
        let asked = QueuedOrder {
            order: Order::Save(reply),
            begin: Arc::default(),
        };
        let sent = self.orders.send(Box::new(asked)).await;
        sent.map_err(|_| gone())?;
        saved.await.map_err(|_| gone())?
    }

    /// Sets what the next start is to run, and starts nothing. A new file goes through its trial now, and
    /// the state that it isn't to start from is set aside now.
    ///
    /// # Errors
    /// The trial failed. What was to run before still is.
    pub(crate) async fn prepare(
        &self,
        begin: &Arc<ChangeStart>,
        (spec, from): (DaemonSpec, StartFrom),
    ) -> Result<OrderResult, String> {
        let order = |reply| Order::Prepare(Box::new(spec), from, reply);
        self.order(begin, order).await
    }

    /// Stops it for good.
    ///
    /// # Errors
    /// As [`Daemon::stop`].
    pub async fn end(&self) -> Result<OrderResult, String> {
        self.order(&Arc::default(), Order::End).await
    }

    /// Gives an order, and waits until it is carried out. It is not carried out where `begin` is abandoned before the
    /// supervisor comes to it.
    async fn order(
        &self,
        begin: &Arc<ChangeStart>,
        order: impl FnOnce(OrderReply) -> Order,
    ) -> Result<OrderResult, String> {
        let gone = || Err("its supervisor has ended".to_owned());
        let (reply, done) = oneshot::channel();
        let asked = QueuedOrder {
            order: order(reply),
            begin: Arc::clone(begin),
        };
        if self.orders.send(Box::new(asked)).await.is_err() {
            return gone();
        }
        let fault =
            "its supervisor has ended meanwhile, or a task of the host panicked; see its log";
        done.await.unwrap_or_else(|_| Err(fault.to_owned()))
    }

    /// Says that a start is on its way, so that [`Daemon::settled`] waits for it.
    pub fn announce_start(&self) {
        self.now.state.send_replace(DaemonState::Starting);
    }

    /// Waits until it answers, or won't by itself.
    pub async fn settled(&self) {
        let mut state = self.now.state.subscribe();
        // An error means that the supervisor has ended, and nothing is more settled than that.
        let _ = state.wait_for(DaemonState::is_settled).await;
    }

    /// Its port, while it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.now.running().port
    }

    /// The process that it runs in, while it does.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let running = self.now.running();
        running.identity.as_ref().map(|identity| identity.pid)
    }

    /// Waits until it answers, or won't by itself; one that is to be restarted is waited for.
    pub async fn up_or_down(&self) {
        let mut state = self.now.state.subscribe();
        let is_settled = |state: &DaemonState| {
            state.is_settled() && !matches!(state, DaemonState::Backoff { .. })
        };
        // An error means that the supervisor has ended, and nothing is more settled than that.
        let _ = state.wait_for(is_settled).await;
    }

    /// Where it is in its life, in one word.
    pub(crate) fn state_word(&self) -> &'static str {
        self.now.state.borrow().word()
    }

    /// How far its stop has got.
    pub(crate) fn stopping(&self) -> Stopping {
        self.now.running().stopping.clone()
    }

    /// Those that are to be ready before it starts, and how long it waits for them.
    #[must_use]
    pub fn starts_after(&self) -> (Vec<String>, Duration) {
        let running = self.now.running();
        let settings = &running.spec.settings;
        (settings.after.clone(), durations::ms(settings.after_ms))
    }

    /// How it is.
    #[must_use]
    pub fn glance(&self) -> DaemonView {
        let running = self.now.running();
        DaemonView {
            spec: running.spec.clone(),
            port: running.port,
            identity: running.identity.clone(),
            last_end: running.last_end.clone(),
            recent: running.recent.clone(),
            state_from: running.state_from.clone(),
            retired: running.retired.clone(),
            state: self.now.state.borrow().clone(),
            generation: self.now.generation.load(Ordering::Relaxed),
            restarts: self.now.restarts.load(Ordering::Relaxed),
        }
    }
}

impl DaemonNow {
    pub(super) fn running(&self) -> MutexGuard<'_, RunningView> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialSource for DaemonNow {
    fn credential(&self) -> Option<Credential> {
        let identity = self.running().identity.clone();
        identity.map(|identity| identity.credential())
    }
}
