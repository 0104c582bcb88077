//! The gate of a daemon: the point where its guests meet the current instance, if there is one.
//!
//! A gate outlives every instance. A guest reads its phase once for each batch of lines. An open gate gives out a
//! [`Lease`] on the instance. At a waiting gate the lines stay in the inbox for a limited time. A shut gate answers
//! `unavailable`. When the last lease on a removed instance is given back, no task runs its code any more. Quiescing
//! needs nothing else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use dae_plugin_api::abi::status;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connection::guest_handle::Guests;
use crate::connection::reply_budget::ReplyBudget;
use crate::instance::{CancelPolicy, Instance, StartProgress, WithdrawResult};
use crate::plugin::completion::{Completion, host_status};
use crate::session::sleeping::SleepingDaemon;
use crate::threads::counters::{BatchCounts, BatchTally, CommandSlots, Counters};
use dae_store::config::Limits;
use dae_store::lock::lock;
use dae_store::rate_limit::RateLimit;

/// The connections of other protocols that are logged in a minute.
const OTHER_PROTOCOLS_LOGGED: u32 = 20;

/// The state of the gate.
#[derive(Debug)]
pub enum GatePhase {
    /// An instance answers.
    Open(Arc<Lease>),
    /// There is no instance, but one is expected: lines wait for a limited time.
    Waiting,
    /// One instance replaces another. Lines wait until that succeeds or fails. Each step of the change has its own
    /// limit, so no guest is refused because of a reload.
    Changing,
    /// There is no instance, and the first command for its code starts one.
    Asleep(Arc<SleepingDaemon>),
    /// There is no instance, and none is expected: each command is answered with this reason.
    Shut(String),
}

impl GatePhase {
    /// Returns whether an instance is expected and lines wait for it.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, GatePhase::Waiting | GatePhase::Changing)
    }
}

/// The right to run an instance's code. The supervisor is notified when the last one is given back.
#[derive(Debug)]
pub struct Lease {
    /// The instance that the lease is for.
    pub instance: Arc<Instance>,
    /// The counters of the instance's commands.
    pub(crate) counts: Arc<CommandSlots>,
    /// Cancelled when the holders must give the lease back.
    pub revoked: CancellationToken,
    // Dropped last: the receiver ends the instance, and relies on the instance having no other owner by then.
    _given_back: oneshot::Sender<()>,
}

impl Lease {
    /// Ends when a command must be given up: it has run past its limit, or its instance is to go. The limit counts from
    /// the command's start; zero means none. A command that has not begun by then never does.
    pub(crate) fn given_up(
        &self,
        limit: Duration,
        start: StartProgress,
    ) -> impl Future<Output = GiveUp> + Send + use<> {
        let revoked = self.revoked.clone();
        async move {
            let past_limit = async {
                match limit.is_zero() {
                    true => std::future::pending().await,
                    false => start.too_long(limit).await,
                }
            };
            tokio::select! {
                () = past_limit => GiveUp::TooLong(limit),
                () = revoked.cancelled() => match start.withdraw() {
                    WithdrawResult::Begun => GiveUp::Revoked,
                    WithdrawResult::NotBegun => GiveUp::NeverBegun,
                    // The command's own end reports this.
                    WithdrawResult::Answered => std::future::pending().await,
                },
            }
        }
    }
}

/// The reason why a command is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// It has run past its limit.
    TooLong(Duration),
    /// It had begun when its instance had to go.
    Revoked,
    /// It had not begun when its instance had to go.
    NeverBegun,
}

impl GiveUp {
    /// Returns the end of the command with that name.
    #[cold]
    pub(crate) fn completion(self, name: &str, fate: CancelPolicy) -> Completion {
        match self {
            GiveUp::TooLong(limit) => too_long(name, limit, fate),
            GiveUp::Revoked => let_go(name, fate),
            GiveUp::NeverBegun => never_runs(name),
        }
    }
}

/// Returns the end of a command that has run past its limit.
pub(crate) fn too_long(name: &str, limit: Duration, fate: CancelPolicy) -> Completion {
    let text = match fate {
        CancelPolicy::GoesOn => format!(
            "{name} ran past its limit and goes on; the limit is {limit:?}, and its result will not be sent"
        ),
        CancelPolicy::Cancelled => {
            format!("{name} ran past its limit and was cancelled; the limit is {limit:?}")
        }
    };
    Completion {
        status: host_status::TIMEOUT,
        bytes: text.into_bytes(),
    }
}

/// Returns the end of a command that had begun when its instance had to go.
pub(crate) fn let_go(name: &str, fate: CancelPolicy) -> Completion {
    let what = match fate {
        CancelPolicy::GoesOn => "it may have been carried out, and its result will not be sent",
        CancelPolicy::Cancelled => "it was cancelled",
    };
    let text = format!("{name} still ran when its daemon was replaced or stopped; {what}");
    Completion {
        status: status::GONE,
        bytes: text.into_bytes(),
    }
}

/// Returns the end of a command that had not begun when its instance had to go.
fn never_runs(name: &str) -> Completion {
    let text = format!(
        "{name} had not begun when its daemon was replaced or stopped; it was cancelled and never runs"
    );
    Completion {
        status: status::GONE,
        bytes: text.into_bytes(),
    }
}

/// The supervisor's side of a lease.
#[derive(Debug)]
pub struct LeaseReturn {
    /// Ends when the gate is closed and the last holder has given the lease back.
    pub given_back: oneshot::Receiver<()>,
    /// Cancels the commands that still run.
    pub revoke: CancellationToken,
}

/// The gate of one daemon. It outlives the daemon's instances.
#[derive(Debug)]
pub struct Gate {
    /// The daemon's name.
    pub name: String,
    /// The daemon's guests.
    pub guests: Arc<Guests>,
    /// The daemon's counters.
    pub stats: Counters,
    /// The daemon's limits.
    pub limits: Limits,
    /// The limit on log lines about connections of other protocols, which any local process can open.
    pub(crate) other_protocols: RateLimit,
    /// The reply budget of the daemon.
    pub(crate) budget: Arc<ReplyBudget>,
    phase: ArcSwap<GatePhase>,
    changed: watch::Sender<()>,
    /// A flag for a current streak of panics. Every batch reads it, and it is nearly always false.
    has_panicked: AtomicBool,
    panics: Mutex<PanicStreak>,
    too_many_panics: Notify,
    ends: AtomicU64,
    last_end: Mutex<String>,
    /// The command that has woken the sleeping daemon, until its supervisor knows.
    woken_by: Mutex<Option<String>>,
    woken: Notify,
    /// The counted commands that the host has answered for an instance.
    host_answers: AtomicU64,
}

/// The latest panics in a row, without a command answered between them, of the current instance.
#[derive(Debug, Default)]
struct PanicStreak {
    /// The number of that instance. Counts of another instance come late and are dropped.
    instance: u64,
    in_a_row: u32,
    max: u32,
    /// The commands that the daemon's own process had answered at the last panic.
    calls_elsewhere: u64,
    are_too_many: bool,
}

impl Gate {
    /// Creates a gate without an instance.
    #[must_use]
    pub fn new(name: &str, limits: Limits) -> Arc<Self> {
        Arc::new(Gate {
            name: name.to_owned(),
            guests: Arc::default(),
            stats: Counters::default(),
            limits,
            other_protocols: RateLimit::new(OTHER_PROTOCOLS_LOGGED, Duration::from_secs(60)),
            budget: Arc::default(),
            phase: ArcSwap::from_pointee(GatePhase::Waiting),
            changed: watch::Sender::new(()),
            ends: AtomicU64::new(0),
            last_end: Mutex::default(),
            has_panicked: AtomicBool::new(false),
            panics: Mutex::default(),
            too_many_panics: Notify::new(),
            woken_by: Mutex::default(),
            woken: Notify::new(),
            host_answers: AtomicU64::new(0),
        })
    }

    /// Returns the current phase.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> arc_swap::Guard<Arc<GatePhase>> {
        self.phase.load()
    }

    /// Counts a batch that the lease's instance answered, whose commands each waited `latency`.
    #[inline]
    pub(crate) fn count(&self, lease: &Lease, tally: &BatchTally, latency: Duration) {
        lease.counts.add(tally, latency);
        let total = tally.total();
        if total.panics > 0 || self.has_panicked.load(Ordering::Relaxed) {
            self.count_panics(lease.instance.number(), total);
        }
    }

    /// Counts one command of the lease's instance.
    pub(crate) fn count_one(
        &self,
        lease: &Lease,
        (command, counts): (u32, BatchCounts),
        latency: Duration,
    ) {
        self.count(lease, &BatchTally::one(command, counts), latency);
    }

    /// Notes that the host answers a command, which is no work of the daemon.
    pub(crate) fn note_host_answer(&self) {
        self.host_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of commands that the daemon's code was asked for and that have ended.
    #[must_use]
    pub fn calls_of_code(&self) -> u64 {
        let host_answers = self.host_answers.load(Ordering::Relaxed);
        // A command that the host answers is counted a moment later.
        self.stats.calls().saturating_sub(host_answers)
    }

    #[cold]
    fn count_panics(&self, instance: u64, tally: BatchCounts) {
        let mut panics = self.panics();
        if panics.instance != instance {
            return;
        }
        let elsewhere = self.stats.calls_elsewhere();
        let is_new = std::mem::replace(&mut panics.calls_elsewhere, elsewhere) == elsewhere;
        if tally.calls > tally.panics || !is_new {
            panics.in_a_row = 0;
        }
        if tally.calls == tally.panics {
            let many = u32::try_from(tally.panics).unwrap_or(u32::MAX);
            panics.in_a_row = panics.in_a_row.saturating_add(many);
        }
        self.has_panicked
            .store(panics.in_a_row > 0, Ordering::Relaxed);
        if panics.in_a_row >= panics.max {
            panics.in_a_row = 0;
            panics.are_too_many = true;
            self.too_many_panics.notify_one();
        }
    }

    fn panics(&self) -> MutexGuard<'_, PanicStreak> {
        lock(&self.panics)
    }

    /// Starts to count the panics of the instance of that number, and of no other. `max` in a row are too many.
    pub fn allow_panics(&self, instance: u64, max: u32) {
        let mut panics = self.panics();
        *panics = PanicStreak {
            instance,
            max,
            calls_elsewhere: self.stats.calls_elsewhere(),
            ..PanicStreak::default()
        };
        self.has_panicked.store(false, Ordering::Relaxed);
    }

    /// Waits until there were too many panics in a row.
    pub async fn too_many_panics(&self) {
        while !std::mem::take(&mut self.panics().are_too_many) {
            self.too_many_panics.notified().await;
        }
    }

    /// Ends when the phase has changed since this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changed = self.changed.subscribe();
        async move {
            // An error means that the gate is gone, which is a change too.
            let _ = changed.changed().await;
        }
    }

    /// Opens the gate to `instance`.
    pub fn open(&self, instance: Arc<Instance>) -> LeaseReturn {
        self.budget.begin_anew();
        let (sender, given_back) = oneshot::channel();
        let revoke = CancellationToken::new();
        let lease = Lease {
            counts: self.stats.slots(instance.manifest()),
            instance,
            revoked: revoke.clone(),
            _given_back: sender,
        };
        self.set(GatePhase::Open(Arc::new(lease)));
        LeaseReturn { given_back, revoke }
    }

    /// Records why an instance ended unexpectedly, and wakes the guests: a local client reports the end to its own
    /// daemon.
    pub fn note_end(&self, cause: &str) {
        cause.clone_into(&mut lock(&self.last_end));
        self.ends.fetch_add(1, Ordering::Release);
        self.guests.wake_all();
    }

    /// Returns how many instances ended unexpectedly.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    /// Returns why the last one ended.
    #[must_use]
    pub fn last_end(&self) -> String {
        lock(&self.last_end).clone()
    }

    /// Lets the daemon sleep: the first command for its code wakes it.
    pub fn sleep(&self, sleeping: Arc<SleepingDaemon>) {
        self.set(GatePhase::Asleep(sleeping));
    }

    /// Has the sleeping daemon started for a command of that name, which then waits like at a change. Does nothing if the
    /// daemon doesn't sleep any more: of many commands at once, one wakes it.
    #[cold]
    pub(crate) fn wake(&self, command: &str) {
        let before = self.phase.rcu(|phase| match &**phase {
            GatePhase::Asleep(_) => Arc::new(GatePhase::Changing),
            _ => Arc::clone(phase),
        });
        if matches!(*before, GatePhase::Asleep(_)) {
            *lock(&self.woken_by) = Some(command.to_owned());
            self.woken.notify_one();
            self.changed.send_replace(());
        }
    }

    /// Waits until a command has woken the daemon, and returns the command's name.
    pub async fn woken(&self) -> String {
        loop {
            if let Some(command) = lock(&self.woken_by).take() {
                return command;
            }
            self.woken.notified().await;
        }
    }

    /// Queues lines if nothing runs on the instance, or all that runs ends within `limit`. Returns false, and leaves the
    /// gate as it was, if something still runs.
    pub async fn hold_if_unused(&self, leased: &mut LeaseReturn, limit: Duration) -> bool {
        let lease = match &**self.phase.load() {
            GatePhase::Open(lease) => Arc::downgrade(lease),
            _ => return false,
        };
        self.hold_for_change();
        if timeout(limit, &mut leased.given_back).await.is_ok() {
            return true;
        }
        match lease.upgrade() {
            Some(lease) => {
                self.set(GatePhase::Open(lease));
                false
            }
            // The last holder has given it back just now.
            None => true,
        }
    }

    /// Queues lines for a limited time, until the phase changes.
    pub fn hold(&self) {
        self.set(GatePhase::Waiting);
    }

    /// Queues lines without a limit. The caller must then open, hold or shut the gate.
    pub fn hold_for_change(&self) {
        self.set(GatePhase::Changing);
    }

    /// Queues lines if the instance of that start attempt is behind the gate. Does nothing if another one is there by
    /// now or none is expected: a late report is dropped.
    pub fn hold_behind(&self, attempt: u64) {
        self.phase.rcu(|phase| match &**phase {
            GatePhase::Open(lease) if lease.instance.identity.attempt == attempt => {
                Arc::new(GatePhase::Waiting)
            }
            _ => Arc::clone(phase),
        });
        self.changed.send_replace(());
    }

    /// Answers all commands with `unavailable` and this reason.
    pub fn shut(&self, reason: impl Into<String>) {
        self.set(GatePhase::Shut(reason.into()));
    }

    fn set(&self, phase: GatePhase) {
        self.phase.store(Arc::new(phase));
        self.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;
    use crate::session::test_daemon::{TestDaemon, instance};
    use dae_store::config::Config;
    use dae_store::manifest::Manifest;

    /// A waker that counts the owners of the instance when the supervisor is notified that the lease was given back.
    struct Owners {
        instance: Arc<Instance>,
        then: AtomicUsize,
    }

    impl Wake for Owners {
        fn wake(self: Arc<Self>) {
            let owners = Arc::strong_count(&self.instance);
            self.then.store(owners, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_lease_that_is_given_back_owns_its_instance_no_more() {
        let gate = Gate::new("A", Config::default().limits());
        let owners = Arc::new(Owners {
            instance: instance(TestDaemon::that_waits().0, Manifest::default()),
            then: AtomicUsize::new(0),
        });
        let mut leased = gate.open(Arc::clone(&owners.instance));
        let waker = Waker::from(Arc::clone(&owners));
        let mut context = Context::from_waker(&waker);
        let polled = Pin::new(&mut leased.given_back).poll(&mut context);
        assert_eq!(polled, Poll::Pending);
        gate.hold_for_change();
        assert_eq!(
            owners.then.load(Ordering::Relaxed),
            1,
            "the supervisor alone"
        );
    }
}
