//! The worker's side: it reads, runs and answers the lines of the guests that were handed off to it, without the host.
//!
//! This process handles only quick commands. At anything else it hands the guest back with the unhandled rest, and the
//! host continues: an `async` command, an unknown name, a line without a command, an incomplete line, a reply that the
//! guest doesn't read, or an event that must precede a reply. The [`WorkerCursor`] records progress step by step, so
//! that the host can continue wherever this process dies.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as Socket;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dae_common_tcp::{Inbox, Line, Message};
use memchr::memchr;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::atomics::{MADE_BYTES, SLOTS, TAKEN_BYTES};
use super::buffer::OwnBuffer;
use super::cursor::WorkerCursor;
use super::messages::{HandedBack, PanickedCommand, Terms};
use super::slot::{HandOffSlot, Owner};
use super::socket::{self, ByteCounts};
use super::state::HandOffState;
use crate::connection::reply_budget::ReplyBudget;
use crate::os::descriptors::{self, OwnedDescriptor};
use crate::plugin::command_table::{CachedLookup, CommandTable, ResolvedCommand};
use crate::threads::counters::{BatchCounts, BatchTally};
use crate::threads::latency;

/// The first byte of telnet commands, which only the host handles.
const TELNET: u8 = 0xff;

/// The daemon of this worker, and the connection to its host.
pub(crate) trait ServedDaemon: Send + Sync + 'static {
    /// Returns the daemon's commands.
    fn commands(&self) -> &CommandTable;

    /// Runs a quick command, and appends its reply. `of` has the guest that sent it, and its entry in the command table.
    /// Returns whether the daemon has sent the host an event or request meanwhile, which must come before the reply.
    fn answer(
        &self,
        message: Message<'_>,
        of: (u64, u32, &ResolvedCommand),
        out: (&mut Vec<u8>, &mut BatchCounts),
    ) -> bool;

    /// Hands a guest back to the host.
    fn hand_back(&self, id: u64, back: HandedBack);

    /// Sends all that is queued for the host.
    ///
    /// # Errors
    /// The host is gone.
    fn drain(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Asks the host to report what guests read.
    fn want_reads(&self);
}

/// The hand-offs of this worker, and the processor that serves them.
pub(crate) struct WorkerHandOffs<D> {
    /// Created at the first hand-off.
    processor: Option<Arc<Mutex<GuestProcessor<D>>>>,
    by_id: HashMap<u64, JoinHandle<()>>,
}

/// The processor that serves the guests one after the other.
struct GuestProcessor<D> {
    cursor: WorkerCursor,
    daemon: Arc<D>,
    room: Arc<ReplyBudget>,
    inbox: Inbox,
    line_bytes_max: usize,
    reply: Vec<u8>,
}

/// A guest that was handed off.
struct HandedOffGuest {
    place: HandOffSlot,
    guest: u64,
    line_bytes_max: usize,
    stream: TcpStream,
    /// The bytes read and written since the hand-off.
    counts: ByteCounts,
}

/// The next step for a guest after its lines were processed.
enum AfterWork {
    /// The worker waits for more of its lines.
    More,
    /// The host has taken it back.
    Lost,
    HandBack(HandedBack),
}

/// The result of answering the lines that were read.
struct LinesDone {
    tally: BatchTally,
    stop: StopReason,
}

/// The reason why no more lines are answered.
enum StopReason {
    /// All lines are answered; an incomplete one may begin at this offset.
    End(usize),
    /// The line that begins at this offset isn't for this process.
    Before(usize),
    /// The last reply was not stored, because an event must precede it or it is too long; the next line begins at this
    /// offset.
    Behind(usize),
    /// The command of that index has panicked; the next line begins at this offset.
    Panicked(u32, usize),
    Seized,
}

impl<D> Default for WorkerHandOffs<D> {
    fn default() -> Self {
        WorkerHandOffs {
            processor: None,
            by_id: HashMap::new(),
        }
    }
}

impl<D: ServedDaemon> WorkerHandOffs<D> {
    /// Starts to serve a guest, or hands it back at once if that isn't possible.
    pub(crate) fn hand_off(
        &mut self,
        (id, terms): (u64, &Terms),
        mut descriptors: Vec<OwnedDescriptor>,
        (daemon, hand_off_state): (&Arc<D>, Option<&Arc<HandOffState>>),
        room: &Arc<ReplyBudget>,
    ) {
        let socket = descriptors.pop().filter(|socket| is_of(socket, terms));
        let taken = socket.and_then(|socket| {
            let processor = self.processor(hand_off_state?, daemon, room);
            let stream = TcpStream::from_std(Socket::from(socket)).ok()?;
            Some((processor, stream))
        });
        let slot = terms.slot as usize;
        let Some((processor, stream)) = taken.filter(|_| slot < SLOTS) else {
            return daemon.hand_back(id, HandedBack::default());
        };
        let handed_off = HandedOffGuest {
            place: HandOffSlot { id, slot },
            guest: terms.guest,
            line_bytes_max: usize::try_from(terms.line_bytes_max).unwrap_or(usize::MAX),
            stream,
            counts: ByteCounts {
                read: 0,
                written: 0,
            },
        };
        self.by_id.retain(|_, task| !task.is_finished());
        let task = tokio::spawn(handed_off.serve(processor));
        self.by_id.insert(id, task);
    }

    fn processor(
        &mut self,
        hand_off_state: &Arc<HandOffState>,
        daemon: &Arc<D>,
        room: &Arc<ReplyBudget>,
    ) -> Arc<Mutex<GuestProcessor<D>>> {
        let processor = self.processor.get_or_insert_with(|| {
            Arc::new(Mutex::new(GuestProcessor {
                cursor: WorkerCursor::at(Arc::clone(hand_off_state)),
                daemon: Arc::clone(daemon),
                room: Arc::clone(room),
                inbox: Inbox::resumed(0),
                line_bytes_max: 0,
                reply: Vec::new(),
            }))
        });
        Arc::clone(processor)
    }

    /// Stops serving a guest that the host has taken back.
    pub(crate) fn reclaim(&mut self, id: u64) {
        if let Some(task) = self.by_id.remove(&id) {
            task.abort();
        }
    }

    /// Stops serving all guests, so that nothing uses the daemon's instance any more.
    pub(crate) async fn end(&mut self) {
        for (_, task) in self.by_id.drain() {
            task.abort();
            // The result is ignored: the task was aborted.
            let _ = task.await;
        }
        self.processor = None;
    }
}

/// Returns whether that is the socket of the hand-off.
fn is_of(socket: &OwnedDescriptor, terms: &Terms) -> bool {
    let number = descriptors::socket_number(descriptors::of(socket));
    number.is_ok_and(|number| number == terms.inode)
}

/// A guard that aborts the process if our own code panics during a guest's work. The host then continues from the
/// hand-off state.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl HandedOffGuest {
    async fn serve<D: ServedDaemon>(mut self, processor: Arc<Mutex<GuestProcessor<D>>>) {
        let _ends_with_us = AbortOnPanic;
        loop {
            // The read that follows sees any error.
            let _ = self.stream.readable().await;
            let mut processor = Arc::clone(&processor).lock_owned().await;
            match processor.work(&mut self) {
                AfterWork::More => {}
                AfterWork::Lost => return,
                AfterWork::HandBack(back) => return self.hand_back(back, processor).await,
            }
        }
    }

    /// Hands the guest back. Keeps the processor locked until the host has the guest for certain: until then its data
    /// is in the hand-off buffers.
    async fn hand_back<D: ServedDaemon>(
        self,
        back: HandedBack,
        mut processor: OwnedMutexGuard<GuestProcessor<D>>,
    ) {
        let daemon = Arc::clone(&processor.daemon);
        processor.room.add(self.guest, back.unread());
        if processor.room.is_tight() {
            // Commands that end later may wait for that before the event loop comes round.
            daemon.want_reads();
        }
        daemon.hand_back(self.place.id, back);
        // If it fails, the host is gone.
        let _ = daemon.drain().await;
        processor.cursor.let_go();
    }

    fn read_into(&self, room: &mut OwnBuffer<'_, TAKEN_BYTES>) -> io::Result<usize> {
        let mut short = None;
        let read = self.stream.try_io(Interest::READABLE, || {
            let read = socket::receive(descriptors::of(&self.stream), room)?;
            if (1..TAKEN_BYTES).contains(&read) {
                // A short read has most likely emptied the socket. `WouldBlock` makes the runtime wait for more.
                short = Some(read);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        short.map_or(read, Ok)
    }

    fn write(&self, replies: &OwnBuffer<'_, MADE_BYTES>, part: Range<usize>) -> io::Result<usize> {
        socket::send(descriptors::of(&self.stream), replies, part)
    }
}

impl<D: ServedDaemon> GuestProcessor<D> {
    /// Reads the lines that a guest has sent, answers them, and writes the replies.
    fn work(&mut self, guest: &mut HandedOffGuest) -> AfterWork {
        if !self.cursor.pick_up(guest.place, guest.counts) {
            return AfterWork::Lost;
        }
        match self
            .cursor
            .read(guest.place, |mut room| guest.read_into(&mut room))
        {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.release(guest);
            }
            // The host sees the same at its next read.
            Ok(0) | Err(_) => return AfterWork::HandBack(HandedBack::default()),
        }
        let began = Instant::now();
        let done = self.answer(guest);
        self.settle(guest, done, began)
    }

    /// Runs the lines that were read, up to the first one that is not for this process.
    fn answer(&mut self, guest: &HandedOffGuest) -> LinesDone {
        let (mut tally, all) = (BatchTally::default(), self.cursor.taken());
        if self.fill_inbox(guest) {
            let stop = StopReason::Before(0);
            return LinesDone { tally, stop };
        }
        let mut lines = self.inbox.lines();
        let mut run = LineRunner {
            cursor: &mut self.cursor,
            daemon: &*self.daemon,
            room: &self.room,
            guest: (guest.guest, guest.place),
            reply: &mut self.reply,
            tally: &mut tally,
        };
        let (mut start, mut found) = (0, CachedLookup::default());
        let stop = loop {
            let line = lines.next();
            let end = all - lines.left();
            let message = match line {
                None => break StopReason::End(start.max(end)),
                Some(Line::Message(message)) => message,
                Some(_) => break StopReason::Before(start),
            };
            let known = found.known(self.daemon.commands(), message.name, |_| false);
            let Some(command) = known.and_then(ResolvedCommand::here) else {
                break StopReason::Before(start);
            };
            if let Some(stop) = run.line(message, command, (start, end)) {
                break stop;
            }
            start = end;
        };
        LinesDone { tally, stop }
    }

    /// Copies what was read into the inbox: lines are cut in private memory only. Returns whether telnet commands are in
    /// it.
    fn fill_inbox(&mut self, guest: &HandedOffGuest) -> bool {
        self.make_room(guest);
        let room = self.inbox.room(self.cursor.taken());
        let before = room.len();
        self.cursor.copy_taken(0, room);
        memchr(TELNET, &room[before..]).is_some()
    }

    /// Prepares an empty inbox with this guest's limit for lines.
    fn make_room(&mut self, guest: &HandedOffGuest) {
        if self.line_bytes_max != guest.line_bytes_max {
            self.line_bytes_max = guest.line_bytes_max;
            self.empty();
        }
    }

    /// Discards the inbox, which holds the rest of a guest that is handed back.
    fn empty(&mut self) {
        self.inbox = Inbox::resumed(self.line_bytes_max.min(TAKEN_BYTES));
    }

    /// Writes the replies, and returns the next step for the guest.
    fn settle(
        &mut self,
        guest: &mut HandedOffGuest,
        mut done: LinesDone,
        began: Instant,
    ) -> AfterWork {
        let (took, all) = (began.elapsed(), self.cursor.taken());
        let is_over = matches!(done.stop, StopReason::End(at) if at == all);
        if !is_over {
            self.empty();
        }
        let is_seized = matches!(done.stop, StopReason::Seized) || !self.cursor.finish(guest.place);
        leave_to_host(&mut done.tally, is_seized);
        // Counted before the guest can read the reply and ask for the counts.
        self.cursor.count(&done.tally, took);
        if is_seized {
            self.cursor.yield_seized(guest.place);
            return AfterWork::Lost;
        }
        self.cursor.send(|replies, part| guest.write(replies, part));
        if is_over && self.cursor.is_sent() && took < latency::SLOW {
            return self.release(guest);
        }
        AfterWork::HandBack(self.what_is_left(&done, took))
    }

    fn release(&mut self, guest: &mut HandedOffGuest) -> AfterWork {
        let since = self.cursor.since();
        guest.counts.read += since.read;
        guest.counts.written += since.written;
        match self.cursor.release(guest.place) {
            true => AfterWork::More,
            false => AfterWork::HandBack(HandedBack::default()),
        }
    }

    fn what_is_left(&mut self, done: &LinesDone, took: Duration) -> HandedBack {
        let (from, is_last, panicked) = match done.stop {
            StopReason::End(at) | StopReason::Before(at) => (at, false, None),
            StopReason::Behind(at) => (at, true, None),
            StopReason::Panicked(command, at) => (at, true, Some(command)),
            StopReason::Seized => (usize::MAX, false, None),
        };
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX - 1);
        let mut rest = Vec::new();
        self.cursor.copy_taken(from, &mut rest);
        HandedBack {
            panicked: panicked.map(|command| PanickedCommand { command, took_ns }),
            replies: self.cursor.unsent(),
            // The memory of a huge reply goes with it.
            last: if is_last {
                std::mem::take(&mut self.reply)
            } else {
                Vec::new()
            },
            rest,
        }
    }
}

/// Takes out the commands that the host counts: one that has panicked, and one at which the guest was seized. Either is
/// the last one.
fn leave_to_host(tally: &mut BatchTally, is_seized: bool) {
    let counts = tally.current();
    let has_panicked = counts.panics > 0;
    if has_panicked || (is_seized && counts.calls > 0) {
        counts.calls -= 1;
        counts.errors = counts.errors.min(counts.calls + u64::from(has_panicked));
        counts.errors -= u64::from(has_panicked);
        counts.panics = 0;
    }
}

/// The context in which a guest's lines run.
struct LineRunner<'r, D> {
    cursor: &'r mut WorkerCursor,
    daemon: &'r D,
    room: &'r ReplyBudget,
    /// The guest's id, and its hand-off.
    guest: (u64, HandOffSlot),
    reply: &'r mut Vec<u8>,
    tally: &'r mut BatchTally,
}

impl<D: ServedDaemon> LineRunner<'_, D> {
    /// Runs a line and stores its reply. Returns the reason if no more lines can run.
    #[inline]
    fn line(
        &mut self,
        message: Message<'_>,
        (index, known): (u32, &ResolvedCommand),
        (start, end): (usize, usize),
    ) -> Option<StopReason> {
        let (guest, place) = self.guest;
        if !self.room.may_begin(guest, index) {
            return Some(StopReason::Before(start));
        }
        match self.cursor.begin(place, (start, end)) {
            Owner::Ours => {}
            Owner::Wanted => return Some(StopReason::Before(start)),
            Owner::Lost => return Some(StopReason::Seized),
        }
        self.reply.clear();
        // Not before the line has begun: the command that was counted last is the one that the host may count instead.
        self.tally.turn_to(index);
        let counts = self.tally.current();
        let (of, panics) = ((guest, index, known), counts.panics);
        let has_told = self.daemon.answer(message, of, (self.reply, counts));
        let has_panicked = counts.panics > panics;
        self.room
            .note(index, message.arguments.len(), self.reply.len());
        if has_panicked {
            return Some(StopReason::Panicked(index, end));
        }
        let is_kept = !has_told && self.cursor.done(end, self.reply);
        (!is_kept).then_some(StopReason::Behind(end))
    }
}
