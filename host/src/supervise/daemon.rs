//! A supervised daemon as the rest of the host sees it: the orders that it takes, and its visible state.
//!
//! A [`Daemon`] is a handle. It holds the gate that guests meet, the channel to the supervisor's task, and the
//! state that this task publishes. Nothing here decides anything: the task carries out the orders one after
//! another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::saver::Saver;
use super::state_cell::StateCell;
use super::stop::Stopping;
use super::tally::{ReloadOutcome, Tally};
use super::{DaemonSpec, Monitor, Supervisor, SupervisorShared};
use dae_runtime::peers::directory::CredentialSource;
use dae_runtime::plugin::identity::Identity;
use dae_runtime::session::gate::Gate;
use dae_runtime::session::sleeping::SleepingDaemon;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::lock::lock;
use dae_store::log::LogLimit;
use dae_store::plugin_store::Artefact;
use dae_store::report::{CommandChanges, Credential, EndKind, LastEnd, Mode};
use dae_store::sleep_rule::SleepRule;
use dae_store::snapshots::KeptState;
use dae_store::state_text::StateText;

/// An order to a supervisor. The sender receives the result when it is done.
#[derive(Debug)]
pub(super) enum Order {
    Start(OrderReply),
    MakeReady(OrderReply),
    Stop(OrderReply),
    Restart(OrderReply),
    Replace(Box<Replacement>, OrderReply),
    Save(oneshot::Sender<Result<StateText, String>>),
    Prepare(Box<Replacement>, OrderReply),
    End(OrderReply),
}

/// The state that a new instance starts from. A state that is not used is set aside.
#[derive(Debug, Clone)]
pub(crate) enum StartFrom {
    /// The state of the instance before, or the stored one.
    Kept,
    /// No state.
    Nothing,
    /// The given state.
    State(Box<KeptState>),
}

/// A file, settings and state that take the place of the present ones.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    pub(crate) spec: DaemonSpec,
    pub(crate) from: StartFrom,
    /// Whether to refuse what breaks a caller, if the request decides it and not the setting.
    pub(crate) strict: Option<bool>,
    /// True if the caller sends the event of a daemon that sleeps from then on, behind an event of its own.
    pub(crate) defers_sleep_event: bool,
}

impl Replacement {
    /// Returns a replacement for which the daemon's setting `strict` counts.
    pub(crate) fn of(spec: DaemonSpec, from: StartFrom) -> Self {
        Replacement {
            spec,
            from,
            strict: None,
            defers_sleep_event: false,
        }
    }

    /// Returns the replacement with the request's decision on what breaks a caller.
    pub(crate) fn with_strict(self, strict: Option<bool>) -> Self {
        Replacement { strict, ..self }
    }

    /// Returns the replacement for a caller that sends the event of a daemon that sleeps from then on.
    pub(crate) fn deferring_sleep_event(self) -> Self {
        Replacement {
            defers_sleep_event: true,
            ..self
        }
    }
}

/// A flag that says whether a change has begun. The caller may abandon the change until then. Once begun, it is
/// carried through.
#[derive(Debug, Default)]
pub struct ChangeStart(AtomicU8);

impl ChangeStart {
    const WAITING: u8 = 0;
    const BEGUN: u8 = 1;
    const ABANDONED: u8 = 2;

    /// Begins the change. Returns false if the change was abandoned and must not be made.
    pub fn begin(&self) -> bool {
        self.leave_waiting_for(Self::BEGUN) != Self::ABANDONED
    }

    /// Abandons the change. Returns false if the change has begun and is carried through.
    pub fn abandon(&self) -> bool {
        self.leave_waiting_for(Self::ABANDONED) != Self::BEGUN
    }

    /// Returns the value afterwards.
    fn leave_waiting_for(&self, next: u8) -> u8 {
        let before =
            self.0
                .compare_exchange(Self::WAITING, next, Ordering::AcqRel, Ordering::Acquire);
        before.map_or_else(|now| now, |_| next)
    }
}

/// An order, and the flag with which its caller may abandon it.
pub(super) struct QueuedOrder {
    pub(super) order: Order,
    pub(super) begin: Arc<ChangeStart>,
}

pub(super) type OrderReply = oneshot::Sender<Result<OrderResult, String>>;

/// The result of an order.
#[derive(Debug, Clone, Default)]
pub struct OrderResult {
    /// The generation that answers, or 0 if none does.
    pub generation: u64,
    /// The length of the state that was passed on, in bytes.
    pub state_bytes: Option<u64>,
    /// The changes in the daemon's commands.
    pub changes: CommandChanges,
    /// The id of the state that was set aside.
    pub set_aside: Option<String>,
    /// The rule by which the daemon sleeps from then on, if the caller has to send the event of that.
    pub(crate) fell_asleep: Option<SleepRule>,
}

/// A change that a supervisor made by itself and that the registry must record.
#[derive(Debug)]
pub enum Notice {
    /// A new generation did not last. The one before runs again.
    RolledBack {
        /// The hash of the file that did not last.
        bad: String,
        /// The daemon that runs again.
        good: Box<DaemonSpec>,
        /// The reason.
        reason: String,
        /// The daemon's gate. Another daemon may have the name by the time the notice is read.
        gate: Arc<Gate>,
    },
}

/// One supervised daemon, as the rest of the host sees it.
#[derive(Debug)]
pub struct Daemon {
    /// The gate that guests meet.
    pub gate: Arc<Gate>,
    // Boxed, because a channel allocates space for 32 messages at once.
    orders: mpsc::Sender<Box<QueuedOrder>>,
    now: Arc<DaemonNow>,
}

/// The current state and details of a daemon, shared by its supervisor and its handle.
#[derive(Debug)]
pub(super) struct DaemonNow {
    pub(super) state: StateCell,
    running: Mutex<RunningView>,
    pub(super) generation: AtomicU64,
    pub(super) tally: Tally,
    /// The records that its log keeps.
    pub(super) log_limit: Arc<LogLimit>,
    /// Keeps the state when the daemon's code asks for it.
    pub(super) saver: Arc<Saver>,
}

/// The visible details of a daemon, besides its state.
#[derive(Debug)]
pub(super) struct RunningView {
    pub(super) spec: DaemonSpec,
    pub(super) port: Option<u16>,
    pub(super) identity: Option<Arc<Identity>>,
    /// The daemon as its gate knows it while it sleeps.
    pub(super) sleeping: Option<Arc<SleepingDaemon>>,
    pub(super) last_end: Option<LastEnd>,
    pub(super) recent: String,
    pub(super) state_from: String,
    pub(super) retired: RetiredCounts,
    pub(super) stopping: Stopping,
}

/// A summary of what earlier instances have left in the host's process.
#[derive(Debug, Clone, Default)]
pub struct RetiredCounts {
    /// The number of earlier instances.
    pub generations: u64,
    /// The number of those of which something runs on for good.
    pub left_behind: u64,
    /// The hashes of the files that they ran.
    pub hashes: BTreeSet<String>,
}

impl RetiredCounts {
    pub(super) fn add(&mut self, hash: &str, is_left_behind: bool) {
        self.generations += 1;
        self.left_behind += u64::from(is_left_behind);
        self.hashes.insert(hash.to_owned());
    }
}

/// A snapshot of a daemon's details.
#[derive(Debug, Clone)]
pub struct DaemonView {
    /// The file and settings.
    pub spec: DaemonSpec,
    /// The port, while the daemon has one.
    pub port: Option<u16>,
    /// The identity of the instance that answers, if one does.
    pub identity: Option<Arc<Identity>>,
    /// The state of the daemon.
    pub state: DaemonState,
    /// The generation: the n-th instance since the host started.
    pub generation: u64,
    /// The number of restarts since the host started.
    pub restarts: u64,
    /// The last end of an instance that ended by itself.
    pub last_end: Option<LastEnd>,
    /// The restarts in the window at the time of the last one, as `3 of 5 in 30 s`.
    pub recent: String,
    /// The origin of the present instance's state. It is empty if the instance has no state.
    pub state_from: String,
    /// A summary of what earlier instances have left in the host's process.
    pub retired: RetiredCounts,
}

/// The most orders that may wait. A daemon seldom gets two orders at once. Further callers wait until there is
/// space.
const ORDERS_MAX: usize = 16;

impl Daemon {
    /// Creates a supervised daemon. Nothing of it runs until it is started.
    #[must_use]
    pub fn supervise(spec: DaemonSpec, shared: Arc<SupervisorShared>) -> Self {
        let gate = Gate::new(&spec.name, shared.config().limits());
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let now = Arc::new(DaemonNow {
            state: StateCell::stopped(),
            running: Mutex::new(RunningView {
                spec: spec.clone(),
                port: None,
                identity: None,
                sleeping: None,
                last_end: None,
                recent: String::new(),
                state_from: String::new(),
                retired: RetiredCounts::default(),
                stopping: Stopping::default(),
            }),
            generation: AtomicU64::new(0),
            tally: Tally::default(),
            log_limit: Arc::new(LogLimit::of(spec.settings.log_level)),
            saver: Saver::of(&spec.name, &shared),
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
            monitor: Monitor::default(),
            retiring: JoinSet::new(),
            attempts: 0,
            library: None,
        };
        tokio::spawn(supervisor.run(inbox));
        Daemon { gate, orders, now }
    }

    /// Starts the daemon. Completes when it answers, or at once if it already does.
    ///
    /// # Errors
    /// Returns the reason if the daemon doesn't start.
    pub async fn start(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Start).await
    }

    /// Starts the daemon, or lets it listen and sleep until its first command, by its setting `start`.
    ///
    /// # Errors
    /// Returns the reason if the daemon doesn't start, or can't have its port.
    pub async fn make_ready(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::MakeReady).await
    }

    /// Stops the daemon. Completes when nothing of it runs.
    ///
    /// # Errors
    /// Returns what went wrong on the way. The daemon is stopped all the same.
    pub async fn stop(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Stop).await
    }

    /// Replaces the running instance, if any, with a new one of the same file.
    ///
    /// # Errors
    /// Returns the reason if the new instance doesn't start. The old one runs on.
    pub async fn restart(&self, begin: &Arc<ChangeStart>) -> Result<OrderResult, String> {
        self.order(begin, Order::Restart).await
    }

    /// Replaces the running instance with one of another file, or with other settings.
    ///
    /// # Errors
    /// Returns the reason if the new instance doesn't start. The old one runs on.
    pub(crate) async fn replace(
        &self,
        begin: &Arc<ChangeStart>,
        replacement: Replacement,
    ) -> Result<OrderResult, String> {
        let order = |reply| Order::Replace(Box::new(replacement), reply);
        self.order(begin, order).await
    }

    /// Returns the daemon's current state, or its stored state if the daemon doesn't run.
    ///
    /// # Errors
    /// Returns the reason if the daemon has no state or can't save it.
    pub async fn state(&self) -> Result<StateText, String> {
        let (reply, saved) = oneshot::channel();
        let gone = || "its supervisor has ended".to_owned();
        let queued = QueuedOrder {
            order: Order::Save(reply),
            begin: Arc::default(),
        };
        let sent = self.orders.send(Box::new(queued)).await;
        sent.map_err(|_| gone())?;
        saved.await.map_err(|_| gone())?
    }

    /// Sets what the next start runs, and starts nothing. A new file goes through its preflight now. A state that
    /// the next start doesn't use is set aside now.
    ///
    /// # Errors
    /// Returns the reason if the preflight failed. The next start then runs the same as before.
    pub(crate) async fn prepare(
        &self,
        begin: &Arc<ChangeStart>,
        replacement: Replacement,
    ) -> Result<OrderResult, String> {
        let order = |reply| Order::Prepare(Box::new(replacement), reply);
        self.order(begin, order).await
    }

    /// Stops the daemon for good.
    ///
    /// # Errors
    /// As for [`Daemon::stop`].
    pub async fn end(&self) -> Result<OrderResult, String> {
        self.order(&Arc::default(), Order::End).await
    }

    /// Sends an order and waits until it is carried out. An order whose `begin` is abandoned before the supervisor
    /// reaches it is not carried out.
    async fn order(
        &self,
        begin: &Arc<ChangeStart>,
        order: impl FnOnce(OrderReply) -> Order,
    ) -> Result<OrderResult, String> {
        let gone = || Err("its supervisor has ended".to_owned());
        let (reply, done) = oneshot::channel();
        let queued = QueuedOrder {
            order: order(reply),
            begin: Arc::clone(begin),
        };
        if self.orders.send(Box::new(queued)).await.is_err() {
            return gone();
        }
        let fault =
            "its supervisor has ended meanwhile, or a task of the host panicked; see its log";
        done.await.unwrap_or_else(|_| Err(fault.to_owned()))
    }

    /// Announces that a start follows, so that [`Daemon::settled`] waits for it.
    pub fn announce_start(&self) {
        self.now.state.announce_start();
    }

    /// Waits until no start or reload of the daemon is under way.
    pub async fn settled(&self) {
        let mut state = self.now.state.subscribe();
        // An error means that the supervisor has ended, so the state won't change any more.
        let _ = state.wait_for(DaemonState::is_settled).await;
    }

    /// Returns the daemon's port, while it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.now.running().port
    }

    /// Returns the id of the process that the daemon runs in, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let running = self.now.running();
        running.identity.as_ref().map(|identity| identity.pid)
    }

    /// Returns the daemon's credential, while it answers or sleeps.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        self.now.credential()
    }

    /// Waits until the daemon answers, or won't answer by itself. Waits for pending restarts too.
    pub async fn up_or_down(&self) {
        let mut state = self.now.state.subscribe();
        let is_settled = |state: &DaemonState| {
            state.is_settled() && !matches!(state, DaemonState::Backoff { .. })
        };
        // An error means that the supervisor has ended, so the state won't change any more.
        let _ = state.wait_for(is_settled).await;
    }

    /// Returns the file that the daemon runs, its mode, and whether an instance answers.
    pub(crate) fn presence(&self) -> (Arc<Artefact>, Mode, bool) {
        let running = self.now.running();
        let (spec, identity) = (&running.spec, running.identity.as_ref());
        let mode = identity.map_or(spec.mode, |identity| identity.mode);
        (Arc::clone(&spec.artefact), mode, identity.is_some())
    }

    /// Returns the daemon's state in one word.
    pub(crate) fn state_word(&self) -> &'static str {
        self.now.state.borrow().word()
    }

    /// Counts a change of the daemon that was refused.
    pub(crate) fn count_refused(&self) {
        self.now.tally.count_reload(ReloadOutcome::Refused);
    }

    /// Returns the restarts since the host started, by their reasons.
    #[must_use]
    pub fn restarts(&self) -> [(EndKind, u64); EndKind::OF_RESTARTS.len()] {
        self.now.tally.restarts()
    }

    /// Returns the reloads since the host started, by their outcomes.
    #[must_use]
    pub fn reloads(&self) -> [(ReloadOutcome, u64); ReloadOutcome::ALL.len()] {
        self.now.tally.reloads()
    }

    /// Returns the limit of the daemon's log.
    pub(crate) fn log_limit(&self) -> &LogLimit {
        &self.now.log_limit
    }

    /// Returns the progress of the daemon's stop.
    pub(crate) fn stopping(&self) -> Stopping {
        self.now.running().stopping.clone()
    }

    /// Returns the daemons that must be ready before this one starts, and the longest wait for them.
    #[must_use]
    pub fn starts_after(&self) -> (Vec<String>, Duration) {
        let running = self.now.running();
        let settings = &running.spec.settings;
        (settings.after.clone(), durations::ms(settings.after_ms))
    }

    /// Returns a snapshot of the daemon's details.
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
            restarts: self.now.tally.all_restarts(),
        }
    }
}

impl DaemonNow {
    pub(super) fn running(&self) -> MutexGuard<'_, RunningView> {
        lock(&self.running)
    }
}

impl CredentialSource for DaemonNow {
    fn credential(&self) -> Option<Credential> {
        let (identity, sleeping) = {
            let running = self.running();
            (running.identity.clone(), running.sleeping.clone())
        };
        let of_instance = identity.map(|identity| identity.credential());
        of_instance.or_else(|| Some(sleeping?.credential()))
    }
}
