//! A daemon in a process of its own, from its host's view.
//!
//! The host keeps the listener and the guests. Host and subprocess exchange frames over a socket pair, batched both
//! ways. A busy guest is handed off to the subprocess, which then answers it without the host ([`crate::hand_off`]). A
//! subprocess ends on request, by itself, or because the host kills it for breaking the protocol or not ending. In each
//! case its whole process group is gone before its end is reported, and each of its unanswered commands is answered
//! `crashed`. For a guest that was handed off, that is the one command that was running.
//!
//! Nothing that a subprocess sends can harm anything but itself: the host bounds it, checks it, and looks it up in its
//! own tables.

mod batch;
mod call;
mod hand_offs;
pub mod hook;
mod limits;
mod loaded;
mod output;
mod preflights;
mod rate;
mod read;
mod requests;
mod reserve;
mod spawn;
mod states;
mod supervise;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Context;
use std::time::{Duration, Instant};

use dae_plugin_api::abi::status;
use tokio::sync::{Notify, oneshot, watch};

use crate::hand_off::{HandOffState, HostHandOffs, Position};
use crate::os::descriptors::OwnedDescriptor;
use crate::os::worker_stream::WorkerStream;
use crate::plugin::completion::{Call, CommandBatch, Completion, RunEnd, host_status};
use crate::plugin::host_api::LocalHostApi;
use crate::plugin::state_part::StatePart;
use crate::process::ipc::{FrameKind, FrameOutbox, StartMessage};
use crate::threads::trace;
use dae_store::durations;
use dae_store::lock::lock;
use dae_store::manifest::Manifest;
use dae_store::settings::Settings;

use batch::NewBatch;
pub use batch::{BatchCall, BatchEnd};
use call::CallEnd;
pub(crate) use call::SubprocessCall;
pub use limits::{CallStart, OverdueAction};
pub use loaded::LoadedSubprocess;
pub use preflights::Preflights;
pub use read::{UnreadBytes, bytes_of};
pub use spawn::Spawner;

pub use crate::os::worker_process::GroupRecords;

/// The most bytes that may wait for a subprocess that does not read. Beyond that, commands are refused until it reads.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The parameters for starting a subprocess.
pub struct SubprocessPlan {
    /// The first message to it.
    pub message: StartMessage,
    /// The settings to run it with.
    pub settings: Settings,
    /// The host API for its log and its requests.
    pub local: LocalHostApi,
    /// The limit for loading its file.
    pub load_limit: Duration,
    /// The limit for the time from then until it answers.
    pub start_limit: Duration,
    /// The function to call at its end, before the end is reported: a caller that gets `crashed` must not find the dead
    /// subprocess again.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// A running subprocess. Dropping it kills the process.
pub struct Subprocess {
    link: Arc<Link>,
    ended: watch::Receiver<Option<RunEnd>>,
    /// True if its background work begins on request.
    is_held: bool,
}

impl fmt::Debug for Subprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subprocess({})", self.link.pid)
    }
}

/// The state that guests, the supervisor and the process supervisor share.
struct Link {
    pid: u32,
    /// The daemon whose code the process runs or tries, for the log.
    daemon: Mutex<String>,
    stream: WorkerStream,
    outgoing: Mutex<FrameOutbox>,
    /// True while the process supervisor holds back what guests queue, to write it at once.
    is_held: AtomicBool,
    more: Notify,
    kill: Notify,
    /// The reason for a kill, if there is one beyond a caller's request.
    kill_cause: Mutex<Option<String>>,
    calls: Mutex<PendingCommands>,
    hand_offs: HostHandOffs,
    /// The memory shared with the process; `None` if it could not be created.
    hand_off_state: Option<Arc<HandOffState>>,
    /// The line of a handed-off guest that the subprocess ran while a command waited for its start, and the time when
    /// it was first seen there.
    seen_at: Mutex<Option<((u64, Position), Instant)>>,
    reads: read::ReadCredit,
    last_id: AtomicU64,
    pongs: AtomicU64,
    was_stopped: AtomicBool,
    /// The faults of an orderly end, present once the subprocess has reported them.
    stop_faults: Mutex<Option<String>>,
}

/// The calls and batches that a subprocess has not answered.
#[derive(Default)]
struct PendingCommands {
    by_id: HashMap<u64, WaitingCall>,
    /// The receivers of calls that began for a guest who was handed off and is on the way back, by the hand-off's id.
    begun: HashMap<u64, oneshot::Receiver<CallEnd>>,
    batches: batch::PendingBatches,
    /// A text that says how the subprocess ended; from then on it takes no calls.
    end: Option<String>,
}

/// A call that a subprocess has not answered.
struct WaitingCall {
    sender: oneshot::Sender<CallEnd>,
    since: Instant,
    /// True if it was set aside, and so has not begun, whatever the hand-off state shows.
    is_aside: bool,
    /// True if it is a command, which may be withdrawn.
    is_command: bool,
    /// True for a save for whose state no file was lent yet.
    may_lend: bool,
    /// The file that was lent for its result.
    lent: Option<OwnedDescriptor>,
}

impl PendingCommands {
    /// Adds a call that the subprocess has begun by itself, for a guest who is on the way back.
    fn add_begun(&mut self, id: u64) {
        let (sender, receiver) = oneshot::channel();
        let call = WaitingCall {
            sender,
            since: Instant::now(),
            is_aside: false,
            // It has begun, so it can't be withdrawn.
            is_command: false,
            may_lend: false,
            lent: None,
        };
        if self.end.is_none() {
            self.by_id.insert(id, call);
            self.begun.insert(id, receiver);
        }
    }
}

impl Subprocess {
    /// Starts a subprocess, and waits until it has loaded its file.
    ///
    /// # Errors
    /// The reason why it has not; it is then killed.
    pub async fn load(plan: SubprocessPlan, spawner: &Spawner) -> Result<LoadedSubprocess, String> {
        let SubprocessPlan { message, .. } = plan;
        let (spawned, refill) = spawner.spawn(&plan.settings).await?;
        let (link, attending) = supervise::attend(
            spawned,
            (plan.local, plan.on_end),
            &message,
            &spawner.reserve,
        )?;
        let subprocess = Subprocess {
            link,
            ended: attending.ended,
            is_held: message.is_held,
        };
        let mut loaded = LoadedSubprocess {
            subprocess,
            steps: attending.steps,
            schemas: Ok(None),
            manifest: Manifest::default(),
            start_limit: plan.start_limit,
            refill: Some(refill),
        };
        loaded.load(message, plan.load_limit).await?;
        Ok(loaded)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.link.pid
    }

    /// Queues a command; see [`Subprocess::flush`].
    pub(crate) fn call(&self, call: Call<'_>) -> SubprocessCall {
        let (sender, receiver) = oneshot::channel();
        let (id, receiver) = match self.link.hand_over(sender, call) {
            Ok(id) => (id, receiver),
            Err(refused) => {
                let (sender, receiver) = oneshot::channel();
                // The receiver is still in scope.
                let _ = sender.send(refused.into());
                (0, receiver)
            }
        };
        SubprocessCall {
            id,
            guest: call.guest,
            receiver,
            link: Arc::clone(&self.link),
            is_over: id == 0,
            has_begun: false,
            was_at_once: false,
            file: None,
        }
    }

    /// Returns the call that the subprocess began for a guest who has come back from the hand-off of that id.
    pub(crate) fn begun_call(&self, id: u64, guest: u64) -> SubprocessCall {
        let receiver = lock(&self.link.calls).begun.remove(&id);
        SubprocessCall {
            id,
            guest,
            // Without its sender, the call ends as that of a dead process.
            receiver: receiver.unwrap_or_else(|| oneshot::channel().1),
            link: Arc::clone(&self.link),
            is_over: false,
            has_begun: true,
            was_at_once: false,
            file: None,
        }
    }

    /// Queues immediate commands; see [`Subprocess::flush`]. Each result wakes the guest's task.
    pub(crate) fn call_all(&self, batch: &CommandBatch<'_>, guest: &Context<'_>) -> BatchCall {
        let handed_over = self.link.hand_over_all(batch, guest);
        handed_over.unwrap_or_else(|refused| {
            guest.waker().wake_by_ref();
            BatchCall::refused(refused)
        })
    }

    /// Requests its state, or a part of it.
    pub(crate) fn save(&self, part: StatePart) -> SubprocessCall {
        self.ask(FrameKind::Save, &[part as u8])
    }

    /// Has it carry out the changes of a delta.
    pub(crate) fn apply(&self, delta: &[u8]) -> SubprocessCall {
        self.ask(FrameKind::Apply, delta)
    }

    /// Lets its background work begin, if it was started without.
    pub(crate) fn run(&self) {
        if self.is_held {
            lock(&self.link.outgoing).put(FrameKind::Run, 0, &[]);
            self.link.flush();
        }
    }

    /// Notifies it of a new guest.
    pub(crate) fn guest_came(&self, guest: u64) -> SubprocessCall {
        self.ask(FrameKind::GuestCame, &guest.to_le_bytes())
    }

    /// Sends a request that is not a command.
    fn ask(&self, kind: FrameKind, payload: &[u8]) -> SubprocessCall {
        let id = self.link.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        let is_there = {
            let mut calls = lock(&self.link.calls);
            let call = WaitingCall {
                sender,
                since: Instant::now(),
                is_aside: false,
                is_command: false,
                may_lend: kind == FrameKind::Save,
                lent: None,
            };
            calls.end.is_none() && calls.by_id.insert(id, call).is_none()
        };
        if is_there {
            lock(&self.link.outgoing).put(kind, id, &[payload]);
            self.link.flush();
        }
        SubprocessCall {
            id,
            guest: 0,
            receiver,
            link: Arc::clone(&self.link),
            is_over: false,
            has_begun: false,
            was_at_once: false,
            file: None,
        }
    }

    /// Writes what guests have queued: once a batch, from the guest's own task.
    pub fn flush(&self) {
        self.link.flush();
    }

    /// Reports that a guest has gone. Lines that the daemon sends it from then on are dropped.
    pub(crate) fn guest_gone(&self, guest: u64) {
        lock(&self.link.outgoing).put(FrameKind::GuestGone, guest, &[]);
        self.link.flush();
    }

    /// Requests a sign of life; see [`Subprocess::pongs`].
    pub fn ping(&self) {
        lock(&self.link.outgoing).put(FrameKind::Ping, 0, &[]);
        self.link.flush();
    }

    /// Returns how many signs of life it has given.
    pub(crate) fn pongs(&self) -> u64 {
        let pongs = self.link.pongs.load(Ordering::Relaxed);
        // A worker that picks guests up is alive.
        let turns = self
            .link
            .hand_off_state
            .as_ref()
            .map_or(0, |one| one.all_turns());
        pongs.wrapping_add(turns)
    }

    /// Waits until the subprocess or its background work has ended, and returns how.
    pub fn ended(&self) -> impl Future<Output = RunEnd> + Send + Sync + use<> {
        let mut ended = self.ended.clone();
        async move {
            let end = ended.wait_for(Option::is_some).await;
            // Without a process supervisor there is no subprocess.
            end.ok()
                .and_then(|end| end.clone())
                .unwrap_or(RunEnd::Died("is gone".to_owned()))
        }
    }

    /// Waits until the subprocess has ended, and returns how.
    pub(crate) fn died(&self) -> impl Future<Output = RunEnd> + Send + Sync + use<> {
        let mut ended = self.ended.clone();
        async move {
            let is_gone = |end: &Option<RunEnd>| matches!(end, Some(RunEnd::Died(_)));
            let end = ended.wait_for(is_gone).await;
            end.ok()
                .and_then(|end| end.clone())
                .unwrap_or(RunEnd::Died("is gone".to_owned()))
        }
    }

    /// Ends the subprocess: in order within `grace`, by force after that.
    ///
    /// # Errors
    /// The faults on the way; the subprocess is gone in any case.
    pub async fn end(&self, grace: Duration) -> Result<(), String> {
        self.link.was_stopped.store(true, Ordering::Relaxed);
        let grace_ms = durations::in_ms(grace);
        lock(&self.link.outgoing).put(FrameKind::Stop, 0, &[&grace_ms.to_le_bytes()]);
        self.link.flush();
        self.link.more.notify_one();
        // Each of its own stages keeps to the grace period. An end that takes longer is not orderly.
        let in_order = tokio::time::timeout(grace + Duration::from_millis(500), self.died()).await;
        if in_order.is_err() {
            self.kill();
            self.died().await;
            return Err(format!("it did not end within {grace:?} and was killed"));
        }
        match lock(&self.link.stop_faults).take() {
            Some(faults) if faults.is_empty() => Ok(()),
            Some(faults) => Err(faults),
            None => Err("it ended before it had stopped in order".to_owned()),
        }
    }

    /// Returns the count of what a guest has not read of its replies: `before` if it belongs to this subprocess, or a
    /// new one.
    pub(crate) fn unread(&self, guest: u64, before: Option<UnreadBytes>) -> UnreadBytes {
        let before = before.filter(|before| before.is_of(&self.link));
        before.unwrap_or_else(|| UnreadBytes::of(&self.link, guest))
    }

    /// Kills the subprocess and all of its process group.
    pub fn kill(&self) {
        self.link.kill.notify_one();
    }

    async fn end_text(&self) -> String {
        match self.died().await {
            RunEnd::Died(text) => format!("its process {text} while it started"),
            other => format!("it ended while it started: {other:?}"),
        }
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Link {
    fn new(
        (pid, stream): (u32, WorkerStream),
        hand_off_state: Option<Arc<HandOffState>>,
        files_max: Option<u64>,
    ) -> Self {
        Link {
            pid,
            daemon: Mutex::default(),
            stream,
            outgoing: Mutex::default(),
            is_held: AtomicBool::new(false),
            more: Notify::new(),
            kill: Notify::new(),
            kill_cause: Mutex::default(),
            calls: Mutex::default(),
            hand_offs: HostHandOffs::new(files_max),
            hand_off_state,
            seen_at: Mutex::default(),
            reads: read::ReadCredit::default(),
            last_id: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            was_stopped: AtomicBool::new(false),
            stop_faults: Mutex::default(),
        }
    }

    /// Notes the daemon whose code the process runs or tries from now on.
    fn serves(&self, daemon: &str) {
        daemon.clone_into(&mut lock(&self.daemon));
    }

    /// Returns the daemon whose code the process runs or tries.
    fn daemon(&self) -> String {
        lock(&self.daemon).clone()
    }

    fn hand_over(
        &self,
        sender: oneshot::Sender<CallEnd>,
        call: Call<'_>,
    ) -> Result<u64, Completion> {
        // Under one lock, so that ids are assigned in the order in which the subprocess begins.
        let mut calls = lock(&self.calls);
        let mut outgoing = self.room_for_commands(&calls)?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (index, guest) = (call.index.to_le_bytes(), call.guest.to_le_bytes());
        let parts = call.parts.to_le_bytes();
        if let Some(span) = trace::current() {
            outgoing.put(FrameKind::Trace, id, &[&span.bytes()]);
        }
        outgoing.put(
            FrameKind::Call,
            id,
            &[&index, &guest, &parts, call.arguments.as_bytes()],
        );
        let since = Instant::now();
        let call = WaitingCall {
            sender,
            since,
            is_aside: false,
            is_command: true,
            may_lend: false,
            lent: None,
        };
        calls.by_id.insert(id, call);
        Ok(id)
    }

    fn hand_over_all(
        self: &Arc<Self>,
        batch: &CommandBatch<'_>,
        guest: &Context<'_>,
    ) -> Result<BatchCall, Completion> {
        // Under one lock, so that batches are queued in the order in which the subprocess gets them.
        let mut calls = lock(&self.calls);
        let mut outgoing = self.room_for_commands(&calls)?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let sender = batch.guest.to_le_bytes();
        outgoing.put(FrameKind::Batch, id, &[&sender, batch.entries]);
        let batch = NewBatch {
            id,
            guest: batch.guest,
            link: Some(self),
            count: batch.count,
        };
        Ok(calls.batches.add(batch, guest))
    }

    /// Returns the queue for commands, or the reason why it takes none.
    fn room_for_commands(
        &self,
        calls: &PendingCommands,
    ) -> Result<MutexGuard<'_, FrameOutbox>, Completion> {
        let refused = |status, text: String| {
            let bytes = text.into_bytes();
            Err(Completion { status, bytes })
        };
        if let Some(end) = &calls.end {
            return refused(host_status::DIED, format!("its process {end}"));
        }
        let outgoing = lock(&self.outgoing);
        if outgoing.len() > WAITING_BYTES_MAX {
            let text = "its process doesn't take commands at the moment; too many wait already";
            return refused(status::GONE, text.to_owned());
        }
        Ok(outgoing)
    }
}
