//! Guests that the host has lent this process: their lines are read, run and answered here, without the host.
//!
//! Only quick commands are: at anything else (an `async` command, an unknown name, a line that is no command, half a line,
//! a reply that the guest doesn't take, an event that has to come before a reply) the guest is handed back, with what is
//! left, and the host goes on from there. What is done is kept in the [`Desk`], step by step, so that the host can go on
//! from wherever this process dies.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as Socket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dae_common_tcp::{Inbox, Line, Message};
use memchr::memchr;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use super::wire::Wire;
use crate::commands::{Found, Known};
use crate::frame::Kind;
use crate::frame::loan::{HandedBack, Lent};
use crate::instance::Instance;
use crate::ledger::{Counts, Desk, TAKEN_BYTES, Whose};
use crate::pace;
use crate::reply::answer_on_the_spot;
use crate::stats::Tally;

/// Where telnet begins; what it means for a connection is the host's to say.
const TELNET: u8 = 0xff;

/// See the file's head.
#[derive(Default)]
pub(super) struct Loans {
    /// There with the first loan.
    bench: Option<Arc<Mutex<Bench>>>,
    by_id: HashMap<u64, JoinHandle<()>>,
}

/// Where one guest after the other is worked on.
struct Bench {
    desk: Desk,
    instance: Arc<Instance>,
    wire: Arc<Wire>,
    inbox: Inbox,
    line_bytes_max: usize,
    reply: Vec<u8>,
}

/// A loan.
struct Borrowed {
    id: u64,
    slot: usize,
    guest: u64,
    line_bytes_max: usize,
    stream: TcpStream,
    /// Since it was lent.
    counts: Counts,
}

/// What is next for a guest that was worked on.
enum Next {
    /// It is waited for.
    More,
    /// The host has it.
    Lost,
    HandBack(HandedBack),
}

/// How far the lines that were there were answered.
struct Done {
    tally: Tally,
    stop: Stop,
}

/// Why no more of them are.
enum Stop {
    /// There are none, but for what begins here.
    End(usize),
    /// The line that begins here isn't for this process.
    Before(usize),
    /// The last reply isn't among those that were kept, since something comes before it; the next line begins here.
    Behind(usize),
    Panicked(usize),
    Seized,
}

impl Loans {
    /// Takes a guest in, or says that it can't be.
    pub(super) fn lend(
        &mut self,
        (id, lent): (u64, &Lent),
        mut descriptors: Vec<OwnedFd>,
        (instance, wire): (&Arc<Instance>, &Arc<Wire>),
    ) {
        let socket = descriptors.pop();
        let ledger = descriptors.pop();
        let taken = socket.and_then(|socket| {
            let bench = self.bench(ledger, (instance, wire))?;
            let stream = TcpStream::from_std(Socket::from(socket)).ok()?;
            Some((bench, stream))
        });
        let Some((bench, stream)) = taken else {
            return hand_back(wire, id, &HandedBack::default());
        };
        let borrowed = Borrowed {
            id,
            slot: lent.slot as usize,
            guest: lent.guest,
            line_bytes_max: usize::try_from(lent.line_bytes_max).unwrap_or(usize::MAX),
            stream,
            counts: Counts {
                read: 0,
                written: 0,
            },
        };
        self.by_id.retain(|_, task| !task.is_finished());
        let task = tokio::spawn(borrowed.serve(bench));
        self.by_id.insert(id, task);
    }

    fn bench(
        &mut self,
        ledger: Option<OwnedFd>,
        (instance, wire): (&Arc<Instance>, &Arc<Wire>),
    ) -> Option<Arc<Mutex<Bench>>> {
        if let Some(ledger) = ledger {
            let bench = Bench {
                desk: Desk::open(ledger).ok()?,
                instance: Arc::clone(instance),
                wire: Arc::clone(wire),
                inbox: Inbox::new(0),
                line_bytes_max: 0,
                reply: Vec::new(),
            };
            self.bench = Some(Arc::new(Mutex::new(bench)));
        }
        self.bench.clone()
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

fn hand_back(wire: &Wire, id: u64, back: &HandedBack) {
    let parts = [&back.head()[..], &back.replies, &back.last, &back.rest];
    wire.send_now(Kind::HandBack, id, &parts);
}

impl Borrowed {
    async fn serve(mut self, bench: Arc<Mutex<Bench>>) {
        loop {
            // An error is seen by who reads.
            let _ = self.stream.readable().await;
            let mut bench = Arc::clone(&bench).lock_owned().await;
            match bench.work(&mut self) {
                Next::More => {}
                Next::Lost => return,
                Next::HandBack(back) => return self.hand_back(&back, bench).await,
            }
        }
    }

    /// Nobody else is worked on before the host has it for certain: until then it lies in the desk.
    async fn hand_back(self, back: &HandedBack, mut bench: OwnedMutexGuard<Bench>) {
        let wire = Arc::clone(&bench.wire);
        hand_back(&wire, self.id, back);
        // Where it fails, the host is gone.
        let _ = wire.drain().await;
        bench.desk.let_go();
    }

    fn read_into(&self, room: &mut [u8]) -> io::Result<usize> {
        let wanted = room.len();
        let mut short = None;
        let read = self.stream.try_io(Interest::READABLE, || {
            let flags = RecvFlags::DONTWAIT;
            let (read, _) = rustix::net::recv(self.stream.as_fd(), room, flags)?;
            if (1..wanted).contains(&read) {
                // It has left nothing; so the runtime need not have us read in vain.
                short = Some(read);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        });
        short.map_or(read, Ok)
    }

    fn write(&self, replies: &[u8]) -> io::Result<usize> {
        // A guest that has gone is an error here: Rust's programs ignore the signal.
        let flags = SendFlags::DONTWAIT;
        Ok(rustix::net::send(self.stream.as_fd(), replies, flags)?)
    }
}

impl Bench {
    /// Reads what a guest has sent, answers it, and writes that.
    fn work(&mut self, guest: &mut Borrowed) -> Next {
        if !self.desk.take_up((guest.id, guest.slot), guest.counts) {
            return Next::Lost;
        }
        match self.desk.read(|room| guest.read_into(room)) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.put_down(guest);
            }
            // Whoever reads next is told so, too.
            Ok(0) | Err(_) => return Next::HandBack(HandedBack::default()),
        }
        let began = Instant::now();
        let done = self.answer(guest);
        self.settle(guest, &done, began)
    }

    /// Runs the lines that were read, as far as they are for this process.
    fn answer(&mut self, guest: &Borrowed) -> Done {
        self.make_room(guest);
        let mut tally = Tally::default();
        let taken = self.desk.taken();
        let all = taken.len();
        if memchr(TELNET, taken).is_some() {
            let stop = Stop::Before(0);
            return Done { tally, stop };
        }
        self.inbox.room(all).extend_from_slice(taken);
        let mut lines = self.inbox.lines();
        let mut run = Run {
            desk: &mut self.desk,
            instance: &self.instance,
            wire: &self.wire,
            guest: (guest.guest, guest.slot),
            reply: &mut self.reply,
            tally: &mut tally,
        };
        let (mut start, mut found) = (0, Found::default());
        let stop = loop {
            let line = lines.next();
            let end = all - lines.left();
            let message = match line {
                None => break Stop::End(start.max(end)),
                Some(Line::Message(message)) => message,
                Some(_) => break Stop::Before(start),
            };
            let known = found.known(&self.instance.commands, message.name);
            let Some(command) = known.and_then(Known::here) else {
                break Stop::Before(start);
            };
            if let Some(stop) = run.line(message, command, (start, end)) {
                break stop;
            }
            start = end;
        };
        Done { tally, stop }
    }

    /// An inbox with nothing in it, for lines as long as this guest's may be.
    fn make_room(&mut self, guest: &Borrowed) {
        // What stands in it is of a guest that was handed back.
        if self.inbox.is_mid_line() || self.line_bytes_max != guest.line_bytes_max {
            self.line_bytes_max = guest.line_bytes_max;
            self.inbox = Inbox::new(self.line_bytes_max.min(TAKEN_BYTES));
        }
    }

    /// Writes what was answered, and says what is next for the guest.
    fn settle(&mut self, guest: &mut Borrowed, done: &Done, began: Instant) -> Next {
        let took = began.elapsed();
        let mut tally = done.tally;
        // Its host counts those.
        tally.calls -= tally.panics;
        tally.errors -= tally.panics;
        tally.panics = 0;
        if tally.calls > 0 {
            // Before the guest can have the reply, and ask.
            self.desk.count(tally, took);
        }
        let is_seized = matches!(done.stop, Stop::Seized);
        if is_seized || !self.desk.send(guest.slot, |replies| guest.write(replies)) {
            self.desk.yield_seized(guest.slot);
            return Next::Lost;
        }
        let all = self.desk.taken().len();
        let is_over = matches!(done.stop, Stop::End(at) if at == all);
        if is_over && self.desk.unsent().is_empty() && took < pace::SLOW {
            return self.put_down(guest);
        }
        Next::HandBack(self.what_is_left(done, took))
    }

    fn put_down(&mut self, guest: &mut Borrowed) -> Next {
        let since = self.desk.since();
        guest.counts.read += since.read;
        guest.counts.written += since.written;
        match self.desk.put_down(guest.slot) {
            true => Next::More,
            false => Next::HandBack(HandedBack::default()),
        }
    }

    fn what_is_left(&self, done: &Done, took: Duration) -> HandedBack {
        let (from, is_last, is_panic) = match done.stop {
            Stop::End(at) | Stop::Before(at) => (at, false, false),
            Stop::Behind(at) => (at, true, false),
            Stop::Panicked(at) => (at, true, true),
            Stop::Seized => (usize::MAX, false, false),
        };
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX - 1);
        HandedBack {
            panicked_ns: is_panic.then_some(took_ns),
            replies: self.desk.unsent().to_vec(),
            last: if is_last {
                self.reply.clone()
            } else {
                Vec::new()
            },
            rest: self.desk.taken().get(from..).unwrap_or_default().to_vec(),
        }
    }
}

/// What one line after the other of a guest is run with.
struct Run<'r> {
    desk: &'r mut Desk,
    instance: &'r Instance,
    wire: &'r Wire,
    /// Its id, and its loan's slot.
    guest: (u64, usize),
    reply: &'r mut Vec<u8>,
    tally: &'r mut Tally,
}

impl Run<'_> {
    /// Runs a line, and keeps its reply; why no more are run, if so.
    #[inline]
    fn line(
        &mut self,
        message: Message<'_>,
        (index, known): (u32, &Known),
        (start, end): (usize, usize),
    ) -> Option<Stop> {
        let (guest, slot) = self.guest;
        match self.desk.begin(slot, (start, end)) {
            Whose::Ours => {}
            Whose::Wanted => return Some(Stop::Before(start)),
            Whose::Lost => return Some(Stop::Seized),
        }
        self.reply.clear();
        self.wire.begin_watch(guest);
        let (of, panics) = ((guest, index, known), self.tally.panics);
        answer_on_the_spot(self.instance, message, of, (self.reply, self.tally));
        if self.tally.panics > panics {
            return Some(Stop::Panicked(end));
        }
        let is_kept = !self.wire.has_emitted() && self.desk.done(end, self.reply);
        (!is_kept).then_some(Stop::Behind(end))
    }
}
