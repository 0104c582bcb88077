//! A command that is under way and ends later: an `async fn`, a blocking one, or one that a subprocess runs.
//!
//! Guests with a socket and local clients run such commands the same way. A command holds its lease while it runs, so
//! that no reload ends the instance under it. It is given up at its limit or with its instance. A guest's command is
//! polled only while there is budget for its reply ([`BudgetShare`]); the caller of a local client takes the reply at
//! once, so that nothing waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::connection::guest_handle::PartsTicket;
use crate::connection::reply_budget::{ReplyBudget, Reservation, ReservationBusy};
use crate::instance::{Pending, StartProgress};
use crate::plugin::completion::Completion;
use crate::session::gate::{GiveUp, Lease};
use crate::threads::trace::{self, TraceSpan};
use dae_plugin_api::abi::status;

/// A command under way.
pub(crate) struct CommandRun {
    // Dropped before the lease: no code of an instance outlives the right to run it.
    pending: Option<Pending>,
    lease: Arc<Lease>,
    name: Box<str>,
    /// Its index in the command table.
    index: u32,
    began: Instant,
    limit: Duration,
    /// Ends when the command must be given up. Made by the first poll that finds the command unfinished.
    given_up: Option<Pin<Box<dyn Future<Output = GiveUp> + Send>>>,
    share: Option<BudgetShare>,
    /// Its parts, if its guest takes them.
    parts: Option<PartsTicket>,
    /// Its span, if it belongs to a trace.
    span: Option<TraceSpan>,
}

/// The command of a run.
pub(crate) struct RunOf {
    /// Its name.
    pub name: Box<str>,
    /// Its index in the command table.
    pub index: u32,
    /// The time when it was started.
    pub began: Instant,
    /// Its time limit, which each part begins anew; zero means none.
    pub limit: Duration,
    /// Its parts, if its guest takes them.
    pub parts: Option<PartsTicket>,
    /// Its span, if it belongs to a trace.
    pub span: Option<TraceSpan>,
}

/// A run that has ended.
pub(crate) struct EndedRun {
    pub completion: Completion,
    pub took: Duration,
}

impl CommandRun {
    /// Makes the run of a command that was started by that lease.
    pub(crate) fn new(
        of: RunOf,
        pending: Pending,
        lease: Arc<Lease>,
        share: Option<BudgetShare>,
    ) -> Self {
        CommandRun {
            pending: Some(pending),
            lease,
            name: of.name,
            index: of.index,
            began: of.began,
            limit: of.limit,
            given_up: None,
            share,
            parts: of.parts,
            span: of.span,
        }
    }

    /// Returns the lease that it runs by.
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Returns the command's index in the command table.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Returns the command's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Lets the command continue however much waits for its guest: the replies behind it can't be sent before it ends.
    pub(crate) fn go_on(&mut self) {
        let Some(share) = &mut self.share else {
            return;
        };
        if std::mem::replace(&mut share.is_next, true) {
            return;
        }
        if let Some(Pending::Subprocess(call)) = &self.pending {
            call.go_on();
        }
        if let Some(waker) = share.waker.take() {
            waker.wake();
        }
    }

    /// Polls the command, if there is budget for its reply.
    #[inline]
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let Some(pending) = &mut self.pending else {
            return Poll::Pending;
        };
        let Some(share) = &mut self.share else {
            return Pin::new(pending).poll(context);
        };
        // Held while the code runs, and until its reply is counted.
        let Ok(_reservation) = share.reserve(self.index, pending, context) else {
            return Poll::Pending;
        };
        let polled = Pin::new(pending).poll(context);
        if let Poll::Ready(ended) = &polled {
            let reply = ended.bytes.len();
            share.budget.note(self.index, share.arguments, reply);
            share.count(reply);
        }
        polled
    }

    /// Ends when the command must be given up.
    fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let CommandRun {
            pending: Some(pending),
            given_up,
            lease,
            limit,
            parts,
            ..
        } = self
        else {
            return Poll::Pending;
        };
        let given_up =
            given_up.get_or_insert_with(|| Box::pin(lease.given_up(*limit, pending.start())));
        let why = loop {
            let why = ready!(given_up.as_mut().poll(context));
            let left = parts.as_ref().and_then(|parts| parts.left(*limit));
            match (why, left) {
                // It has sent a part since then, so it has begun.
                (GiveUp::TooLong(_), Some(left)) => {
                    *given_up = Box::pin(lease.given_up(left, StartProgress::Begun));
                }
                (GiveUp::TooLong(_), None) => break GiveUp::TooLong(*limit),
                (why, _) => break why,
            }
        };
        let fate = self.lease.instance.fate(self.index);
        let ended = why.completion(&self.name, fate);
        if let Some(share) = &self.share {
            share.count(ended.bytes.len());
        }
        Poll::Ready(ended)
    }
}

impl Future for CommandRun {
    type Output = EndedRun;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<EndedRun> {
        let this = &mut *self;
        // The command first: a withdrawn one ends there, with the reason.
        let span = this.span;
        let completion = match trace::during(span, || this.poll_pending(context)) {
            Poll::Ready(ended) => ended,
            Poll::Pending => ready!(this.poll_given_up(context)),
        };
        this.pending = None;
        let took = this.began.elapsed();
        if let Some(span) = span {
            let is_error = !matches!(completion.status, status::DONE | status::NOTHING);
            let daemon = &this.lease.instance.identity.name;
            span.end((daemon, &this.name), took, is_error);
        }
        Poll::Ready(EndedRun { completion, took })
    }
}

/// The share of a guest's command in the reply budget of its daemon.
pub(crate) struct BudgetShare {
    budget: Arc<ReplyBudget>,
    /// The guest's id.
    guest: u64,
    /// The size of the command's arguments (bytes).
    arguments: usize,
    /// Held from start to end by a blocking command, whose reply is made on another thread.
    _reservation: Option<Arc<Reservation>>,
    /// True if other replies to its guest wait for this one.
    is_next: bool,
    waker: Option<Waker>,
}

impl BudgetShare {
    /// Makes the share of a guest's command.
    pub(crate) fn new(
        budget: &Arc<ReplyBudget>,
        (guest, arguments): (u64, usize),
        reservation: Option<Arc<Reservation>>,
    ) -> Self {
        BudgetShare {
            budget: Arc::clone(budget),
            guest,
            arguments,
            _reservation: reservation,
            is_next: false,
            waker: None,
        }
    }

    /// Takes the reservation for the reply that the next poll may make.
    ///
    /// # Errors
    /// There is no budget for the reply now. The guest's task is woken when there is.
    #[inline]
    fn reserve(
        &mut self,
        command: u32,
        pending: &Pending,
        context: &Context<'_>,
    ) -> Result<Option<Arc<Reservation>>, NoBudget> {
        let asks = match pending {
            Pending::InProcess(_) => self.budget.asks(command),
            // The thread holds the reservation; polling only takes the finished reply.
            Pending::Blocking(_) | Pending::Aside(_) => false,
            Pending::Subprocess(_) | Pending::BuiltIn(_) => self.budget.is_tight(),
        };
        match asks {
            true => self.reserve_or_wait(command, pending, context),
            false => Ok(None),
        }
    }

    /// Counts a reply of that size until the guest's task counts it with the rest: other commands may end before that.
    fn count(&self, reply: usize) {
        self.budget.add(self.guest, reply);
    }

    #[cold]
    fn reserve_or_wait(
        &mut self,
        command: u32,
        pending: &Pending,
        context: &Context<'_>,
    ) -> Result<Option<Arc<Reservation>>, NoBudget> {
        if let Ok(reservation) = self.reserve_now(command, pending) {
            return Ok(reservation);
        }
        self.waker = Some(context.waker().clone());
        // Register before the second check, so that budget released in between isn't missed.
        self.budget.want(context);
        self.reserve_now(command, pending)
    }

    fn reserve_now(
        &self,
        command: u32,
        pending: &Pending,
    ) -> Result<Option<Arc<Reservation>>, NoBudget> {
        if !self.is_next && !self.budget.may_go_on(self.guest, command) {
            return Err(NoBudget);
        }
        match pending {
            Pending::InProcess(_) => self
                .budget
                .reserve(command)
                .map_err(|ReservationBusy| NoBudget),
            _ => Ok(None),
        }
    }
}

/// The error when there is no budget for a reply now.
struct NoBudget;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use dae_plugin_api::abi::status;
    use dae_store::manifest::Manifest;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::connection::reply_budget::BULK_BYTES_MIN;
    use crate::plugin::command_table::RunsOn;
    use crate::plugin::completion::{Call, host_status};
    use crate::session::gate::{Gate, LeaseReturn};
    use crate::session::test_daemon::{TestDaemon, gate_of};

    const LIMIT: Duration = Duration::from_millis(5);
    const GUEST: u64 = 1;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Started {
        run: CommandRun,
        end: oneshot::Sender<Completion>,
        gate: Arc<Gate>,
        lease_return: LeaseReturn,
    }

    /// Starts the command `slow`, which ends when the test says so.
    fn started(is_shared: bool) -> Started {
        let (daemon, end) = TestDaemon::that_waits();
        let (gate, lease_return) = gate_of(daemon, Manifest::default());
        let lease = gate.phase().admits(&gate.guests.enter()).cloned().unwrap();
        let call = Call {
            index: 0,
            guest: GUEST,
            arguments: "",
            parts: 0,
        };
        let pending = lease.instance.answer_later(RunsOn::Later, call, None);
        let of = RunOf {
            name: "slow".into(),
            index: 0,
            began: Instant::now(),
            limit: LIMIT,
            parts: None,
            span: None,
        };
        let share = is_shared.then(|| BudgetShare::new(&gate.budget, (GUEST, 0), None));
        Started {
            run: CommandRun::new(of, pending, lease, share),
            end,
            gate,
            lease_return,
        }
    }

    /// Returns a run whose command has ended and that waits for the reply budget, and the count of its wake-ups.
    fn over_budget() -> (CommandRun, Arc<Gate>, Arc<WakeCount>) {
        let Started {
            mut run, end, gate, ..
        } = started(true);
        end.send(done("3")).unwrap();
        gate.budget.set(GUEST, BULK_BYTES_MIN);
        let count = Arc::new(WakeCount::default());
        let waker = Arc::clone(&count).into();
        let poll = Pin::new(&mut run).poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        (run, gate, count)
    }

    fn done(text: &str) -> Completion {
        Completion {
            status: status::DONE,
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn a_run_ends_with_the_end_of_its_command() {
        let Started { run, end, .. } = started(true);
        end.send(done("3")).unwrap();
        assert_eq!(run.await.completion, done("3"));
    }

    #[tokio::test]
    async fn a_run_is_given_up_at_its_limit() {
        let Started { run, end, .. } = started(false);
        let ended = run.await.completion;
        assert_eq!(ended.status, host_status::TIMEOUT);
        assert!(end.is_closed(), "the command was cancelled");
    }

    #[tokio::test]
    async fn a_run_is_given_up_with_its_instance_and_gives_the_lease_back() {
        let Started {
            mut run,
            end: _end,
            gate,
            lease_return,
        } = started(false);
        gate.hold_for_change();
        lease_return.revoke.cancel();
        let ended = (&mut run).await.completion;
        assert_eq!(ended.status, status::GONE);
        drop(run);
        assert!(lease_return.given_back.await.is_err());
    }

    #[tokio::test]
    async fn a_run_waits_for_the_reply_budget_until_replies_are_read() {
        let (run, gate, count) = over_budget();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        gate.budget.set(GUEST, 0);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(run.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_run_that_others_wait_for_goes_on_whatever_waits() {
        let (mut run, _gate, count) = over_budget();
        run.go_on();
        run.go_on();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "woken once");
        assert!(run.now_or_never().is_some());
    }
}
