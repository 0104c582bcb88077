//! Commands that end later than they begin: futures of the daemon, polled by the worker's one thread.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{FutureExt as _, StreamExt as _};

use super::Worker;
use super::clock::WorkClock;
use crate::connection::reply_budget::{ReplyBudget, Reservation};
use crate::hand_off::HandOffState;
use crate::instance::Pending;
use crate::os::clock::monotonic_ns;
use crate::plugin::completion::Completion;
use crate::process::ipc::AT_ONCE;
use crate::threads::trace::{self, TraceSpan};

/// The identity of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallOf {
    /// Its number, which the host has given it.
    pub(super) id: u64,
    /// The guest that it is for; 0 is the host.
    pub(super) guest: u64,
    /// The index of its command.
    pub(super) command: u32,
}

impl CallOf {
    /// Makes the identity of a request of the host that is no command.
    pub(super) fn host(id: u64) -> Self {
        CallOf {
            id,
            guest: 0,
            command: u32::MAX,
        }
    }
}

/// Is called with the index of a command before it is polled.
pub(super) type BeforePoll = Arc<dyn Fn(u32) + Send + Sync>;

/// A running command. It is cancelled when its sender is dropped.
pub(super) struct RunningCall {
    of: CallOf,
    budget: Arc<ReplyBudget>,
    pending: Option<Pending>,
    /// True once the command may go on regardless of the reply budget.
    is_freed: bool,
    /// True once it was polled.
    is_polled: bool,
    /// Held until the reply is counted.
    _reservation: Option<Arc<Reservation>>,
    hand_off_state: Option<Arc<HandOffState>>,
    before_poll: BeforePoll,
    cancelled: tokio::sync::oneshot::Receiver<()>,
    span: Option<TraceSpan>,
}

impl RunningCall {
    /// Returns whether the command may go on. If not, its task is woken when fewer reply bytes wait.
    fn has_budget(&mut self, context: &Context<'_>) -> bool {
        if let Some(Pending::Blocking(_)) = &self.pending {
            // The thread holds the reservation; polling only takes the finished reply.
            return true;
        }
        self.budget.want(context);
        // Reported once for each call, while a call may be polled many times.
        let CallOf { id, guest, command } = self.of;
        self.is_freed |= self.budget.take_freed(id);
        self.is_freed || guest == 0 || self.budget.may_go_on(guest, command)
    }
}

impl Future for RunningCall {
    type Output = (CallOf, Option<Completion>);

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if std::pin::Pin::new(&mut this.cancelled)
            .poll(context)
            .is_ready()
        {
            this.pending = None;
            return Poll::Ready((this.of, None));
        }
        if this.budget.is_tight() && !this.has_budget(context) {
            return Poll::Pending;
        }
        (this.before_poll)(this.of.command);
        if let Some(hand_off_state) = &this.hand_off_state {
            // A poll that doesn't return holds this thread as a handler does.
            hand_off_state.run(this.of.id, 0, monotonic_ns());
        }
        let pending = this.pending.as_mut();
        let polled = trace::during(this.span, || {
            pending.map(|pending| std::pin::Pin::new(pending).poll(context))
        });
        if let Some(hand_off_state) = &this.hand_off_state {
            hand_off_state.rest();
        }
        match polled {
            Some(Poll::Ready(mut ended)) => {
                let is_future = matches!(this.pending, Some(Pending::InProcess(_)));
                this.pending = None;
                if is_future && !this.is_polled {
                    ended.status |= AT_ONCE;
                }
                Poll::Ready((this.of, Some(ended)))
            }
            _ => {
                this.is_polled = true;
                Poll::Pending
            }
        }
    }
}

impl Worker {
    /// Starts a command that ends later.
    pub(super) fn run_one(
        &mut self,
        of: CallOf,
        pending: Pending,
        reservation: Option<Arc<Reservation>>,
    ) {
        self.add_running(of, (pending, false), reservation);
    }

    /// Goes on with a command that has begun and waits.
    pub(super) fn run_begun(&mut self, of: CallOf, pending: Pending) {
        self.add_running(of, (pending, true), None);
    }

    fn add_running(
        &mut self,
        of: CallOf,
        (pending, is_polled): (Pending, bool),
        reservation: Option<Arc<Reservation>>,
    ) {
        let (sender, cancelled) = tokio::sync::oneshot::channel();
        self.calls.insert(of.id, sender);
        self.running.push(RunningCall {
            of,
            budget: Arc::clone(&self.room),
            pending: Some(pending),
            is_freed: false,
            is_polled,
            _reservation: reservation,
            hand_off_state: self.hand_off_state.clone(),
            before_poll: Arc::clone(&self.before_poll),
            cancelled,
            span: trace::current(),
        });
    }

    /// Queues the reply of a command that has ended, and those of others that can end now, so that they go to the host
    /// together.
    pub(super) fn on_ended(&mut self, first: (CallOf, Option<Completion>)) {
        let mut clock = WorkClock::now();
        let mut ended = Some(first);
        while let Some((of, completion)) = ended {
            self.send_ended(of, completion);
            if clock.tick() {
                return;
            }
            ended = self.running.next().now_or_never().flatten();
        }
    }

    fn send_ended(&mut self, of: CallOf, ended: Option<Completion>) {
        let CallOf { id, guest, command } = of;
        self.calls.remove(&id);
        self.room.take_freed(id);
        let Some(ended) = self.states.hold(id, ended, &self.wire) else {
            return;
        };
        if let Some(Completion { status, bytes }) = ended {
            self.room.note(command, 0, bytes.len());
            self.room.add(guest, bytes.len());
            self.wire.send_ended((id, guest), status, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Waker;

    use dae_plugin_api::abi::status;

    use super::*;
    use crate::connection::reply_budget::BULK_BYTES_MIN;

    const OF: CallOf = CallOf {
        id: 7,
        guest: 1,
        command: 0,
    };

    /// Returns a command that ends at its second poll.
    fn in_two_polls() -> Pending {
        let mut polls = 0;
        let ended = poll_fn(move |_| {
            polls += 1;
            match polls {
                1 => Poll::Pending,
                _ => Poll::Ready(Completion {
                    status: status::DONE,
                    bytes: Vec::new(),
                }),
            }
        });
        Pending::BuiltIn(Box::pin(async move { ended.await.into() }))
    }

    #[test]
    fn a_call_that_may_go_on_may_do_so_at_every_poll() {
        let budget = Arc::new(ReplyBudget::default());
        budget.set(OF.guest, BULK_BYTES_MIN);
        let (_sender, cancelled) = tokio::sync::oneshot::channel();
        let mut call = RunningCall {
            of: OF,
            budget: Arc::clone(&budget),
            pending: Some(in_two_polls()),
            is_freed: false,
            is_polled: false,
            _reservation: None,
            hand_off_state: None,
            before_poll: Arc::new(|_| {}),
            cancelled,
            span: None,
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut call).poll(&mut context).is_ready();
        assert!(!poll() && !poll() && !poll(), "no budget");
        budget.free(OF.id);
        assert!(!poll(), "the command itself waits");
        assert!(poll(), "it goes on though the budget is still used up");
    }
}
