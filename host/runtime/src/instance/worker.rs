//! The worker: this executable, started again as the process of one daemon.
//!
//! Its standard input is a socket, over which the host sends it a plugin to load and everything after that, and over
//! which it replies. The daemon itself gets an empty standard input, and its standard output and error are pipes that
//! the host drains into its log. One thread runs the daemon, so that a daemon in a subprocess costs little. Another one
//! waits for the host's end ([`warden`]). The worker ends on the host's request, when the socket ends, and when the host
//! ends, together with all that its daemon has started.
//!
//! This file has the start (`start` loads the plugin), the loop that takes the host's frames, and the end. Commands
//! that were handed over wait in the `backlog`, and `work` runs them. `running` holds those that end later. Guests
//! that were handed off are served by [`crate::hand_off`].
//!
//! Errors are sent to the host if there is one. A worker without a host ends with code 70, and one that has lost its
//! host kills its process group, including itself.

mod backlog;
mod clock;
mod hand_offs;
mod incoming;
mod known;
mod running;
mod start;
mod states;
mod wire;
mod work;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::runtime::Handle;

use crate::connection::reply_budget::ReplyBudget;
use crate::hand_off::{AbortOnPanic, HandOffState, Terms, WorkerHandOffs};
use crate::os::worker_stream::WorkerEnd;
use crate::os::{process_name, signals, warden};
use crate::plugin::library::PluginLibrary;
use crate::plugin::start_fault::StartFault;
use crate::plugin::state_part::StatePart;
use crate::process::ipc::{self, ARGUMENT, Frame, FrameInbox, FrameKind, StartMessage};
use crate::threads::fd_limits;
use crate::threads::trace::TraceSpan;
use backlog::Backlog;
use dae_store::state_text::StateText;
use dae_store::{blocking, durations};
use hand_offs::InstanceOfWorker;
use incoming::Incoming;
use running::{BeforePoll, CallOf, RunningCall};
use start::{ServingDaemon, load, start, texts};
use states::SavedStates;
use wire::HostConnection;

/// The exit code of a worker that has no host (sysexits' EX_SOFTWARE).
const CODE_LOST: u8 = 70;
/// The name of a worker's process in lists until it has a daemon. From then on it is `dae:NAME`.
const RESERVE_NAME: &str = "dae-reserve";
/// The time for which an idle thread of a worker waits for work. A worker may wait in reserve for long, and is to have one
/// then.
const IDLE_THREAD: Duration = Duration::from_secs(24 * 3600);
/// The number of tasks that the runtime polls before it checks for frames from the host. Each guest that was handed off
/// may have a buffer full of commands, and the host waits for an answer to its ping.
const EVENT_INTERVAL: u32 = 16;

/// Becomes a worker if this process was started as one. Otherwise returns `None` at once.
///
/// A program that embeds `dae_host::Dae` and runs daemons in subprocesses must call this first in its `main`, since
/// the worker runs the program's own executable. `dae_host::worker` is this module.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = dae_runtime::instance::worker::become_worker() {
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
        ipc::WORKERS_POSSIBLE.store(true, Ordering::Relaxed);
        return None;
    }
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let (host_pid, files_max) = (number().unwrap_or(0), number());
    Some(match work(host_pid, files_max) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignores failures: there may be no reader.
            let _ = writeln!(io::stderr(), "this worker has no host: {error}");
            ExitCode::from(CODE_LOST)
        }
    })
}

fn work(host_pid: u32, files_max: Option<u32>) -> io::Result<()> {
    signals::start_clean();
    signals::leave_end_to_host();
    process_name::set(RESERVE_NAME);
    if let Some(files_max) = files_max {
        fd_limits::allow(files_max.into());
    }
    warden::end_with(host_pid)?;
    let end = WorkerEnd::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .thread_keep_alive(IDLE_THREAD)
        .build()?;
    let result = runtime.block_on(async {
        let wire = HostConnection::new(end.open()?);
        Worker::new(Arc::clone(&wire)).run().await?;
        wire.deliver();
        Ok(())
    });
    if let Err(error) = &result {
        // Ignores failures: there may be no reader.
        let _ = writeln!(io::stderr(), "the worker has lost its host: {error}");
        warden::end_group();
    }
    // Doesn't wait for threads that the daemon blocks: the process ends with them.
    runtime.shutdown_background();
    result
}

/// A worker with its queues and its connection to the host.
struct Worker {
    wire: Arc<HostConnection>,
    incoming: Incoming,
    inbox: FrameInbox,
    hand_offs: WorkerHandOffs<InstanceOfWorker>,
    /// The memory shared with the host; `None` if the host has none.
    hand_off_state: Option<Arc<HandOffState>>,
    /// The command that was begun last, in the hand-off state's format.
    front: u64,
    /// The span of the next command that comes, if it belongs to a trace.
    span: Option<TraceSpan>,
    running: FuturesUnordered<RunningCall>,
    calls: HashMap<u64, tokio::sync::oneshot::Sender<()>>,
    before_poll: BeforePoll,
    backlog: Backlog,
    /// The reply bytes that wait for guests, here and at the host.
    room: Arc<ReplyBudget>,
    /// True if jobs that were set aside could go on, but the time to work was over.
    is_aside_cut: bool,
    /// The buffer in which the replies of a batch are made, one after the other.
    spare: Vec<u8>,
    states: SavedStates,
}

impl Worker {
    fn new(wire: Arc<HostConnection>) -> Self {
        Worker {
            wire,
            incoming: Incoming::new(),
            inbox: FrameInbox::default(),
            hand_offs: WorkerHandOffs::default(),
            hand_off_state: None,
            front: 0,
            span: None,
            running: FuturesUnordered::new(),
            calls: HashMap::new(),
            before_poll: Arc::new(|_| {}),
            backlog: Backlog::default(),
            room: Arc::default(),
            is_aside_cut: false,
            spare: Vec::new(),
            states: SavedStates::default(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        loop {
            let message: StartMessage = serde_json::from_slice(&self.payload_to_load().await?)?;
            process_name::set(&format!("dae:{}", message.name));
            // The descriptor of the hand-off state came with the first frame.
            if let Some(file) = self.incoming.descriptors().pop() {
                self.hand_off_state = HandOffState::open(&file).ok();
            }
            let library = match load(&message) {
                Ok(library) => library,
                Err(text) => return self.refuse(&text.into()).await,
            };
            self.report_loaded(&library, &message).await?;
            // Only from here on may guests wait for the start.
            let state = match self.state().await? {
                Ok(state) => state,
                Err(text) => return self.refuse(&text.into()).await,
            };
            let Some(preflight) = message.preflight else {
                return self.run_daemon(library, message, state).await;
            };
            let tried = (library, message, state);
            let has_passed = self.run_preflight(preflight, tried).await?;
            if !has_passed || !preflight.stays {
                return Ok(());
            }
        }
    }

    /// Starts the daemon, and serves it until its end.
    async fn run_daemon(
        mut self,
        library: PluginLibrary,
        message: StartMessage,
        state: Option<StateText>,
    ) -> io::Result<()> {
        let (wire, is_held) = (Arc::clone(&self.wire), message.is_held);
        states::prepare_for(state.as_ref(), &message);
        let held = state.clone();
        let starting = start(library, message, state, &wire);
        match self.while_hearing(starting).await? {
            Ok(served) => {
                self.wire.send(FrameKind::Started, 0, &[]);
                self.wire.flush_now();
                // Freed after the answer, since a large one takes a while.
                drop(held);
                if !is_held {
                    self.begin_run(&served);
                }
                self.serve(served).await
            }
            Err(fault) => self.refuse(&fault).await,
        }
    }

    /// Reports that the plugin is loaded, with the schemas that its code makes.
    async fn report_loaded(
        &self,
        library: &PluginLibrary,
        message: &StartMessage,
    ) -> io::Result<()> {
        if message.manifest.run_time_schemas {
            // Sent before the author's code runs, so that the host can tell a hang in it from one of the loader.
            self.wire.send(FrameKind::Describing, 0, &[]);
            self.wire.drain().await?;
        }
        // Made here for a preflight, too, where a crash or a hang of the author's code harms nobody.
        match message.manifest.run_time_schemas.then(|| library.schemas()) {
            Some(Ok(Some(schemas))) => self.wire.send(FrameKind::Loaded, 0, &[schemas.as_bytes()]),
            Some(Err(text)) => self.wire.send(FrameKind::Loaded, 1, &[text.as_bytes()]),
            Some(Ok(None)) | None => self.wire.send(FrameKind::Loaded, 0, &[]),
        }
        self.wire.drain().await
    }

    async fn refuse(&self, fault: &StartFault) -> io::Result<()> {
        let (kind, text) = (fault.kind.number(), fault.text.as_bytes());
        self.wire.send(FrameKind::Refused, kind, &[text]);
        self.wire.drain().await
    }

    /// Waits for a file to load. In reserve it prepares for that.
    async fn payload_to_load(&mut self) -> io::Result<Vec<u8>> {
        loop {
            while let Some(frame) = self.inbox.next().map_err(fault)? {
                match frame.kind {
                    FrameKind::Load => return Ok(frame.payload.to_vec()),
                    // Starts the thread on which the daemon's `start` will run. If there is none left, the start itself
                    // reports it.
                    FrameKind::Wait => drop(blocking::spawn_on(&Handle::current(), || ())),
                    _ => {}
                }
            }
            self.incoming.read(&self.wire, &mut self.inbox).await?;
        }
    }

    /// Waits for the next frame of that kind. Before the daemon serves, other frames are ignored. Returns its id and its
    /// payload.
    async fn next_of(&mut self, kind: FrameKind) -> io::Result<(u64, Vec<u8>)> {
        loop {
            while let Some(frame) = self.inbox.next().map_err(fault)? {
                if frame.kind == kind {
                    return Ok((frame.id, frame.payload.to_vec()));
                }
            }
            self.incoming.read(&self.wire, &mut self.inbox).await?;
        }
    }

    /// Waits for work of the daemon, and answers its requests to the host meanwhile.
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
                    FrameKind::Answered => wire.on_answer(frame.id, frame.payload),
                    FrameKind::GuestGone => wire.guest_gone(frame.id),
                    FrameKind::ClientState => wire.client(frame.id, frame.payload),
                    // The host sends nothing else before the start is over, and after the end nobody needs it.
                    _ => {}
                }
            }
        }
    }

    /// Lets the daemon's background work begin.
    fn begin_run(&self, served: &ServingDaemon) {
        let (run, wire) = (served.instance.run(), Arc::clone(&self.wire));
        tokio::spawn(async move {
            let _ends_with_us = AbortOnPanic;
            let end = serde_json::to_vec(&run.await).unwrap_or_default();
            wire.send(FrameKind::RunEnd, 0, &[&end]);
        });
    }

    async fn serve(mut self, served: ServingDaemon) -> io::Result<()> {
        let (wire, room) = (Arc::clone(&self.wire), Arc::clone(&self.room));
        self.before_poll = before_poll(&served, &wire);
        loop {
            tokio::select! {
                // Frames from the host first, then what has ended since.
                biased;
                read = self.incoming.read(&wire, &mut self.inbox) => read?,
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.on_ended(ended),
                flushed = wire.flushed() => flushed?,
                () = wire.has_begun() => {}
                () = room.released(), if self.backlog.has_aside() => {}
                // The event loop runs once, and then the waiting commands go on.
                () = tokio::task::yield_now(), if !self.backlog.is_empty() || self.is_aside_cut => {}
            }
            // Before the frames: one of them may cancel such a command.
            for (of, command) in wire.take_begun() {
                self.run_begun(of, command);
            }
            if let Some(grace) = self.take_frames(&served)? {
                return self.end(served, grace).await;
            }
            self.work(&served);
            wire.flush_now();
        }
    }

    /// Handles the frames that have come. Returns the grace if the host asks for the end.
    fn take_frames(&mut self, served: &ServingDaemon) -> io::Result<Option<Duration>> {
        loop {
            // The frame borrows from the inbox, while its handler needs the rest of `self`.
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

    fn take(&mut self, frame: &Frame<'_>, served: &ServingDaemon) -> Option<Duration> {
        match frame.kind {
            FrameKind::Batch | FrameKind::Call => self.hand_over(frame),
            FrameKind::Trace => self.span = TraceSpan::read(frame.payload),
            FrameKind::HandOff => self.hand_off(frame, served),
            FrameKind::Reclaim => self.hand_offs.reclaim(frame.id),
            FrameKind::Save => self.save(frame, served),
            FrameKind::Apply => self.apply(frame, served),
            FrameKind::Run => self.begin_run(served),
            FrameKind::TakeState => self.take_state(frame),
            FrameKind::Cancel => self.cancel(frame.id),
            FrameKind::Read => self.room.take(frame.id, bytes_of(frame.payload)),
            FrameKind::GoOn => self.room.free(frame.id),
            FrameKind::DropAside => self.drop_aside(frame.id),
            FrameKind::Ping => self.pong(frame.id),
            FrameKind::Answered => self.wire.on_answer(frame.id, frame.payload),
            FrameKind::ClientState => self.wire.client(frame.id, frame.payload),
            FrameKind::GuestCame => self.guest_came(frame, served),
            FrameKind::GuestGone => self.guest_gone(frame),
            FrameKind::Stop => return Some(durations::ms(ipc::split_u64(frame.payload).0)),
            // The host sends no other frames.
            _ => {}
        }
        None
    }

    fn hand_off(&mut self, frame: &Frame<'_>, served: &ServingDaemon) {
        let terms = Terms::read(frame.payload);
        self.wire.guest_came(terms.guest);
        let hand_off = (frame.id, &terms);
        let descriptors = self.incoming.descriptors();
        let hand_off_state = self.hand_off_state.as_ref();
        let daemon = Arc::new(InstanceOfWorker {
            instance: Arc::clone(&served.instance),
            wire: Arc::clone(&self.wire),
        });
        let of = (&daemon, hand_off_state);
        self.hand_offs
            .hand_off(hand_off, descriptors, of, &self.room);
    }

    /// Queues the commands of a frame.
    fn hand_over(&mut self, frame: &Frame<'_>) {
        let guest = self.backlog.push(frame, self.span.take());
        self.wire.guest_came(guest);
    }

    /// Drops the commands that were set aside, so that they never begin.
    fn drop_aside(&mut self, last: u64) {
        for (id, place) in self.backlog.drop_aside(last) {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            self.wire
                .send_now(FrameKind::Dropped, id, &[&place.to_le_bytes()]);
        }
    }

    fn pong(&mut self, id: u64) {
        self.wire.send(FrameKind::Pong, id, &[]);
        self.wire.flush_now();
    }

    fn save(&mut self, frame: &Frame<'_>, served: &ServingDaemon) {
        let part = frame.payload.first().copied();
        let part = part.and_then(StatePart::from_repr);
        let part = part.unwrap_or(StatePart::Whole);
        self.states.expect(frame.id);
        let pending = served.instance.start_save_aside(part);
        self.run_one(CallOf::host(frame.id), pending, None);
    }

    fn apply(&mut self, frame: &Frame<'_>, served: &ServingDaemon) {
        let pending = served.instance.start_apply(frame.payload);
        self.run_one(CallOf::host(frame.id), pending, None);
    }

    fn guest_came(&mut self, frame: &Frame<'_>, served: &ServingDaemon) {
        let (guest, _) = ipc::split_u64(frame.payload);
        self.wire.guest_came(guest);
        let pending = served.instance.guest_came(guest);
        self.run_one(CallOf::host(frame.id), pending, None);
    }

    fn guest_gone(&mut self, frame: &Frame<'_>) {
        self.wire.guest_gone(frame.id);
        self.backlog.push(frame, None);
    }

    /// Cancels a call that nobody waits for. If it has not begun, it never begins.
    fn cancel(&mut self, id: u64) {
        self.backlog.cancel(id);
        self.states.forget(id);
        self.calls.remove(&id);
    }

    async fn end(mut self, served: ServingDaemon, grace: Duration) -> io::Result<()> {
        self.hand_offs.end().await;
        drop(self.wire.take_begun());
        self.calls.clear();
        drop(std::mem::take(&mut self.running));
        // It refers to the instance, which is about to end.
        self.before_poll = Arc::new(|_| {});
        let ended = self.while_hearing(served.instance.end(grace)).await?;
        let faults = texts(ended.err().unwrap_or_default());
        self.wire
            .send(FrameKind::Stopped, 0, &[faults.join("\n").as_bytes()]);
        self.wire.drain().await
    }
}

/// Sends finished replies before a command that may hold this thread.
fn before_poll(served: &ServingDaemon, wire: &Arc<HostConnection>) -> BeforePoll {
    let (instance, wire) = (Arc::clone(&served.instance), Arc::clone(wire));
    Arc::new(move |command| {
        if !instance.is_quick(command) {
            wire.flush_now();
        }
    })
}

/// Reads a number of bytes from a payload.
fn bytes_of(payload: &[u8]) -> usize {
    usize::try_from(ipc::split_u64(payload).0).unwrap_or(usize::MAX)
}

fn fault(fault: ipc::FrameFault) -> io::Error {
    io::Error::other(fault.to_string())
}
