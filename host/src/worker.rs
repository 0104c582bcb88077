//! The worker: this executable once more, as the process of one daemon.
//!
//! It is told over its standard input, a socket, which plugin to load, and answers there; the daemon itself finds an empty
//! standard input, and its standard output and error are pipes that the host drains into its log. One thread runs the
//! daemon, so that a daemon in a subprocess costs little; another waits for the host's end (`warden`). The worker ends when
//! told to, when the socket ends, and when the host does, with all that its daemon has started.
//!
//! Errors are sent to the host as far as there is one; a worker that finds none ends with code 70, and one that has lost it
//! kills its process group, itself included.

mod backlog;
mod incoming;
mod known;
mod loans;
mod shed;
mod warden;
mod wire;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::process::{Resource, Rlimit};
use serde_json::value::RawValue;
use tokio::net::UnixStream;

use crate::commands::{Commands, Entry, Runs};
use crate::descriptors;
use crate::dylib::Image;
use crate::frame::batch::HEAD_BYTES as ENTRY_HEAD_BYTES;
use crate::frame::loan::Terms;
use crate::frame::{
    self, ARGUMENT, Frame, FrameInbox, Kind, LARGE_BYTES, StartMessage, TrialMessage,
};
use crate::identity::Identity;
use crate::instance::{self, Instance, Pending, StartPlan};
use crate::ledger::{Ledger, monotonic_ns};
use crate::manifest::Manifest;
use crate::outcome::Call;
use crate::outcome::Ended;
use crate::report::Mode;
use crate::room::{GUEST_BYTES_MAX, Reservation, Room};
use crate::services::Resident;
use crate::signals;
use crate::spans;
use backlog::{Backlog, Job, Next, What};
use incoming::Incoming;
use loans::Loans;
use shed::Shed;
use wire::Wire;

/// What the host sees when a worker has lost it (sysexits' EX_SOFTWARE).
const CODE_LOST: u8 = 70;
/// Guests that are lent are served so many times before the host's word is looked for: each may have a buffer full of
/// commands, and the host waits for an answer to its ping.
const EVENT_INTERVAL: u32 = 16;
/// How long replies of a batch may wait for those behind them. A batch of usual commands is over long before; of slow ones
/// each guest gets what is done, and a crash takes no more with it.
const REPLIES_HELD_MAX: Duration = Duration::from_millis(1);
/// How long commands that were handed over run before the event loop has its turn.
const WORK_MAX: Duration = Duration::from_millis(2);
/// What a job's replies are added up to before the room hears of them (bytes).
const MADE_BYTES_MAX: usize = 64 << 10;
/// What a batch's spare buffer keeps (bytes): a reply of usual size fits.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Becomes a worker, if this process was started as one; else returns `None` at once.
///
/// A program that embeds [`crate::Dae`] and runs daemons in subprocesses calls this first thing in its `main`, since its
/// own executable is the worker's.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = dae_host::worker::become_worker() {
///         return code;
///     }
///     // the program's own work
///     std::process::ExitCode::SUCCESS
/// }
/// ```
#[must_use]
pub fn become_worker() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref().and_then(OsStr::to_str) != Some(ARGUMENT) {
        frame::WORKERS_POSSIBLE.store(true, Ordering::Relaxed);
        return None;
    }
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let (host_pid, files_max) = (number().unwrap_or(0), number());
    Some(match work(host_pid, files_max) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "this worker has no host: {error}");
            ExitCode::from(CODE_LOST)
        }
    })
}

fn work(host_pid: u32, files_max: Option<u32>) -> io::Result<()> {
    signals::start_clean();
    if let Some(files_max) = files_max {
        descriptors::allow(files_max.into());
    }
    warden::end_with(host_pid)?;
    let socket = take_socket()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let result = runtime.block_on(async {
        let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
        Worker::new(Wire::new(stream)).run().await
    });
    if let Err(error) = &result {
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "the worker has lost its host: {error}");
        warden::end_group();
    }
    // Threads that the daemon blocks are not waited for: the process ends with them.
    runtime.shutdown_background();
    result
}

/// Takes the socket from standard input, and leaves nothing there for the daemon to read or to spoil.
fn take_socket() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// The worker's life: start, serve, end.
struct Worker {
    wire: Arc<Wire>,
    incoming: Incoming,
    inbox: FrameInbox,
    loans: Loans,
    /// What is shared with the host; none where the host has none.
    ledger: Option<Arc<Ledger>>,
    /// What was begun last, as the ledger has it.
    front: u64,
    running: FuturesUnordered<Running>,
    calls: HashMap<u64, tokio::sync::oneshot::Sender<()>>,
    backlog: Backlog,
    /// What waits for guests, here and at the host.
    room: Arc<Room>,
    /// Whether the host was told that this side waits to hear what guests have read.
    wants: bool,
    /// Where one reply of a batch after the other is made.
    spare: Vec<u8>,
    shed: Shed,
}

/// How far a job was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ran {
    Whole,
    /// As far as there was time.
    Part,
    /// As far as there was room.
    NoRoom,
}

/// How long this has been at work since the event loop had its turn.
struct Clock {
    began: Instant,
    flushed: Instant,
    now: Instant,
}

impl Clock {
    fn now() -> Self {
        let now = Instant::now();
        Clock {
            began: now,
            flushed: now,
            now,
        }
    }

    /// A command has ended; whether replies have been held back for long enough.
    fn tick(&mut self) -> bool {
        self.now = Instant::now();
        let is_due = self.now - self.flushed > REPLIES_HELD_MAX;
        if is_due {
            self.flushed = self.now;
        }
        is_due
    }

    fn is_over(&self) -> bool {
        self.now - self.began > WORK_MAX
    }
}

/// A daemon that serves.
struct Served {
    instance: Arc<Instance>,
    runs: Vec<Runs>,
}

/// A command under way; cancelled when its sender is dropped.
struct Running {
    id: u64,
    guest: u64,
    command: u32,
    room: Arc<Room>,
    pending: Option<Pending>,
    /// Held until its reply is counted.
    _reservation: Option<Arc<Reservation>>,
    ledger: Option<Arc<Ledger>>,
    cancelled: tokio::sync::oneshot::Receiver<()>,
}

impl Running {
    fn of(&self) -> (u64, u64, u32) {
        (self.id, self.guest, self.command)
    }

    /// Whether it may go on; its task is woken when there is more room.
    fn has_room(&self, context: &Context<'_>) -> bool {
        if let Some(Pending::Blocking(_)) = &self.pending {
            // Its thread has made the reply, which is counted once it is taken from there.
            return true;
        }
        self.room.want(context);
        self.guest == 0
            || self.room.may_go_on(self.guest, self.command)
            || self.room.take_freed(self.id)
    }
}

impl Future for Running {
    type Output = ((u64, u64, u32), Option<Ended>);

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
        if let Some(ledger) = &this.ledger {
            // A poll that doesn't return holds this thread as a handler does.
            ledger.run(this.id, 0, monotonic_ns());
        }
        let polled = this
            .pending
            .as_mut()
            .map(|pending| std::pin::Pin::new(pending).poll(context));
        if let Some(ledger) = &this.ledger {
            ledger.rest();
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
    fn new(wire: Arc<Wire>) -> Self {
        Worker {
            wire,
            incoming: Incoming::new(),
            inbox: FrameInbox::default(),
            loans: Loans::default(),
            ledger: None,
            front: 0,
            running: FuturesUnordered::new(),
            calls: HashMap::new(),
            backlog: Backlog::default(),
            room: Arc::default(),
            wants: false,
            spare: Vec::new(),
            shed: Shed::default(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let message: StartMessage = serde_json::from_slice(&self.payload_of(Kind::Load).await?)?;
        // The first frame came with it.
        let ledger = self.incoming.descriptors().pop();
        self.ledger = ledger.and_then(|file| Ledger::open(&file).ok());
        let mut shed = Shed::of_program();
        let image = match load(&message) {
            Ok(image) => image,
            Err(text) => return self.refuse(&text).await,
        };
        shed.and_of(&message.file);
        self.wire.send(Kind::Loaded, 0, &[]);
        self.wire.drain().await?;
        // Only now do guests wait, if there are any.
        let state = match self.payload_of(Kind::Start).await? {
            none if none.is_empty() => None,
            state => Some(serde_json::from_slice(&state)?),
        };
        if let Some(trial) = message.trial {
            return self.run_trial(trial, (image, message, state)).await;
        }
        let wire = Arc::clone(&self.wire);
        let starting = start(image, message, state, &wire);
        match self.while_hearing(starting).await? {
            Ok(served) => {
                self.wire.send(Kind::Started, 0, &[]);
                self.shed = shed;
                self.serve(served).await
            }
            Err(text) => self.refuse(&text).await,
        }
    }

    /// Has the state read, and, if asked for, a daemon started and stopped. What crashes or hangs here does so in this
    /// process.
    async fn run_trial(
        &mut self,
        trial: TrialMessage,
        (image, message, state): (Image, StartMessage, Option<Box<RawValue>>),
    ) -> io::Result<()> {
        let mut tried = match &state {
            Some(state) => image.check_state(state.get()),
            None => Ok(()),
        };
        if tried.is_ok() && trial.starts {
            let grace = spans::ms(trial.stop_ms);
            let wire = Arc::clone(&self.wire);
            let starting_and_stopping = async {
                let served = start(image, message, state, &wire).await?;
                let ended = served.instance.end(grace).await;
                ended.map_err(|faults| faults.join("; "))
            };
            tried = self.while_hearing(starting_and_stopping).await?;
        }
        match tried {
            Ok(()) => self.wire.send(Kind::Started, 0, &[]),
            Err(text) => self.wire.send(Kind::Refused, 0, &[text.as_bytes()]),
        }
        self.wire.drain().await
    }

    async fn refuse(&self, text: &str) -> io::Result<()> {
        self.wire.send(Kind::Refused, 0, &[text.as_bytes()]);
        self.wire.drain().await
    }

    /// Waits for the next frame of that kind; before the daemon serves, no others mean anything.
    async fn payload_of(&mut self, kind: Kind) -> io::Result<Vec<u8>> {
        loop {
            while let Some(frame) = self.inbox.next().map_err(fault)? {
                if frame.kind == kind {
                    return Ok(frame.payload.to_vec());
                }
            }
            self.incoming.read(&self.wire, &mut self.inbox).await?;
        }
    }

    /// Waits for something of the daemon's, which may ask things of the host meanwhile.
    async fn while_hearing<T>(&mut self, work: impl Future<Output = T>) -> io::Result<T> {
        let wire = Arc::clone(&self.wire);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                read = self.incoming.read(&wire, &mut self.inbox) => read?,
                flushed = wire.flushed() => flushed?,
            }
            while let Some(frame) = self.inbox.next().map_err(fault)? {
                match frame.kind {
                    Kind::Answered => wire.on_answer(frame.id, frame.payload),
                    Kind::GuestGone => wire.guest_gone(frame.id),
                    Kind::Visit => wire.visit(frame.id, frame.payload),
                    // Before its start is over nothing else is sent, and after its end nobody is there for it.
                    _ => {}
                }
            }
        }
    }

    async fn serve(mut self, served: Served) -> io::Result<()> {
        let wire = Arc::clone(&self.wire);
        let run = served.instance.run();
        let told = Arc::clone(&wire);
        let room = Arc::clone(&self.room);
        tokio::spawn(async move {
            let _ends_with_us = loans::EndsWithUs;
            let end = serde_json::to_vec(&run.await).unwrap_or_default();
            told.send(Kind::RunEnd, 0, &[&end]);
        });
        loop {
            tokio::select! {
                // The host's word first, then what has ended since.
                biased;
                read = self.incoming.read(&wire, &mut self.inbox) => read?,
                Some((of, ended)) = self.running.next(), if !self.running.is_empty() => self.on_ended(of, ended),
                flushed = wire.flushed() => flushed?,
                () = room.released(), if self.backlog.has_aside() => {}
                // Once round the event loop, and what waits goes on.
                () = tokio::task::yield_now(), if !self.backlog.is_empty() => {}
            }
            if let Some(grace) = self.take_frames(&served)? {
                return self.end(served, grace).await;
            }
            self.work(&served);
            wire.flush_now();
        }
    }

    /// Handles what has come; the grace, if the end is asked for.
    fn take_frames(&mut self, served: &Served) -> io::Result<Option<Duration>> {
        loop {
            // The frame borrows from the inbox, and what it starts belongs to the rest of `self`.
            let mut inbox = std::mem::take(&mut self.inbox);
            let stop = match inbox.next().map_err(fault)? {
                None => {
                    self.inbox = inbox;
                    return Ok(None);
                }
                Some(frame) => self.take(&frame, served),
            };
            self.inbox = inbox;
            if stop.is_some() {
                return Ok(stop);
            }
        }
    }

    fn take(&mut self, frame: &Frame<'_>, served: &Served) -> Option<Duration> {
        match frame.kind {
            Kind::Batch | Kind::Call => self.hand_over(frame),
            Kind::Lend => self.lend(frame, served),
            Kind::Reclaim => self.loans.reclaim(frame.id),
            Kind::Save => self.save(frame.id, served),
            Kind::Cancel => self.cancel(frame.id),
            Kind::Read => self.room.take(frame.id, bytes_of(frame.payload)),
            Kind::GoOn => self.room.free(frame.id),
            Kind::DropAside => self.drop_aside(frame.id),
            Kind::Ping => self.pong(frame.id),
            Kind::Answered => self.wire.on_answer(frame.id, frame.payload),
            Kind::Visit => self.wire.visit(frame.id, frame.payload),
            Kind::GuestCame => self.guest_came(frame, served),
            Kind::GuestGone => self.guest_gone(frame),
            Kind::Stop => return Some(spans::ms(frame::split_u64(frame.payload).0)),
            // The host sends no others.
            _ => {}
        }
        None
    }

    /// Runs what was handed over, one command after the other, for a moment.
    fn work(&mut self, served: &Served) {
        let mut clock = Clock::now();
        self.work_aside(served, &mut clock);
        while !clock.is_over()
            && let Some(mut job) = self.backlog.pop()
        {
            let is_held_up = self.backlog.is_aside(job.guest);
            let ran = match is_held_up {
                true => Ran::NoRoom,
                false => self.run_job(&mut job, served, &mut clock),
            };
            match ran {
                Ran::Whole => self.backlog.give_back(job),
                Ran::Part => self.backlog.put_back(job),
                Ran::NoRoom => self.set_aside(job),
            }
        }
        self.spare.clear();
        self.spare.shrink_to(SPARE_BYTES_MAX);
        self.tell_want();
    }

    /// Goes on with what was set aside, as far as there is room now.
    fn work_aside(&mut self, served: &Served, clock: &mut Clock) {
        if !self.backlog.has_aside() {
            return;
        }
        let mut held_up = HashSet::new();
        for mut job in self.backlog.take_aside() {
            let may_run = !clock.is_over() && !held_up.contains(&job.guest);
            if may_run && self.run_job(&mut job, served, clock) == Ran::Whole {
                self.backlog.give_back(job);
            } else {
                held_up.insert(job.guest);
                self.backlog.set_aside(job);
            }
        }
    }

    /// Sets a job aside, and says so: what the ledger shows of the order of numbers doesn't hold for it.
    fn set_aside(&mut self, job: Job) {
        let place = u32::try_from(job.place).unwrap_or(u32::MAX);
        self.wire
            .send_now(Kind::SetAside, job.id, &[&place.to_le_bytes()]);
        self.backlog.set_aside(job);
    }

    /// Tells the host whether this side waits to hear what guests have read.
    fn tell_want(&mut self) {
        let wants = self.room.is_tight() || self.backlog.has_aside();
        if std::mem::replace(&mut self.wants, wants) != wants {
            self.wire.send_now(Kind::Want, 0, &[&[u8::from(wants)]]);
        }
    }

    /// Runs a job as far as there are time and room.
    fn run_job(&mut self, job: &mut Job, served: &Served, clock: &mut Clock) -> Ran {
        let mut ran = Ran::Whole;
        while let Some(next) = job.next() {
            let Some(reservation) = self.reserve(job, next, served) else {
                ran = Ran::NoRoom;
                break;
            };
            let arguments = next.arguments.len();
            let call = call_of(next.index, job.guest, next.arguments);
            let of = (job.id, job.place, job.is_aside);
            let made = match job.what {
                What::Call => self.call(of, call, (served, reservation)),
                What::Batch | What::Goodbye => self.answer_of_batch(of, call, served),
            };
            // The host has withdrawn it, and all behind it.
            let Some(made) = made else { break };
            // What ends later is told then.
            if made > 0 {
                self.room.note(next.index, arguments, made);
            }
            job.made += made;
            job.advance();
            if job.made >= MADE_BYTES_MAX {
                self.room.add(job.guest, std::mem::take(&mut job.made));
            }
            if clock.tick() {
                self.wire.flush_now();
            }
            if clock.is_over() && job.next().is_some() {
                ran = Ran::Part;
                break;
            }
        }
        self.rest();
        self.room.add(job.guest, std::mem::take(&mut job.made));
        if ran == Ran::Whole && job.what == What::Goodbye {
            served.instance.guest_gone(job.guest, &());
        }
        ran
    }

    /// What a command needs to begin, where there is room for its reply. A thread that blocks makes that out of our sight.
    fn reserve(
        &self,
        job: &Job,
        next: Next<'_>,
        served: &Served,
    ) -> Option<Option<Arc<Reservation>>> {
        let runs = served.runs.get(next.index as usize);
        let reservation = match runs {
            Some(Runs::Blocking) => self.room.reserve(next.index).ok()?,
            _ => None,
        };
        let has_room = job.made < GUEST_BYTES_MAX && self.room.may_begin(job.guest, next.index);
        let may_run = has_room || (job.is_aside && self.room.take_freed(job.id));
        may_run.then_some(reservation)
    }

    /// Runs a command of a batch, which holds this thread until it is over; how many bytes it gave. `None` where the host
    /// has withdrawn it.
    fn answer_of_batch(
        &mut self,
        of: (u64, usize, bool),
        call: Call<'_>,
        served: &Served,
    ) -> Option<usize> {
        if !self.begin(of, true) {
            return None;
        }
        if !served.instance.is_quick(call.index) {
            // What is done must not wait for a command that may hold this thread.
            self.wire.flush_now();
        }
        // Room for what stands before an entry, so that a large one needn't be moved.
        self.spare.clear();
        self.spare.extend_from_slice(&[0; ENTRY_HEAD_BYTES]);
        // Not straight into the queue: the daemon's code may log, which takes the queue's lock.
        let status = served.instance.answer_here(call, &mut self.spare);
        let made = self.spare.len() - ENTRY_HEAD_BYTES;
        match made >= LARGE_BYTES {
            true => self
                .wire
                .send_large_reply(of.0, status, std::mem::take(&mut self.spare)),
            false => self
                .wire
                .send_reply(of.0, status, &self.spare[ENTRY_HEAD_BYTES..]),
        }
        Some(made)
    }

    /// Begins a command of a batch, or a call; false where the host has withdrawn it. With `holds`, this thread runs it.
    fn begin(&mut self, (id, place, is_aside): (u64, usize, bool), holds: bool) -> bool {
        let Some(ledger) = &self.ledger else {
            return true;
        };
        let has_begun = is_aside || ledger.begin(&mut self.front, id, place);
        if has_begun && holds {
            ledger.run(id, place, monotonic_ns());
        }
        has_begun
    }

    /// The command that this thread ran has ended.
    fn rest(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.rest();
        }
    }

    fn lend(&mut self, frame: &Frame<'_>, served: &Served) {
        let terms = Terms::read(frame.payload);
        self.wire.guest_came(terms.guest);
        let loan = (frame.id, &terms);
        let descriptors = self.incoming.descriptors();
        let ledger = self.ledger.as_ref();
        let of = (&served.instance, &self.wire, ledger, &self.room);
        self.loans.lend(loan, descriptors, of);
    }

    fn call(
        &mut self,
        of: (u64, usize, bool),
        call: Call<'_>,
        (served, reservation): (&Served, Option<Arc<Reservation>>),
    ) -> Option<usize> {
        let runs = served.runs.get(call.index as usize).copied();
        let runs = runs.unwrap_or(Runs::Here);
        let (id, _, is_aside) = of;
        if !self.begin(of, runs == Runs::Here) {
            return None;
        }
        if is_aside {
            self.wire.send(Kind::Resumed, id, &[]);
        }
        if runs != Runs::Here {
            let pending = served
                .instance
                .answer_later(runs, call, reservation.as_ref());
            self.run_one((id, call.guest, call.index), pending, reservation);
            return Some(0);
        }
        if !served.instance.is_quick(call.index) {
            self.wire.flush_now();
        }
        let mut bytes = Vec::new();
        let status = served.instance.answer_here(call, &mut bytes);
        let made = bytes.len();
        self.wire.send_ended((id, call.guest), status, bytes);
        Some(made)
    }

    /// Takes what was handed over.
    fn hand_over(&mut self, frame: &Frame<'_>) {
        let guest = self.backlog.push(frame);
        self.wire.guest_came(guest);
    }

    /// Nothing that was set aside begins any more.
    fn drop_aside(&mut self, last: u64) {
        for (id, place) in self.backlog.drop_aside(last) {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            self.wire
                .send_now(Kind::Dropped, id, &[&place.to_le_bytes()]);
        }
    }

    fn pong(&mut self, id: u64) {
        self.wire.send(Kind::Pong, id, &[]);
        self.wire.flush_now();
        // Between two pings it was seen whether the daemon rests, without a timer of its own.
        self.shed.look();
    }

    fn save(&mut self, id: u64, served: &Served) {
        self.run_one((id, 0, u32::MAX), served.instance.start_save(), None);
    }

    fn guest_came(&mut self, frame: &Frame<'_>, served: &Served) {
        let (guest, _) = frame::split_u64(frame.payload);
        self.wire.guest_came(guest);
        let pending = served.instance.guest_came(guest);
        self.run_one((frame.id, 0, u32::MAX), pending, None);
    }

    fn guest_gone(&mut self, frame: &Frame<'_>) {
        self.wire.guest_gone(frame.id);
        self.backlog.push(frame);
    }

    /// Nobody waits for a call any more: one that hasn't begun never does.
    fn cancel(&mut self, id: u64) {
        self.backlog.cancel(id);
        self.calls.remove(&id);
    }

    /// Starts what ends later: a call of that guest, by its number and the command's index. Guest 0 is the host itself.
    fn run_one(
        &mut self,
        (id, guest, command): (u64, u64, u32),
        pending: Pending,
        reservation: Option<Arc<Reservation>>,
    ) {
        let (sender, cancelled) = tokio::sync::oneshot::channel();
        self.calls.insert(id, sender);
        self.running.push(Running {
            id,
            guest,
            command,
            room: Arc::clone(&self.room),
            pending: Some(pending),
            _reservation: reservation,
            ledger: self.ledger.clone(),
            cancelled,
        });
    }

    fn on_ended(&mut self, (id, guest, command): (u64, u64, u32), ended: Option<Ended>) {
        self.calls.remove(&id);
        if let Some(Ended { status, bytes }) = ended {
            self.room.note(command, 0, bytes.len());
            self.room.add(guest, bytes.len());
            self.wire.send_ended((id, guest), status, bytes);
        }
    }

    async fn end(mut self, served: Served, grace: Duration) -> io::Result<()> {
        self.loans.end().await;
        self.calls.clear();
        drop(std::mem::take(&mut self.running));
        let ended = self.while_hearing(served.instance.end(grace)).await?;
        let faults = ended.err().unwrap_or_default();
        self.wire
            .send(Kind::Stopped, 0, &[faults.join("\n").as_bytes()]);
        self.wire.drain().await
    }
}

/// A number of bytes.
fn bytes_of(payload: &[u8]) -> usize {
    usize::try_from(frame::split_u64(payload).0).unwrap_or(usize::MAX)
}

fn call_of(index: u32, guest: u64, arguments: &[u8]) -> Call<'_> {
    Call {
        index,
        guest,
        // It was UTF-8 when the host read it from the guest.
        arguments: std::str::from_utf8(arguments).unwrap_or_default(),
    }
}

fn load(message: &StartMessage) -> Result<Image, String> {
    bound(message)?;
    Image::open(&message.file).map_err(|fault| fault.to_string())
}

async fn start(
    image: Image,
    message: StartMessage,
    state: Option<Box<RawValue>>,
    wire: &Arc<Wire>,
) -> Result<Served, String> {
    let runs = where_each_runs(&message.manifest);
    let identity = Arc::new(Identity {
        name: message.name,
        plugin: message.manifest.name.clone(),
        version: message.manifest.version.clone(),
        mode: Mode::Subprocess,
        pid: std::process::id(),
        port: message.port,
        generation: message.generation,
        attempt: 0,
        since: std::time::Instant::now(),
    });
    let plan = StartPlan {
        image,
        commands: Arc::new(Commands::of(&message.manifest)),
        manifest: Arc::new(message.manifest),
        resident: Resident {
            identity,
            config: message.config,
            outlet: Arc::clone(wire) as _,
        },
        runtime: tokio::runtime::Handle::current(),
        state,
        limit: spans::ms(message.start_ms),
    };
    let instance = instance::start(plan)
        .await
        .map_err(|fault| fault.to_string())?;
    Ok(Served {
        instance: Arc::new(instance),
        runs,
    })
}

/// By index, as the host names commands.
fn where_each_runs(manifest: &Manifest) -> Vec<Runs> {
    let table = Commands::of(manifest);
    let runs = |name: &str| match table.find(name) {
        Some(Entry::Own { runs, .. }) => runs,
        _ => Runs::Here,
    };
    manifest
        .commands
        .iter()
        .map(|command| runs(&command.name))
        .collect()
}

/// Takes the bounds on, before anything of the plugin is there.
fn bound(message: &StartMessage) -> Result<(), String> {
    let bounds = &message.bounds;
    for (resource, value, name) in [
        (Resource::As, bounds.memory_bytes, "memory_bytes"),
        (Resource::Cpu, bounds.cpu_s, "cpu_s"),
        (Resource::Nofile, bounds.files_max, "files_max"),
        (Resource::Core, bounds.core_bytes, "core_bytes"),
    ] {
        if let Some(value) = value {
            let limit = Rlimit {
                current: Some(value),
                // At the soft bound of CPU time the signal says what it is about; at the hard one it is a plain SIGKILL.
                maximum: Some(value.saturating_add(u64::from(resource == Resource::Cpu))),
            };
            rustix::process::setrlimit(resource, limit)
                .map_err(|error| format!("its bound {name} = {value}: {error}"))?;
        }
    }
    if let Some(nice) = message.nice {
        rustix::process::setpriority_process(None, nice)
            .map_err(|error| format!("its nice = {nice}: {error}"))?;
    }
    Ok(())
}

fn fault(fault: frame::FrameFault) -> io::Error {
    io::Error::other(fault.to_string())
}
