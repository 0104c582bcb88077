//! A command that is under way and ends later: an `async fn`, a blocking one, or one that a subprocess runs.
//!
//! It is polled while there is budget for its reply ([`crate::connection::reply_budget`]). It is given up at its limit
//! or with its instance.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use dae_plugin_api::abi::status;

use crate::connection::reply_budget::{ReplyBudget, Reservation, ReservationBusy};
use crate::instance::Pending;
use crate::instance::reply::{write_ended, write_large};
use crate::plugin::completion::Completion;
use crate::process::ipc::LARGE_BYTES;
use crate::session::gate::Lease;
use crate::threads::counters::BatchCounts;

/// The place of a running command's reply.
#[derive(Clone, Copy)]
pub(super) enum ReplyPlace {
    /// The reply with that number in the order.
    Ordered(u64),
    /// Not in the order: the reply is sent as soon as it is ready.
    Tagged,
}

/// A command under way.
pub(super) struct RunningCommand {
    // Dropped before the lease: no code of an instance outlives the right to run it.
    pub(super) pending: Option<Pending>,
    pub(super) lease: Arc<Lease>,
    /// Ends with the error reply when the command must be given up.
    pub(super) given_up: Pin<Box<dyn Future<Output = Completion> + Send>>,
    pub(super) began: Instant,
    pub(super) place: ReplyPlace,
    pub(super) emits_first: bool,
    /// The guest's number and the command's index.
    pub(super) of: (u64, u32),
    pub(super) arguments: usize,
    pub(super) room: Arc<ReplyBudget>,
    /// Held from start to end by a blocking command, whose reply is made on another thread.
    pub(super) _reservation: Option<Arc<Reservation>>,
    /// True if other replies to its guest wait for this one.
    pub(super) is_next: bool,
    pub(super) waker: Option<Waker>,
    pub(super) name: Box<str>,
    pub(super) tag: Option<Box<str>>,
}

/// A finished command.
pub(super) struct FinishedCommand {
    /// The number of the instance that ran it.
    pub(super) instance: u64,
    /// The sizes of its result and of its arguments (bytes).
    pub(super) bytes: (usize, usize),
    pub(super) lease: Arc<Lease>,
    pub(super) place: ReplyPlace,
    pub(super) emits_first: bool,
    pub(super) line: Vec<u8>,
    pub(super) tally: BatchCounts,
    pub(super) took: Duration,
}

impl Future for RunningCommand {
    type Output = FinishedCommand;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FinishedCommand> {
        let this = &mut *self;
        let reserved = this.reserve(context);
        let pending = this.pending.as_mut().filter(|_| reserved.is_ok());
        let polled = pending.map(|pending| Pin::new(pending).poll(context));
        let ended = match polled {
            Some(Poll::Ready(ended)) => {
                this.room.note(this.of.1, this.arguments, ended.bytes.len());
                ended
            }
            _ => ready!(this.given_up.as_mut().poll(context)),
        };
        this.pending = None;
        let bytes = (ended.bytes.len(), this.arguments);
        // Counts until the guest's task counts it with the rest: other commands may end before that.
        this.room.add(this.of.0, bytes.0);
        let (line, tally) = finished_line(&this.name, this.tag.as_deref(), ended);
        Poll::Ready(FinishedCommand {
            instance: this.lease.instance.number(),
            bytes,
            lease: Arc::clone(&this.lease),
            place: this.place,
            emits_first: this.emits_first,
            line,
            tally,
            took: this.began.elapsed(),
        })
    }
}

impl RunningCommand {
    /// Lets the command continue however much waits for its guest: the replies behind it can't be sent before it ends.
    pub(super) fn go_on(&mut self) {
        if std::mem::replace(&mut self.is_next, true) {
            return;
        }
        if let Some(Pending::Subprocess(call)) = &self.pending {
            call.go_on();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the reservation for the reply that the next poll may make.
    ///
    /// # Errors
    /// There is no budget for the reply now. The guest's task is woken when there is.
    #[inline]
    fn reserve(&mut self, context: &Context<'_>) -> Result<Option<Arc<Reservation>>, NoRoom> {
        let asks = match &self.pending {
            Some(Pending::InProcess(_)) => self.room.asks(self.of.1),
            // The thread holds the reservation; polling only takes the finished reply.
            Some(Pending::Blocking(_)) | None => false,
            Some(Pending::Subprocess(_) | Pending::BuiltIn(_)) => self.room.is_tight(),
        };
        match asks {
            true => self.reserve_or_wait(context),
            false => Ok(None),
        }
    }

    #[cold]
    fn reserve_or_wait(
        &mut self,
        context: &Context<'_>,
    ) -> Result<Option<Arc<Reservation>>, NoRoom> {
        if let Ok(reservation) = self.reserve_now() {
            return Ok(reservation);
        }
        self.waker = Some(context.waker().clone());
        // Register before the second check, so that budget released in between isn't missed.
        self.room.want(context);
        self.reserve_now()
    }

    fn reserve_now(&self) -> Result<Option<Arc<Reservation>>, NoRoom> {
        let (guest, command) = self.of;
        if !self.is_next && !self.room.may_go_on(guest, command) {
            return Err(NoRoom);
        }
        match &self.pending {
            Some(Pending::InProcess(_)) => {
                self.room.reserve(command).map_err(|ReservationBusy| NoRoom)
            }
            _ => Ok(None),
        }
    }
}

/// The error when there is no budget for a reply now.
struct NoRoom;

/// Returns the line of a command that has ended, and its counts.
fn finished_line(name: &str, tag: Option<&str>, ended: Completion) -> (Vec<u8>, BatchCounts) {
    let mut tally = BatchCounts::default();
    if ended.status == status::DONE && ended.bytes.len() >= LARGE_BYTES {
        let mut line = Vec::new();
        write_large(&mut line, (name, tag), (ended.bytes, 0), &mut tally);
        return (line, tally);
    }
    let mut line = Vec::with_capacity(name.len() + ended.bytes.len() + 8);
    let told = (ended.status, &ended.bytes[..]);
    write_ended(&mut line, (name, tag), told, &mut tally);
    (line, tally)
}
