//! Guests that the host has lent this process: their lines are read, run and answered here, without the host.
//!
//! Only quick commands are: at anything else (an `async` command, an unknown name, a line that is no command, half a line,
//! a reply that the guest doesn't take, an event that has to come before a reply) the guest is handed back, with what is
//! left, and the host goes on from there. What is done is kept in the [`WorkerCursor`], step by step, so that the host can go on
//! from wherever this process dies.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as Socket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dae_common_tcp::{Inbox, Line, Message};
use memchr::memchr;
use rustix::fs::{FileType, Stat};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::wire::{self, HostConnection};
use crate::connection::reply_budget::ReplyBudget;
use crate::instance::Instance;
use crate::instance::reply::answer_on_the_spot;
use crate::plugin::command_table::{CachedLookup, ResolvedCommand};
use crate::process::hand_off::{
    Counts, HandOffSlot, HandOffState, Owner, SLOTS, TAKEN_BYTES, WorkerCursor,
};
use crate::process::ipc::hand_off::{HandedBack, Terms};
use crate::process::ipc::socket::FLAGS;
use crate::threads::counters::BatchCounts;
use crate::threads::latency;

/// Where telnet begins; what it means for a connection is the host's to say.
const TELNET: u8 = 0xff;

/// What a hand-off is served with.
type HandOffService<'a> = (
    &'a Arc<Instance>,
    &'a Arc<HostConnection>,
    Option<&'a Arc<HandOffState>>,
    &'a Arc<ReplyBudget>,
);

/// See the file's head.
#[derive(Default)]
pub(super) struct HandOffs {
    /// There with the first hand-off.
    bench: Option<Arc<Mutex<GuestProcessor>>>,
    by_id: HashMap<u64, JoinHandle<()>>,
}

/// Where one guest after the other is worked on.
struct GuestProcessor {
    cursor: WorkerCursor,
    instance: Arc<Instance>,
    wire: Arc<HostConnection>,
    room: Arc<ReplyBudget>,
    inbox: Inbox,
    line_bytes_max: usize,
    reply: Vec<u8>,
}

/// A hand-off.
struct HandedOffGuest {
    place: HandOffSlot,
    guest: u64,
    line_bytes_max: usize,
    stream: TcpStream,
    /// Since it was lent.
    counts: Counts,
}

/// What is next for a guest that was worked on.
enum AfterWork {
    /// It is waited for.
    More,
    /// The host has it.
    Lost,
    HandBack(HandedBack),
}

/// How far the lines that were there were answered.
struct LinesDone {
    tally: BatchCounts,
    stop: StopReason,
}

/// Why no more of them are.
enum StopReason {
    /// There are none, but for what begins here.
    End(usize),
    /// The line that begins here isn't for this process.
    Before(usize),
    /// The last reply isn't among those that were kept, since something comes before it; the next line begins here.
    Behind(usize),
    Panicked(usize),
    Seized,
}

impl HandOffs {
    /// Takes a guest in, or says that it can't be.
    pub(super) fn hand_off(
        &mut self,
        (id, terms): (u64, &Terms),
        mut descriptors: Vec<OwnedFd>,
        (instance, wire, hand_off_state, room): HandOffService<'_>,
    ) {
        let socket = descriptors.pop().filter(|socket| is_of(socket, terms));
        let taken = socket.and_then(|socket| {
            let bench = self.bench(hand_off_state?, (instance, wire, room));
            let stream = TcpStream::from_std(Socket::from(socket)).ok()?;
            Some((bench, stream))
        });
        let slot = terms.slot as usize;
        let Some((bench, stream)) = taken.filter(|_| slot < SLOTS) else {
            return wire.hand_back(id, HandedBack::default());
        };
        let handed_off = HandedOffGuest {
            place: HandOffSlot { id, slot },
            guest: terms.guest,
            line_bytes_max: usize::try_from(terms.line_bytes_max).unwrap_or(usize::MAX),
            stream,
            counts: Counts {
                read: 0,
                written: 0,
            },
        };
        self.by_id.retain(|_, task| !task.is_finished());
        let task = tokio::spawn(handed_off.serve(bench));
        self.by_id.insert(id, task);
    }

    fn bench(
        &mut self,
        hand_off_state: &Arc<HandOffState>,
        (instance, wire, room): (&Arc<Instance>, &Arc<HostConnection>, &Arc<ReplyBudget>),
    ) -> Arc<Mutex<GuestProcessor>> {
        let bench = self.bench.get_or_insert_with(|| {
            Arc::new(Mutex::new(GuestProcessor {
                cursor: WorkerCursor::at(Arc::clone(hand_off_state)),
                instance: Arc::clone(instance),
                wire: Arc::clone(wire),
                room: Arc::clone(room),
                inbox: Inbox::resumed(0),
                line_bytes_max: 0,
                reply: Vec::new(),
            }))
        });
        Arc::clone(bench)
    }

    /// The host has it back.
    pub(super) fn reclaim(&mut self, id: u64) {
        if let Some(task) = self.by_id.remove(&id) {
            task.abort();
        }
    }

    /// Lets go of all: the daemon's instance is nobody's any more.
    pub(super) async fn end(&mut self) {
        for (_, task) in self.by_id.drain() {
            task.abort();
            // How it ended is of no account.
            let _ = task.await;
        }
        self.bench = None;
    }
}

/// Whether that is the socket which is meant.
fn is_of(socket: &OwnedFd, terms: &Terms) -> bool {
    let is_it = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::Socket && stat.st_ino == terms.inode
    };
    rustix::fs::fstat(socket).is_ok_and(|stat| is_it(&stat))
}

/// A fault of ours in the middle of a guest's work ends the process, and the host goes on from the hand-off state.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl HandedOffGuest {
    async fn serve(mut self, bench: Arc<Mutex<GuestProcessor>>) {
        let _ends_with_us = AbortOnPanic;
        loop {
            // An error is seen by who reads.
            let _ = self.stream.readable().await;
            let mut bench = Arc::clone(&bench).lock_owned().await;
            match bench.work(&mut self) {
                AfterWork::More => {}
                AfterWork::Lost => return,
                AfterWork::HandBack(back) => return self.hand_back(back, bench).await,
            }
        }
    }

    /// Nobody else is worked on before the host has it for certain: until then it lies in the desk.
    async fn hand_back(self, back: HandedBack, mut bench: OwnedMutexGuard<GuestProcessor>) {
        let wire = Arc::clone(&bench.wire);
        bench
            .room
            .add(self.guest, back.replies.len() + back.last.len());
        wire.hand_back(self.place.id, back);
        // Where it fails, the host is gone.
        let _ = wire.drain().await;
        bench.cursor.let_go();
    }

    fn read_into(&self, room: &mut [u8]) -> io::Result<usize> {
        let wanted = room.len();
        let mut short = None;
        let read = self.stream.try_io(Interest::READABLE, || {
            let flags = RecvFlags::DONTWAIT;
            let (read, _) = rustix::net::recv(self.stream.as_fd(), room, flags)?;
            if (1..wanted).contains(&read) {
                // It has left nothing, most likely; so the runtime need not have us read in vain.
                short = Some(read);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        short.map_or(read, Ok)
    }

    fn write(&self, replies: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | FLAGS.1;
        Ok(rustix::net::send(self.stream.as_fd(), replies, flags)?)
    }
}

impl GuestProcessor {
    /// Reads what a guest has sent, answers it, and writes that.
    fn work(&mut self, guest: &mut HandedOffGuest) -> AfterWork {
        if !self.cursor.take_up(guest.place, guest.counts) {
            return AfterWork::Lost;
        }
        match self.cursor.read(guest.place, |room| guest.read_into(room)) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.put_down(guest);
            }
            // Whoever reads next is told so, too.
            Ok(0) | Err(_) => return AfterWork::HandBack(HandedBack::default()),
        }
        let began = Instant::now();
        let done = self.answer(guest);
        self.settle(guest, &done, began)
    }

    /// Runs the lines that were read, as far as they are for this process.
    fn answer(&mut self, guest: &HandedOffGuest) -> LinesDone {
        self.make_room(guest);
        let mut tally = BatchCounts::default();
        let taken = self.cursor.taken();
        let all = taken.len();
        if memchr(TELNET, taken).is_some() {
            let stop = StopReason::Before(0);
            return LinesDone { tally, stop };
        }
        self.inbox.room(all).extend_from_slice(taken);
        let mut lines = self.inbox.lines();
        let mut run = LineRunner {
            cursor: &mut self.cursor,
            instance: &self.instance,
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
            let known = found.known(&self.instance.commands, message.name, |_| false);
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

    /// An inbox with nothing in it, for lines as long as this guest's may be.
    fn make_room(&mut self, guest: &HandedOffGuest) {
        if self.line_bytes_max != guest.line_bytes_max {
            self.line_bytes_max = guest.line_bytes_max;
            self.empty();
        }
    }

    /// What stands in the inbox is of a guest that is handed back.
    fn empty(&mut self) {
        self.inbox = Inbox::resumed(self.line_bytes_max.min(TAKEN_BYTES));
    }

    /// Writes what was answered, and says what is next for the guest.
    fn settle(
        &mut self,
        guest: &mut HandedOffGuest,
        done: &LinesDone,
        began: Instant,
    ) -> AfterWork {
        let (took, all) = (began.elapsed(), self.cursor.taken().len());
        let is_over = matches!(done.stop, StopReason::End(at) if at == all);
        if !is_over {
            self.empty();
        }
        let is_seized = matches!(done.stop, StopReason::Seized) || !self.cursor.finish(guest.place);
        let mut tally = done.tally;
        // A panic is its host's to count, and so is the command at which it was seized.
        tally.calls -= tally.panics + u64::from(is_seized && tally.calls > tally.panics);
        tally.errors = tally.errors.min(tally.calls + tally.panics) - tally.panics;
        tally.panics = 0;
        if tally.calls > 0 {
            // Before the guest can have the reply, and ask.
            self.cursor.count(tally, took);
        }
        if is_seized {
            self.cursor.yield_seized(guest.place);
            return AfterWork::Lost;
        }
        self.cursor.send(|replies| guest.write(replies));
        if is_over && self.cursor.unsent().is_empty() && took < latency::SLOW {
            return self.put_down(guest);
        }
        AfterWork::HandBack(self.what_is_left(done, took))
    }

    fn put_down(&mut self, guest: &mut HandedOffGuest) -> AfterWork {
        let since = self.cursor.since();
        guest.counts.read += since.read;
        guest.counts.written += since.written;
        match self.cursor.put_down(guest.place) {
            true => AfterWork::More,
            false => AfterWork::HandBack(HandedBack::default()),
        }
    }

    fn what_is_left(&mut self, done: &LinesDone, took: Duration) -> HandedBack {
        let (from, is_last, is_panic) = match done.stop {
            StopReason::End(at) | StopReason::Before(at) => (at, false, false),
            StopReason::Behind(at) => (at, true, false),
            StopReason::Panicked(at) => (at, true, true),
            StopReason::Seized => (usize::MAX, false, false),
        };
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX - 1);
        HandedBack {
            panicked_ns: is_panic.then_some(took_ns),
            replies: self.cursor.unsent().to_vec(),
            // A huge one's memory goes with it.
            last: if is_last {
                std::mem::take(&mut self.reply)
            } else {
                Vec::new()
            },
            rest: self.cursor.taken().get(from..).unwrap_or_default().to_vec(),
        }
    }
}

/// What one line after the other of a guest is run with.
struct LineRunner<'r> {
    cursor: &'r mut WorkerCursor,
    instance: &'r Instance,
    room: &'r ReplyBudget,
    /// Its id, and its hand-off.
    guest: (u64, HandOffSlot),
    reply: &'r mut Vec<u8>,
    tally: &'r mut BatchCounts,
}

impl LineRunner<'_> {
    /// Runs a line, and keeps its reply; why no more are run, if so.
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
        wire::begin_to_listen();
        let (of, panics) = ((guest, index, known), self.tally.panics);
        answer_on_the_spot(self.instance, message, of, (self.reply, self.tally));
        self.room
            .note(index, message.arguments.len(), self.reply.len());
        if self.tally.panics > panics {
            return Some(StopReason::Panicked(end));
        }
        let is_kept = !wire::has_told() && self.cursor.done(end, self.reply);
        (!is_kept).then_some(StopReason::Behind(end))
    }
}
