//! The gate of a daemon: what its guests find behind the port, whichever instance is there at the time.
//!
//! It outlives every instance. A guest looks at it once for each batch of lines: an open gate hands out a [`Lease`] on the
//! instance; before a waiting one the lines stay where they are, for a limited time; a shut one answers `unavailable`.
//! When the last lease on an instance that was taken away has been given back, nobody runs code of it any more. This is
//! all there is to quiescing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dae_plugin_api::abi::status;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::connection::guest_handle::Guests;
use crate::connection::reply_budget::ReplyBudget;
use crate::instance::{CancelPolicy, Instance, StartProgress, WithdrawResult};
use crate::plugin::completion::{Completion, host_status};
use crate::threads::counters::{BatchCounts, Counters};
use dae_store::config::Limits;
use dae_store::rate_limit::RateLimit;

/// How many connections of other protocols are logged in a minute.
const OTHER_PROTOCOLS_LOGGED: u32 = 20;

/// What stands behind the gate.
#[derive(Debug)]
pub enum GatePhase {
    /// An instance answers.
    Open(Arc<Lease>),
    /// None at the moment, but one is expected: lines wait, for a limited time.
    Waiting,
    /// One gives way to another: lines wait until that is over, well or badly. Each step of it has a limit of its own, and
    /// nobody is refused for a reload.
    Changing,
    /// None, and none is expected: the reason is told to each command.
    Shut(String),
}

/// The right to run an instance's code; the supervisor hears when the last one is given back.
#[derive(Debug)]
pub struct Lease {
    /// What may be run.
    pub instance: Arc<Instance>,
    /// Cancelled when those who still have it are to let go.
    pub revoked: CancellationToken,
    // Dropped last: who waits for it takes the instance to have no other owner, and ends it.
    _given_back: oneshot::Sender<()>,
}

impl Lease {
    /// Ends when a command is to be given up: it has run past its limit, counted from its start (zero means for ever), or its
    /// instance is to go. A command that hasn't begun by then never does.
    pub fn given_up(
        &self,
        (name, fate): (&str, CancelPolicy),
        limit: Duration,
        start: StartProgress,
    ) -> impl Future<Output = Completion> + Send + use<> {
        let name = name.to_owned();
        let revoked = self.revoked.clone();
        async move {
            let past_limit = async {
                match limit.is_zero() {
                    true => std::future::pending().await,
                    false => start.too_long(limit).await,
                }
            };
            tokio::select! {
                () = past_limit => too_long(&name, limit, fate),
                () = revoked.cancelled() => match start.withdraw() {
                    WithdrawResult::Begun => let_go(&name, fate),
                    WithdrawResult::NotBegun => never_runs(&name),
                    // Its end says so.
                    WithdrawResult::Told => std::future::pending().await,
                },
            }
        }
    }
}

/// What a command is told that has run past its limit.
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

/// What a command is told that had begun, and whose instance is to go.
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

/// What a command is told that had not begun when its instance was to go.
fn never_runs(name: &str) -> Completion {
    let text = format!(
        "{name} had not begun when its daemon was replaced or stopped; it was cancelled and never runs"
    );
    Completion {
        status: status::GONE,
        bytes: text.into_bytes(),
    }
}

/// The supervisor's end of a lease.
#[derive(Debug)]
pub struct LeaseReturn {
    /// Ends when the last one has given it back, after the gate was closed.
    pub given_back: oneshot::Receiver<()>,
    /// Cancels the commands that still run.
    pub revoke: CancellationToken,
}

/// See the file's head.
#[derive(Debug)]
pub struct Gate {
    /// The daemon's name.
    pub name: String,
    /// Its guests.
    pub guests: Arc<Guests>,
    /// Its counts.
    pub stats: Counters,
    /// Its limits.
    pub limits: Limits,
    /// What limits the log lines about connections of other protocols, which anybody can open.
    pub(crate) other_protocols: RateLimit,
    /// What of its replies waits for guests.
    pub(crate) room: Arc<ReplyBudget>,
    phase: ArcSwap<GatePhase>,
    changed: watch::Sender<()>,
    /// Whether any panic is counted: the line is everybody's, and is seldom anything but false.
    has_panicked: AtomicBool,
    panics: Mutex<PanicStreak>,
    too_many_panics: Notify,
    ends: AtomicU64,
    last_end: Mutex<String>,
}

/// Panics in a row, with no command answered between them, of the instance that is there now.
#[derive(Debug, Default)]
struct PanicStreak {
    /// The number of that instance. What is counted for another one comes late, and is dropped.
    instance: u64,
    in_a_row: u32,
    max: u32,
    /// Commands that were answered by the daemon's own process, when the last one panicked.
    calls_elsewhere: u64,
    are_too_many: bool,
}

impl Gate {
    /// A gate that nobody stands behind yet.
    #[must_use]
    pub fn new(name: &str, limits: Limits) -> Arc<Self> {
        Arc::new(Gate {
            name: name.to_owned(),
            guests: Arc::default(),
            stats: Counters::default(),
            limits,
            other_protocols: RateLimit::new(OTHER_PROTOCOLS_LOGGED, Duration::from_secs(60)),
            room: Arc::default(),
            phase: ArcSwap::from_pointee(GatePhase::Waiting),
            changed: watch::Sender::new(()),
            ends: AtomicU64::new(0),
            last_end: Mutex::default(),
            has_panicked: AtomicBool::new(false),
            panics: Mutex::default(),
            too_many_panics: Notify::new(),
        })
    }

    /// What stands behind it now.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> arc_swap::Guard<Arc<GatePhase>> {
        self.phase.load()
    }

    /// Counts a batch that the instance of that number answered, whose commands each waited `latency`.
    pub fn count(&self, instance: u64, tally: BatchCounts, latency: Duration) {
        self.stats.add(tally, latency);
        if tally.panics > 0 || self.has_panicked.load(Ordering::Relaxed) {
            self.count_panics(instance, tally);
        }
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
        self.panics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the panics of the instance of that number from now on, and no other's. `max` in a row are too many.
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

    /// Ends when there were too many.
    pub async fn too_many_panics(&self) {
        while !std::mem::take(&mut self.panics().are_too_many) {
            self.too_many_panics.notified().await;
        }
    }

    /// Ends when the phase is no longer the one that was seen before this call.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changed = self.changed.subscribe();
        async move {
            // An error means that the gate is gone, which is a change too.
            let _ = changed.changed().await;
        }
    }

    /// Opens it to `instance`.
    pub fn open(&self, instance: Arc<Instance>) -> LeaseReturn {
        self.room.begin_anew();
        let (sender, given_back) = oneshot::channel();
        let revoke = CancellationToken::new();
        let lease = Lease {
            instance,
            revoked: revoke.clone(),
            _given_back: sender,
        };
        self.set(GatePhase::Open(Arc::new(lease)));
        LeaseReturn { given_back, revoke }
    }

    /// An instance has ended that nobody had asked to: those of its guests who want to know are told why.
    pub fn note_end(&self, cause: &str) {
        *self.last_end.lock().unwrap_or_else(PoisonError::into_inner) = cause.to_owned();
        self.ends.fetch_add(1, Ordering::Release);
        self.guests.wake_all();
    }

    /// How many did.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    /// Why the last one did.
    #[must_use]
    pub fn last_end(&self) -> String {
        let last_end = self.last_end.lock().unwrap_or_else(PoisonError::into_inner);
        last_end.clone()
    }

    /// From now on lines wait.
    pub fn hold(&self) {
        self.set(GatePhase::Waiting);
    }

    /// From now on lines wait until whoever says this opens, holds or shuts it again, which he does in any case.
    pub fn hold_for_change(&self) {
        self.set(GatePhase::Changing);
    }

    /// From now on lines wait that would have gone to the instance that came of that attempt. Nothing happens where
    /// another is there by now, or none is expected: a report that comes late is dropped.
    pub fn hold_behind(&self, attempt: u64) {
        self.phase.rcu(|phase| match &**phase {
            GatePhase::Open(lease) if lease.instance.identity.attempt == attempt => {
                Arc::new(GatePhase::Waiting)
            }
            _ => Arc::clone(phase),
        });
        self.changed.send_replace(());
    }

    /// From now on commands are answered `unavailable`, with this reason.
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
    use crate::instance::{AnswerFuture, BuiltIn};
    use crate::plugin::identity::Identity;
    use dae_store::config::Config;
    use dae_store::manifest::Manifest;
    use dae_store::report::Mode;

    #[derive(Debug)]
    struct Nothing;

    impl BuiltIn for Nothing {
        fn answer(&self, _: u32, _: Vec<u8>, _: u64) -> AnswerFuture {
            unreachable!("nobody asks it")
        }
    }

    fn instance() -> Arc<Instance> {
        let identity = Identity {
            name: "A".to_owned(),
            plugin: "A".to_owned(),
            version: String::new(),
            mode: Mode::InProcess,
            pid: 0,
            port: 0,
            generation: 1,
            attempt: 1,
            since: std::time::Instant::now(),
        };
        let code = Arc::new(Nothing);
        Arc::new(Instance::built_in(identity, Manifest::default(), code))
    }

    /// Who owns the instance when the supervisor hears that the lease was given back.
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
            instance: instance(),
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
