//! The supervisor: one task per daemon, which owns the port and keeps an instance behind it.
//!
//! The listener and the guests outlive every instance. A successor is completely built, and has answered, before
//! the supervisor touches the running instance. If anything fails on the way, the running instance stays.
//! [`dae_store::restart`] decides what follows an instance's end; `dae` decides about starts and stops.

mod aside;
mod build;
mod callers;
mod daemon;
mod describe;
mod events;
mod exclusive;
mod health;
mod health_timer;
pub(crate) mod listen;
mod preflight;
mod publish;
mod reload;
mod retire;
mod rollback_window;
mod saver;
mod shared;
mod sleep;
mod state_cell;
mod stop;
mod tally;
mod two_phases;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use build::Built;
use dae_runtime::instance::Instance;
use dae_runtime::plugin::completion::{InstanceEnd, RunEnd};
use dae_runtime::plugin::libraries::LibraryUse;
use dae_runtime::session::accept::Listener;
use dae_runtime::session::gate::{Gate, LeaseReturn};
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::event::CauseKind;
use dae_store::report::EndKind;
use dae_store::restart::{self, Decision, End, History};
use dae_store::settings::GrantedRight;
use dae_store::settings::OnPanic;
use dae_store::snapshots::{KeptState, SnapshotOccasion};
use dae_store::state_text::StateText;
use dae_store::tasks;
use daemon::{DaemonNow, Order, QueuedOrder};
use health::Health;
use rollback_window::RollbackWindow;
use sleep::IdleWatch;

pub use daemon::{ChangeStart, Daemon, Notice, OrderResult, RetiredCounts};
pub(crate) use daemon::{Replacement, StartFrom};
pub use events::DaeEvents;
pub(crate) use events::EventSender;
pub use health_timer::HealthTimer;
pub use shared::{CodeSources, DaemonSpec, SupervisorShared};
pub(crate) use shared::{CurrentConfig, DaemonDisk};
pub(crate) use stop::StopSteps;
pub use tally::ReloadOutcome;

struct Supervisor {
    spec: DaemonSpec,
    shared: Arc<SupervisorShared>,
    gate: Arc<Gate>,
    now: Arc<DaemonNow>,
    listening: Option<Listener>,
    current: Option<Current>,
    monitor: Monitor,
    /// Earlier instances that are ending.
    retiring: JoinSet<()>,
    /// The number of attempts to build an instance, refused ones included.
    attempts: u64,
    /// The library in the host's process that runs or ran last. It is kept over a crash and a stop, for the next
    /// start.
    library: Option<Arc<LibraryUse>>,
}

/// The observations of a supervisor about its instances, from which it decides what follows.
#[derive(Default)]
struct Monitor {
    /// The restarts so far, for the restart policy.
    history: History,
    /// The reason for the next restart.
    restart_reason: EndKind,
    health: Health,
    /// The rollback window of new code, while it is open.
    rollback_window: Option<RollbackWindow>,
    next_checkpoint: Option<Instant>,
    /// The watch for the time without a command, if that ends the instance.
    idle: Option<IdleWatch>,
    /// The times in a row that the daemon stayed awake, since its state could not be saved.
    unsaved_sleeps: u32,
    /// The length of the state that was handed over last.
    state_bytes: usize,
}

/// The instance that answers.
struct Current {
    instance: Arc<Instance>,
    /// The library that it runs, if it is in-process.
    library: Option<Arc<LibraryUse>>,
    leased: LeaseReturn,
    /// True until its `run` has returned, if it has one.
    has_run: bool,
    /// Completes when the background work ends. Once that has returned, completes when the instance itself ends.
    ending: InstanceEnd,
}

/// An event that a supervisor waits for.
enum SupervisorEvent {
    Order(Option<Box<QueuedOrder>>),
    Ended(RunEnd),
    Panics,
    RetryTime,
    HealthTime,
    CheckpointTime,
    IdleLook,
    /// The rollback window is over.
    WindowEnd,
    /// A command has come for the sleeping daemon, by its name.
    Woken(String),
}

impl Supervisor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Box<QueuedOrder>>) {
        loop {
            let next = AssertUnwindSafe(self.next_event(&mut inbox)).catch_unwind();
            let dealt = match next.await {
                // Handling an event needs much more memory than waiting does. The box frees it afterwards.
                Ok(event) => {
                    let dealing = AssertUnwindSafe(Box::pin(self.deal_with(event)));
                    dealing.catch_unwind().await
                }
                Err(panic) => Err(panic),
            };
            match dealt {
                Ok(true) => {}
                Ok(false) => return,
                Err(panic) => self.recover(&tasks::panic_text(&*panic)).await,
            }
        }
    }

    /// Recovers from a panic of the host that interrupted the supervisor. A running instance goes on. Without one,
    /// the daemon has failed.
    async fn recover(&mut self, text: &str) {
        let text = format!("a fault of the host cut short what it was doing: {text}");
        self.shared.tell(&self.spec.name, None, "error", &text);
        if self.current.is_some() {
            self.reopen();
            self.set(DaemonState::Ready);
        } else {
            self.gate
                .shut(format!("{} has failed: {text}", self.spec.name));
            self.set_by(DaemonState::Failed { cause: text }, CauseKind::HostFault);
        }
        // The scheduled checkpoint may be what failed.
        self.monitor.next_checkpoint = None;
        tokio::time::sleep(tasks::PAUSE).await;
    }

    /// Handles an event. Returns false once the supervisor must end.
    async fn deal_with(&mut self, event: SupervisorEvent) -> bool {
        tasks::fault_point("supervisor");
        match event {
            // The caller abandoned the order before it began, so it is not carried out.
            SupervisorEvent::Order(Some(queued)) if !queued.begin.begin() => {}
            SupervisorEvent::Order(Some(queued)) => {
                let is_last = matches!(queued.order, Order::End(_));
                self.carry_out(queued.order).await;
                if is_last {
                    self.shared.directory.leave(&self.gate);
                    return false;
                }
            }
            // All handles are gone: the host is ending without having ordered a stop.
            SupervisorEvent::Order(None) => {
                drop(self.stop().await);
                return false;
            }
            SupervisorEvent::Ended(RunEnd::Returned) if !self.restarts_always() => self.live_on(),
            SupervisorEvent::Ended(end) => self.on_end(end).await,
            SupervisorEvent::Panics => self.on_panics().await,
            SupervisorEvent::RetryTime => self.retry().await,
            SupervisorEvent::HealthTime => self.check_health(),
            SupervisorEvent::CheckpointTime => self.take_checkpoint().await,
            SupervisorEvent::IdleLook => self.on_idle_look().await,
            // It keeps states, which may be large.
            SupervisorEvent::WindowEnd => self.monitor.rollback_window = None,
            SupervisorEvent::Woken(command) => self.wake(command).await,
        }
        true
    }

    async fn next_event(
        &mut self,
        inbox: &mut mpsc::Receiver<Box<QueuedOrder>>,
    ) -> SupervisorEvent {
        let retry_at = match &*self.now.state.borrow() {
            DaemonState::Backoff { until, .. } => Some(*until),
            _ => None,
        };
        let checkpoint_at = self.current.as_ref().and(self.monitor.next_checkpoint);
        let idle = self.current.as_ref().and(self.monitor.idle.as_ref());
        let idle_at = idle.map(|idle| idle.next);
        let window = self.monitor.rollback_window.as_ref();
        let window_end = window.map(RollbackWindow::end);
        let ending = async {
            match &mut self.current {
                Some(current) => (&mut current.ending).await,
                None => std::future::pending().await,
            }
        };
        let health = async {
            match &self.monitor.health.turn {
                Some(turn) => turn.called().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = inbox.recv() => SupervisorEvent::Order(order),
            end = ending => SupervisorEvent::Ended(end),
            () = self.gate.too_many_panics() => SupervisorEvent::Panics,
            () = at(retry_at) => SupervisorEvent::RetryTime,
            () = health => SupervisorEvent::HealthTime,
            () = at(checkpoint_at) => SupervisorEvent::CheckpointTime,
            () = at(idle_at) => SupervisorEvent::IdleLook,
            () = at(window_end) => SupervisorEvent::WindowEnd,
            command = self.gate.woken() => SupervisorEvent::Woken(command),
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let (result, reply) = match order {
            Order::Start(reply) => (self.start_if_needed().await, reply),
            Order::MakeReady(reply) => (self.make_ready().await, reply),
            Order::Stop(reply) | Order::End(reply) => (self.stop().await, reply),
            Order::Restart(reply) => (self.take_over(self.same_again()).await, reply),
            Order::Replace(replacement, reply) => (self.replace(*replacement).await, reply),
            Order::Prepare(replacement, reply) => match self.current {
                None if !self.is_asleep() => (self.put_in(*replacement).await, reply),
                // A start was under way when the order was given, and has succeeded since.
                _ => (self.replace(*replacement).await, reply),
            },
            Order::Save(reply) => {
                let _ = reply.send(self.state().await);
                return;
            }
        };
        // The caller may be gone. The order is carried out all the same.
        let _ = reply.send(result);
    }

    async fn start_if_needed(&mut self) -> Result<OrderResult, String> {
        match &self.current {
            Some(current) => Ok(OrderResult {
                generation: current.instance.identity.generation,
                ..OrderResult::default()
            }),
            None => self.take_over(self.same_again()).await,
        }
    }

    fn same_again(&self) -> Replacement {
        Replacement::of(self.spec.clone(), StartFrom::Kept)
    }

    async fn state(&self) -> Result<StateText, String> {
        let limit = self.shared.config().stop_grace();
        if let Some(current) = &self.current {
            return match current.instance.has_state() {
                true => Arc::clone(&current.instance).save(limit).await,
                false => Err("it hands no state over: it has no `save`".to_owned()),
            };
        }
        match self.kept_state().await? {
            Some(kept) => Ok(kept.state),
            None => Err("it isn't running, and no state of it was kept".to_owned()),
        }
    }

    /// Makes the new instance answer, and retires the one before.
    fn swap(&mut self, built: Built, state: Option<&KeptState>) {
        // The guests already use the new instance. The old one's running commands finish beside it.
        if let Some(retired) = self.put_in_charge(built, state) {
            self.retire_aside(retired);
        }
    }

    /// Makes the new instance answer. Returns the one before.
    fn put_in_charge(&mut self, built: Built, state: Option<&KeptState>) -> Option<Current> {
        let Built {
            instance,
            library,
            listening,
        } = built;
        let retired = self.take_away();
        let is_after_end = retired.is_none();
        if let Some(listening) = listening {
            self.listen(listening);
        }
        // Keep the port over a stop and a start, whether or not it was requested.
        self.spec.port = Some(instance.identity.port);
        self.now
            .generation
            .store(instance.identity.generation, Ordering::Relaxed);
        self.now.log_limit.adopt(self.spec.settings.log_level);
        if !self.spec.settings.grants.contains(&GrantedRight::Bridge) {
            self.shared.directory.withdraw_all(&self.gate);
        }
        self.show(&instance, state);
        self.now.saver.open(&instance);
        let ending = instance.run();
        self.look_after(&instance);
        let leased = self.gate.open(Arc::clone(&instance));
        if instance.greets() || is_after_end {
            self.gate.guests.wake_all();
        }
        self.library.clone_from(&library);
        self.current = Some(Current {
            instance,
            library,
            leased,
            has_run: self.spec.artefact.manifest.run.is_some(),
            ending,
        });
        self.watch_idle();
        self.set(DaemonState::Ready);
        retired
    }

    /// Starts to check the instance's health, count its panics and schedule its checkpoints.
    fn look_after(&mut self, instance: &Instance) {
        let settings = &self.spec.settings;
        let turn = self.shared.health_timer.enter(settings.health_ms, instance);
        self.monitor.health = Health::of(turn);
        let panics_max = match settings.on_panic {
            OnPanic::GoOn => settings.panics_max,
            OnPanic::Restart => 1,
        };
        self.gate.allow_panics(instance.number(), panics_max);
        self.monitor.next_checkpoint = self.checkpoint_time();
    }

    /// Publishes which instance answers and which state it started from.
    fn show(&self, instance: &Instance, state: Option<&KeptState>) {
        {
            let mut running = self.now.running();
            running.spec = self.spec.clone();
            running.sleeping = None;
            running.identity = Some(Arc::clone(&instance.identity));
            running.state_from = match (instance.has_state(), state) {
                (false, _) => String::new(),
                (true, Some(state)) => state.origin(),
                (true, None) => "clean".to_owned(),
            };
        }
        let generation = instance.identity.generation;
        let text = format!("generation {generation} answers");
        self.shared
            .tell(&self.spec.name, Some(generation), "info", &text);
    }

    /// Takes the current instance away. The gate then queues lines.
    fn take_away(&mut self) -> Option<Current> {
        let current = self.current.take()?;
        self.gate.hold();
        self.gate.allow_panics(0, u32::MAX);
        self.now.running().identity = None;
        Some(current)
    }

    /// Returns the time at which the next checkpoint is due.
    fn checkpoint_time(&self) -> Option<Instant> {
        let every_s = self.spec.settings.checkpoint_s;
        (every_s > 0).then(|| durations::after(Instant::now(), durations::s(every_s)))
    }

    async fn take_checkpoint(&mut self) {
        let Some(current) = self.stateful() else {
            self.monitor.next_checkpoint = None;
            return;
        };
        let generation = current.instance.identity.generation;
        // An older state must not replace one that the daemon's code has saved meanwhile.
        let _turn = self.now.saver.turn().await;
        let saved = current
            .instance
            .save(self.shared.config().stop_grace())
            .await;
        match saved.and_then(|state| KeptState::of(state, SnapshotOccasion::Checkpoint, generation))
        {
            Ok(state) => self.keep(&state).await,
            Err(text) => {
                let text = format!("no checkpoint: {text}");
                self.shared
                    .tell(&self.spec.name, Some(generation), "warn", &text);
            }
        }
        // Counts from the end of this checkpoint, so that a slow one leaves time for other work.
        self.monitor.next_checkpoint = self.checkpoint_time();
    }

    /// Returns whether the daemon restarts when its `run` returns. Without a `run` there is nothing to return.
    fn restarts_always(&self) -> bool {
        let has_run = self.spec.artefact.manifest.run.is_some();
        has_run && self.spec.settings.restart.restart == restart::When::Always
    }

    /// Keeps the daemon running after its background work has returned.
    fn live_on(&mut self) {
        if let Some(current) = &mut self.current {
            current.ending = current.instance.gone();
            current.has_run = false;
        }
    }

    async fn on_panics(&mut self) {
        let many = self.spec.settings.panics_max;
        let text = match self.spec.settings.on_panic {
            OnPanic::GoOn => {
                format!("a handler panicked {many} times with no command answered in between")
            }
            OnPanic::Restart => "a handler panicked".to_owned(),
        };
        self.on_end(RunEnd::Crashed(text)).await;
    }

    /// Decides what follows when an instance has ended by itself or must end.
    async fn on_end(&mut self, end: RunEnd) {
        let Some(current) = self.take_away() else {
            return;
        };
        let identity = Arc::clone(&current.instance.identity);
        let kind = self.kind_of(&end);
        self.monitor.restart_reason = kind;
        let cause = self.cause_of(&end);
        self.shared
            .tell(&self.spec.name, Some(identity.generation), "error", &cause);
        self.gate.note_end(&cause);
        if end != RunEnd::Returned {
            self.send_crash(kind, &cause, identity.generation);
        }
        self.note_last_end((kind, &cause), identity.generation);
        self.now.saver.close().await;
        if !matches!(end, RunEnd::Died(_)) {
            self.retiree(current).retire().await;
        }
        let rolled_back = match end {
            RunEnd::Returned => Ok(false),
            _ => self.roll_back(&cause).await,
        };
        let cause = match rolled_back {
            Ok(true) => return,
            Ok(false) => cause,
            Err(text) => format!("{cause}; {text}"),
        };
        if let Some(last) = &mut self.now.running().last_end {
            // Include the reason why no earlier code has taken over.
            last.cause.clone_from(&cause);
        }
        let end = End {
            is_failure: end != RunEnd::Returned,
            served: identity.since.elapsed(),
        };
        self.follow(end, cause);
    }

    fn kind_of(&self, end: &RunEnd) -> EndKind {
        match end {
            RunEnd::Returned => EndKind::Returned,
            RunEnd::Failed(_) => EndKind::RunFailed,
            RunEnd::Crashed(_) => EndKind::Panicked,
            RunEnd::Died(_) if self.monitor.health.kill_cause.is_some() => EndKind::Killed,
            RunEnd::Died(_) => EndKind::ProcessEnded,
        }
    }

    fn cause_of(&mut self, end: &RunEnd) -> String {
        match end {
            RunEnd::Returned => "its `run` returned".to_owned(),
            RunEnd::Failed(text) => format!("its `run` failed: {text}"),
            RunEnd::Crashed(text) => text.clone(),
            RunEnd::Died(text) => {
                let killed = self.monitor.health.kill_cause.take();
                killed.unwrap_or(format!("its process {text}"))
            }
        }
    }

    fn follow(&mut self, end: End, cause: String) {
        let now = self.shared.since.elapsed();
        let policy = &self.spec.settings.restart;
        let decision = restart::decide(policy, &mut self.monitor.history, end, now);
        let window = durations::ms(policy.burst_ms);
        let recent = format!(
            "{} of {} in {} s",
            self.monitor.history.within(window, now),
            policy.burst_max,
            window.as_secs()
        );
        self.now.running().recent.clone_from(&recent);
        match decision {
            Decision::Restart { wait, rule } => {
                let until = durations::after(Instant::now(), restart::with_jitter(wait, random()));
                let cause = format!("{cause}; restarts {recent}");
                self.set(DaemonState::Backoff { cause, until, rule });
            }
            Decision::Finished => {
                self.gate
                    .shut(format!("{} has finished: {cause}", self.spec.name));
                self.set(DaemonState::Finished);
            }
            Decision::CrashLoop(rule) => {
                let cause = format!("{cause}; {rule}");
                self.gate
                    .shut(format!("{} is in a crash loop: {cause}", self.spec.name));
                self.set(DaemonState::CrashLoop { cause, rule });
            }
        }
    }

    async fn retry(&mut self) {
        let tally = &self.now.tally;
        tally.count_restart(self.monitor.restart_reason);
        self.set(DaemonState::Starting);
        let kept = self.kept_state().await;
        let built = match &kept {
            Ok(state) => self.build(&self.spec.clone(), state.as_ref()).await,
            Err(text) => Err(text.clone()),
        };
        match built {
            Ok(built) => self.swap(built, kept.ok().flatten().as_ref()),
            Err(cause) => {
                let end = End {
                    is_failure: true,
                    served: Duration::ZERO,
                };
                self.monitor.restart_reason = EndKind::StartFailed;
                self.follow(end, cause);
            }
        }
    }
}

/// Completes at `time`, or never if there is none.
async fn at(time: Option<Instant>) {
    match time {
        // The runtime's clock ticks in milliseconds. What is already due must not wait for the next tick.
        Some(time) if time <= Instant::now() => {}
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns a random number in 0..=1 for the jitter. The system seeds the standard library's hashers.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    #[allow(clippy::cast_precision_loss)]
    let random = RandomState::new().hash_one(0_u8) as f64;
    #[allow(clippy::cast_precision_loss)]
    let most = u64::MAX as f64;
    random / most
}
