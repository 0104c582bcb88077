//! The batches of one guest: commands that its daemon's own process answers on the spot.
//!
//! The commands that stand together in the guest's buffer are handed over as one batch. Their replies are written into
//! the guest's buffer as they come. Meanwhile only the index and the tag of each command are kept. All of them share
//! one limit, one lease and one waker. A process answers batch after batch, so only the first is polled.
//!
//! A guest that waits for nothing holds no such state. The state goes to the thread's store, with its buffers and its
//! running timer, for the next guest on that thread. All guests are polled by threads of one runtime.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::Duration;

use dae_common_tcp::Message;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::answers::ReplyRoute;
use super::sent_batch::{BatchGiveUp, KEPT_BYTES_MAX, SentBatch, SentCommands};
use crate::connection::guest_handle::GuestHandle;
use crate::plugin::completion;
use crate::process::ipc::batch::put_entry;
use crate::process::subprocess::{OverdueAction, bytes_of};
use crate::session::gate::Lease;
use crate::threads::counters::BatchTally;

/// The size at which a batch is handed over (bytes): its process can work while the next batch is made.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// The most entries that a thread keeps: as many of its guests may well wait at once.
const KEPT_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<SpareBatches> = const { RefCell::new(SpareBatches { works: Vec::new(), patience: Vec::new() }) };
}

/// Registers the thread's store ([`crate::session::thread_start::prepare`]).
pub(super) fn prepare_thread() {
    SPARE.with(|_| ());
}

/// The state that no guest of the thread uses at the moment.
struct SpareBatches {
    #[expect(clippy::vec_box, reason = "the box is what a guest is given")]
    works: Vec<Box<Work>>,
    /// The timers, some for leases that may be gone. The oldest is dropped first.
    patience: Vec<BatchTimer>,
}

/// The batches of one guest.
#[derive(Default)]
pub(super) struct GuestBatches {
    /// Set while a command is unanswered.
    work: Option<Box<Work>>,
}

#[derive(Default)]
struct Work {
    /// The batch that is being made.
    open: Option<OpenBatch>,
    handed_over: VecDeque<SentBatch>,
    /// The number of unanswered commands in all batches.
    unanswered: usize,
    /// The size of the arguments of all batches that are not answered in full (bytes).
    arguments: usize,
    patience: Option<BatchTimer>,
    /// An empty buffer for the next batch.
    entries: Vec<u8>,
    sent: SentCommands,
}

struct OpenBatch {
    /// The commands in the form in which they are handed over.
    entries: Vec<u8>,
    sent: SentCommands,
    place: Option<u64>,
    /// The size of its arguments (bytes).
    arguments: usize,
    /// True if another reply follows it in the order.
    is_cut: bool,
}

/// The timer that gives up the first batch. Kept from batch to batch, since it hardly ever fires.
pub(super) struct BatchTimer {
    /// The lease whose end it watches.
    lease: Weak<Lease>,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends when the first batch must be checked.
    limit: Option<Pin<Box<Sleep>>>,
}

/// The destination of replies.
pub(super) struct ReplySink<'a> {
    pub(super) outbox: &'a mut Vec<u8>,
    pub(super) guest: &'a GuestHandle,
    /// The number of the next untagged reply in the order.
    pub(super) next: u64,
    /// The counts of the commands that are answered.
    pub(super) tally: BatchTally,
}

/// The progress of the first batch.
pub(super) struct BatchState {
    pub(super) tally: BatchTally,
    pub(super) took: Duration,
    /// The size of the replies that have come (bytes), and the lease that they came by.
    pub(super) bytes: (usize, Arc<Lease>),
    /// True if all of the batch is answered.
    pub(super) is_over: bool,
    /// Its place in the order and the replies still to go there, once all of it is answered.
    pub(super) place: Option<(u64, Vec<u8>)>,
}

impl GuestBatches {
    /// Returns the size of the replies that wait here for those before them (bytes).
    pub(super) fn held(&self) -> usize {
        let batches = self.work.iter().flat_map(|work| &work.handed_over);
        batches.map(|batch| batch.held.len()).sum()
    }

    /// Lets the batch with that place in the order continue, if it is here; once for each of its commands.
    pub(super) fn go_on(&mut self, place: u64) {
        let mut batches = self.work.iter_mut().flat_map(|work| &mut work.handed_over);
        if let Some(batch) = batches.find(|batch| batch.place == Some(place))
            && batch.goes_on != Some(batch.sent.answered)
        {
            batch.goes_on = Some(batch.sent.answered);
            batch.call.go_on();
        }
    }

    /// Returns the size of the arguments under way (bytes).
    pub(super) fn arguments(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.arguments)
    }

    /// Returns the number of unanswered commands.
    pub(super) fn unanswered(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.unanswered)
    }

    fn open(&mut self) -> Option<&mut OpenBatch> {
        self.work.as_mut()?.open.as_mut()
    }

    /// Returns whether the next command belongs in another batch.
    pub(super) fn is_full(&mut self) -> bool {
        self.open()
            .is_some_and(|open| open.is_cut || open.entries.len() >= BATCH_BYTES_MAX)
    }

    /// Notes that another reply has taken a place in the order.
    pub(super) fn cut(&mut self) {
        if let Some(open) = self.open() {
            open.is_cut = true;
        }
    }

    /// Adds a command. `place` takes one place in the order for all untagged replies of the batch.
    pub(super) fn add(&mut self, message: &Message<'_>, index: u32, place: impl FnOnce() -> u64) {
        let work = self.work.get_or_insert_with(Work::of_spare);
        let open = work.open.get_or_insert_with(|| OpenBatch {
            entries: std::mem::take(&mut work.entries),
            sent: std::mem::take(&mut work.sent),
            place: None,
            arguments: 0,
            is_cut: false,
        });
        put_entry(&mut open.entries, index, message.arguments.as_bytes());
        work.arguments += message.arguments.len();
        open.arguments += message.arguments.len();
        open.sent.push(index, message.tag);
        if message.tag.is_none() {
            open.place.get_or_insert_with(place);
        }
        work.unanswered += 1;
    }

    /// Hands over what was added. Returns false if that is nothing.
    pub(super) fn hand_over(&mut self, route: ReplyRoute<'_>, context: &mut Context<'_>) -> bool {
        let work = self.work.as_mut();
        work.is_some_and(|work| work.hand_over(route, context))
    }

    /// Writes the replies that have come for the first batch. Returns `None` if nothing has come or there is no batch.
    pub(super) fn collect(
        &mut self,
        out: &mut ReplySink<'_>,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> Option<BatchState> {
        let came = self.work.as_mut()?.collect(out, limit, context);
        if let Some(work) = self.work.take_if(|work| work.unanswered == 0) {
            work.spare();
        }
        came
    }
}

impl Work {
    fn of_spare() -> Box<Self> {
        let work = SPARE.with_borrow_mut(|spare| spare.works.pop());
        work.unwrap_or_default()
    }

    /// Keeps the state for the next guest.
    fn spare(mut self: Box<Self>) {
        let most = KEPT_BYTES_MAX / size_of::<SentBatch>();
        self.handed_over.shrink_to(most);
        let patience = self.patience.take();
        let excess = SPARE.with_borrow_mut(|spare| {
            let is_excess = spare.patience.len() + usize::from(patience.is_some()) > KEPT_MAX;
            let excess = is_excess.then(|| spare.patience.remove(0));
            spare.patience.extend(patience);
            if spare.works.len() < KEPT_MAX {
                spare.works.push(self);
            }
            excess
        });
        // Dropping it may wake a task, which must not happen while the store is borrowed.
        drop(excess);
    }

    fn hand_over(&mut self, route: ReplyRoute<'_>, context: &mut Context<'_>) -> bool {
        let Some(mut open) = self.open.take() else {
            return false;
        };
        let batch = completion::CommandBatch {
            guest: route.guest.id(),
            count: open.sent.commands.len(),
            entries: &open.entries,
        };
        let batch = SentBatch {
            call: route.lease.instance.answer_there(&batch, context),
            lease: Arc::clone(route.lease),
            began: Instant::now(),
            sent: open.sent,
            received: 0,
            goes_on: None,
            arguments: open.arguments,
            withdrawn: None,
            place: open.place,
            held: Vec::new(),
        };
        open.entries.clear();
        open.entries.shrink_to(KEPT_BYTES_MAX);
        self.entries = open.entries;
        // Only the first batch needs the timer: none behind it is given up before it.
        let is_first = self.handed_over.is_empty();
        if is_first
            && BatchTimer::is_over(&mut self.patience, &batch, route.limit(), context).is_some()
        {
            context.waker().wake_by_ref();
        }
        self.handed_over.push_back(batch);
        true
    }

    fn collect(
        &mut self,
        out: &mut ReplySink<'_>,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> Option<BatchState> {
        let first = self.handed_over.front_mut()?;
        let mut entries = Vec::new();
        let mut given_up = first.take(&mut entries, context);
        let mut bytes = bytes_of(&entries);
        // Events emitted meanwhile come before the replies.
        out.guest.take_into(out.outbox);
        first.write_held(out);
        first.write_replies(out, &mut entries);
        if given_up.is_none() {
            let came;
            (given_up, came) = first.wait(&mut self.patience, out, limit, context);
            bytes += came;
        }
        if let Some(why) = given_up {
            first.give_up(out, &why);
        }
        first.give_up_withdrawn(out);
        let tally = std::mem::take(&mut out.tally);
        let calls = tally.total().calls;
        self.unanswered -= usize::try_from(calls).unwrap_or_default();
        let (took, is_over) = (first.began.elapsed(), first.sent.left() == 0);
        let bytes = (bytes, Arc::clone(&first.lease));
        let over = self.handed_over.pop_front_if(|_| is_over);
        (calls > 0 || bytes.0 > 0).then(|| BatchState {
            tally,
            took,
            bytes,
            is_over,
            place: over.and_then(|batch| self.end(batch)),
        })
    }

    /// Returns its place in the order, and the replies still to go there.
    fn end(&mut self, batch: SentBatch) -> Option<(u64, Vec<u8>)> {
        let SentBatch {
            sent,
            arguments,
            place,
            held,
            ..
        } = batch;
        self.arguments -= arguments;
        self.sent = sent;
        self.sent.clear();
        Some((place?, held))
    }
}

impl BatchTimer {
    fn with(lease: &Arc<Lease>) -> Self {
        let spare = SPARE.with_borrow_mut(|spare| {
            let at = spare.patience.iter().rposition(|one| one.is_with(lease))?;
            Some(spare.patience.remove(at))
        });
        spare.unwrap_or_else(|| BatchTimer {
            lease: Arc::downgrade(lease),
            revoked: Box::pin(lease.revoked.clone().cancelled_owned()),
            limit: None,
        })
    }

    fn is_with(&self, lease: &Arc<Lease>) -> bool {
        std::ptr::eq(self.lease.as_ptr(), Arc::as_ptr(lease))
    }

    /// Returns the reason if the first batch must be given up. If not, the guest is woken when it must be.
    pub(super) fn is_over(
        own: &mut Option<Self>,
        first: &SentBatch,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> Option<BatchGiveUp> {
        // A gate may open again to the same instance, with another lease.
        if own.as_ref().is_some_and(|own| !own.is_with(&first.lease)) {
            *own = None;
        }
        let patience = own.get_or_insert_with(|| Self::with(&first.lease));
        if patience.revoked.as_mut().poll(context).is_ready() {
            // A future must not be polled again after it is ready.
            *own = None;
            return Some(BatchGiveUp::LetGo);
        }
        if limit.is_zero() {
            return None;
        }
        let sleep = patience
            .limit
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(first.began + limit)));
        // The timer may be set for a batch that ended long ago.
        while sleep.as_mut().poll(context).is_ready() {
            let end = first.began + limit;
            let look = match Instant::now() < end {
                true => end,
                false => match first.due(limit) {
                    OverdueAction::TooLong => return Some(BatchGiveUp::TooLong(limit)),
                    OverdueAction::Look(at) => at.into(),
                },
            };
            sleep.as_mut().reset(look);
        }
        None
    }
}
