//! Commands that end later than they begin: futures of the daemon, polled by the worker's one thread.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::Worker;
use crate::connection::reply_budget::{ReplyBudget, Reservation};
use crate::hand_off::{HandOffState, monotonic_ns};
use crate::instance::Pending;
use crate::plugin::completion::Completion;

/// A running command. It is cancelled when its sender is dropped.
pub(super) struct RunningCall {
    id: u64,
    guest: u64,
    command: u32,
    room: Arc<ReplyBudget>,
    pending: Option<Pending>,
    /// True once the command may go on regardless of the reply budget.
    is_freed: bool,
    /// Held until the reply is counted.
    _reservation: Option<Arc<Reservation>>,
    hand_off_state: Option<Arc<HandOffState>>,
    cancelled: tokio::sync::oneshot::Receiver<()>,
}

impl RunningCall {
    fn of(&self) -> (u64, u64, u32) {
        (self.id, self.guest, self.command)
    }

    /// Returns whether the command may go on. If not, its task is woken when fewer reply bytes wait.
    fn has_room(&mut self, context: &Context<'_>) -> bool {
        if let Some(Pending::Blocking(_)) = &self.pending {
            // The thread holds the reservation; polling only takes the finished reply.
            return true;
        }
        self.room.want(context);
        // Reported once for each call, while a call may be polled many times.
        self.is_freed |= self.room.take_freed(self.id);
        self.is_freed || self.guest == 0 || self.room.may_go_on(self.guest, self.command)
    }
}

impl Future for RunningCall {
    type Output = ((u64, u64, u32), Option<Completion>);

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if std::pin::Pin::new(&mut this.cancelled)
            .poll(context)
            .is_ready()
        {
            this.pending = None;
            return Poll::Ready((this.of(), None));
        }
        if this.room.is_tight() && !this.has_room(context) {
            return Poll::Pending;
        }
        if let Some(hand_off_state) = &this.hand_off_state {
            // A poll that doesn't return holds this thread as a handler does.
            hand_off_state.run(this.id, 0, monotonic_ns());
        }
        let polled = this
            .pending
            .as_mut()
            .map(|pending| std::pin::Pin::new(pending).poll(context));
        if let Some(hand_off_state) = &this.hand_off_state {
            hand_off_state.rest();
        }
        match polled {
            Some(Poll::Ready(ended)) => {
                this.pending = None;
                Poll::Ready((this.of(), Some(ended)))
            }
            _ => Poll::Pending,
        }
    }
}

impl Worker {
    /// Starts a command that ends later, given the call's number, the guest and the command's index. Guest 0 is the
    /// host.
    pub(super) fn run_one(
        &mut self,
        (id, guest, command): (u64, u64, u32),
        pending: Pending,
        reservation: Option<Arc<Reservation>>,
    ) {
        let (sender, cancelled) = tokio::sync::oneshot::channel();
        self.calls.insert(id, sender);
        self.running.push(RunningCall {
            id,
            guest,
            command,
            room: Arc::clone(&self.room),
            pending: Some(pending),
            is_freed: false,
            _reservation: reservation,
            hand_off_state: self.hand_off_state.clone(),
            cancelled,
        });
    }

    pub(super) fn on_ended(
        &mut self,
        (id, guest, command): (u64, u64, u32),
        ended: Option<Completion>,
    ) {
        self.calls.remove(&id);
        self.room.take_freed(id);
        if let Some(Completion { status, bytes }) = ended {
            self.room.note(command, 0, bytes.len());
            self.room.add(guest, bytes.len());
            self.wire.send_ended((id, guest), status, bytes);
        }
    }
}
