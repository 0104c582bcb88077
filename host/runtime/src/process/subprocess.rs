//! A daemon in a process of its own, as its host sees it.
//!
//! The host keeps listener and guests; what crosses is frames over a socket pair, batched both ways. A guest that is busy
//! is lent to the child, which then answers it without the host ([`hand_offs`]). A child ends in one of
//! three ways: told to, by itself, or killed because it breaks the protocol or doesn't end; in each its whole process group
//! is gone before its end is told, and whatever was in its hands is answered `crashed`; of a guest that was lent, the one
//! command that it was at.
//!
//! Nothing that a child sends can hurt more than itself: what comes in is bounded, checked, and looked up in the host's own
//! tables.

mod batch;
mod end;
mod group;
mod hand_offs;
mod limits;
mod output;
mod rate;
mod read;
mod spawn;
mod supervise;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dae_plugin_api::abi::status;
use rustix::process::Pid;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::plugin::completion::{Call, CommandBatch, Completion, RunEnd, host_status};
use crate::plugin::host_api::LocalHostApi;
use crate::process::hand_off::{HandOffState, Position};
use crate::process::ipc::{FrameKind, FrameOutbox, StartMessage};
use dae_store::lock::lock;
use dae_store::manifest::Manifest;
use dae_store::settings::Settings;

pub use batch::{BatchCall, BatchEnd};
pub use group::GroupRecords;
pub(crate) use hand_offs::{HandOff, RecallReason, Returned};
pub use limits::{CallStart, OverdueAction};
pub use read::{UnreadBytes, bytes_of};
pub use spawn::Spawner;

/// What may wait for a child that doesn't read (bytes); past it, commands are refused until it does.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What a child is started from.
pub struct SubprocessPlan {
    /// What it is told first.
    pub message: StartMessage,
    /// How it is run.
    pub settings: Settings,
    /// Where its log and events go.
    pub local: LocalHostApi,
    /// How long it may take to be loaded.
    pub load_limit: Duration,
    /// And then to answer.
    pub start_limit: Duration,
    /// Done at its end, before anybody hears of it: whoever is told `crashed` must not find the dead one again.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// A child that has loaded its file, and has not been told to start: nobody has to wait for that. Dropped, it is killed.
#[derive(Debug)]
pub struct LoadedSubprocess {
    subprocess: Subprocess,
    steps: mpsc::Receiver<Result<(), String>>,
    manifest: Manifest,
    start_limit: Duration,
}

/// A running child. Dropped, it is killed.
pub struct Subprocess {
    link: Arc<Link>,
    ended: watch::Receiver<Option<RunEnd>>,
}

impl fmt::Debug for Subprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subprocess({})", self.link.pid)
    }
}

/// What guests, the supervisor and the child's process supervisor share.
struct Link {
    pid: u32,
    stream: UnixStream,
    outgoing: Mutex<FrameOutbox>,
    more: Notify,
    kill: Notify,
    /// Why it is killed, where that is more than that somebody wanted it.
    kill_cause: Mutex<Option<String>>,
    calls: Mutex<PendingCommands>,
    hand_offs: hand_offs::HandOffs,
    /// Memory shared with the process; `None` where the system has no such memory.
    hand_off_state: Option<Arc<HandOffState>>,
    /// The line of a lent guest that the child was at when somebody waited for his turn, and since when it was seen there.
    seen_at: Mutex<Option<((u64, Position), Instant)>>,
    reads: read::ReadCredit,
    last_id: AtomicU64,
    pongs: AtomicU64,
    was_stopped: AtomicBool,
    /// What went wrong in an orderly end; there once the child has said so.
    stop_faults: Mutex<Option<String>>,
}

/// The calls that a child has in its hands.
#[derive(Default)]
struct PendingCommands {
    by_id: HashMap<u64, WaitingCall>,
    batches: batch::PendingBatches,
    /// Why there will be no more.
    end: Option<String>,
}

/// A call that a child has not answered.
struct WaitingCall {
    sender: oneshot::Sender<Completion>,
    since: Instant,
    /// Whether it was set aside, and so hasn't begun, whatever the hand-off state shows.
    is_aside: bool,
    /// Whether it is a command, which may be withdrawn.
    is_command: bool,
}

impl Subprocess {
    /// Makes one, and waits until it has loaded its file.
    ///
    /// # Errors
    /// Why it hasn't; nothing of it is left then.
    pub async fn load(plan: SubprocessPlan, spawner: &Spawner) -> Result<LoadedSubprocess, String> {
        let SubprocessPlan { message, .. } = plan;
        let limit = plan.load_limit;
        let sent = serde_json::to_vec(&message).map_err(|error| error.to_string())?;
        let spawned = spawner.spawn(&plan.settings).await?;
        let (link, attending) = supervise::attend(spawned, (plan.local, plan.on_end), &message)?;
        lock(&link.outgoing).put(FrameKind::Load, 0, &[&sent]);
        link.more.notify_one();
        let subprocess = Subprocess {
            link,
            ended: attending.ended,
        };
        let mut loaded = LoadedSubprocess {
            subprocess,
            steps: attending.steps,
            manifest: message.manifest,
            start_limit: plan.start_limit,
        };
        let too_long = || format!("it was not loaded within {limit:?}");
        loaded.step(limit, too_long).await?;
        Ok(loaded)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.link.pid
    }

    /// Hands a command over.
    pub(crate) fn call(&self, call: Call<'_>) -> SubprocessCall {
        let (sender, receiver) = oneshot::channel();
        let (id, receiver) = match self.link.hand_over(sender, call) {
            Ok(id) => (id, receiver),
            Err(refused) => {
                let (sender, receiver) = oneshot::channel();
                // The receiver is right here.
                let _ = sender.send(refused);
                (0, receiver)
            }
        };
        SubprocessCall {
            id,
            guest: call.guest,
            receiver,
            link: Arc::clone(&self.link),
            is_over: id == 0,
        }
    }

    /// Hands over commands that the child runs on the spot; see [`Subprocess::flush`]. The guest is woken by what comes of it.
    pub(crate) fn call_all(&self, batch: &CommandBatch<'_>, guest: &Context<'_>) -> BatchCall {
        let handed_over = self.link.hand_over_all(batch, guest);
        handed_over.unwrap_or_else(|refused| {
            guest.waker().wake_by_ref();
            BatchCall::refused(refused)
        })
    }

    /// Asks for its state.
    pub(crate) fn save(&self) -> SubprocessCall {
        self.ask(FrameKind::Save, &[])
    }

    /// Tells it of a guest.
    pub(crate) fn guest_came(&self, guest: u64) -> SubprocessCall {
        self.ask(FrameKind::GuestCame, &guest.to_le_bytes())
    }

    /// Has it do something that is no command.
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
        }
    }

    /// Writes what guests have handed over: once a batch, from the guest's own task.
    pub fn flush(&self) {
        self.link.flush();
    }

    /// That guest has gone; what the daemon sends it from now on goes nowhere.
    pub(crate) fn guest_gone(&self, guest: u64) {
        lock(&self.link.outgoing).put(FrameKind::GuestGone, guest, &[]);
        self.link.flush();
    }

    /// Asks whether it is well; see [`Subprocess::pongs`].
    pub fn ping(&self) {
        lock(&self.link.outgoing).put(FrameKind::Ping, 0, &[]);
        self.link.flush();
    }

    /// How often it has said that it is.
    pub(crate) fn pongs(&self) -> u64 {
        let pongs = self.link.pongs.load(Ordering::Relaxed);
        // What answers guests is well.
        let turns = self
            .link
            .hand_off_state
            .as_ref()
            .map_or(0, |one| one.all_turns());
        pongs.wrapping_add(turns)
    }

    /// Ends when the child has, or its background work; with what it was.
    pub fn ended(&self) -> impl Future<Output = RunEnd> + Send + Sync + use<> {
        let mut ended = self.ended.clone();
        async move {
            let end = ended.wait_for(Option::is_some).await;
            // Without an process supervisor there is no child.
            end.ok()
                .and_then(|end| end.clone())
                .unwrap_or(RunEnd::Died("is gone".to_owned()))
        }
    }

    /// Ends when the child has; with how.
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

    /// Ends it: in order within `grace`, by force after that.
    ///
    /// # Errors
    /// What went wrong on the way; it is gone all the same.
    pub async fn end(&self, grace: Duration) -> Result<(), String> {
        self.link.was_stopped.store(true, Ordering::Relaxed);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        lock(&self.link.outgoing).put(FrameKind::Stop, 0, &[&grace_ms.to_le_bytes()]);
        self.link.flush();
        self.link.more.notify_one();
        // Its own stages keep to the grace each; what is beyond that is not in order.
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

    /// What that guest has not read of its replies: nothing yet. One that it has is taken where it is of this child.
    pub(crate) fn unread(&self, guest: u64, before: Option<UnreadBytes>) -> UnreadBytes {
        let before = before.filter(|before| before.is_of(&self.link));
        before.unwrap_or_else(|| UnreadBytes::of(&self.link, guest))
    }

    /// Kills it, and all of its process group.
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

impl LoadedSubprocess {
    /// What its file says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Starts its daemon from that state, and waits until it answers.
    ///
    /// # Errors
    /// Why it doesn't; nothing of it is left then.
    pub async fn start(mut self, state: Option<Box<RawValue>>) -> Result<Subprocess, String> {
        let state = state.as_ref().map_or("", |state| state.get());
        lock(&self.subprocess.link.outgoing).put(FrameKind::Start, 0, &[state.as_bytes()]);
        self.subprocess.link.flush();
        let limit = self.start_limit;
        let too_long = || format!("it did not answer within {limit:?}");
        // A little longer than `start` itself may take: the child tells of that more exactly.
        self.step(limit + Duration::from_secs(1), too_long).await?;
        Ok(self.subprocess)
    }

    async fn step(&mut self, limit: Duration, too_long: impl Fn() -> String) -> Result<(), String> {
        match tokio::time::timeout(limit, self.steps.recv()).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(self.subprocess.end_text().await),
            Err(_) => Err(too_long()),
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
        (process, stream): (Pid, UnixStream),
        hand_off_state: Option<Arc<HandOffState>>,
        files_max: Option<u64>,
    ) -> Self {
        Link {
            pid: process.as_raw_nonzero().get().cast_unsigned(),
            stream,
            outgoing: Mutex::default(),
            more: Notify::new(),
            kill: Notify::new(),
            kill_cause: Mutex::default(),
            calls: Mutex::default(),
            hand_offs: hand_offs::HandOffs::new(files_max),
            hand_off_state,
            seen_at: Mutex::default(),
            reads: read::ReadCredit::default(),
            last_id: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            was_stopped: AtomicBool::new(false),
            stop_faults: Mutex::default(),
        }
    }

    fn hand_over(
        &self,
        sender: oneshot::Sender<Completion>,
        call: Call<'_>,
    ) -> Result<u64, Completion> {
        // Under one lock, so that numbers are given in the order in which the child begins.
        let mut calls = lock(&self.calls);
        let mut outgoing = self.room_for_commands(&calls)?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (index, guest) = (call.index.to_le_bytes(), call.guest.to_le_bytes());
        outgoing.put(
            FrameKind::Call,
            id,
            &[&index, &guest, call.arguments.as_bytes()],
        );
        let since = Instant::now();
        let call = WaitingCall {
            sender,
            since,
            is_aside: false,
            is_command: true,
        };
        calls.by_id.insert(id, call);
        Ok(id)
    }

    fn hand_over_all(
        self: &Arc<Self>,
        batch: &CommandBatch<'_>,
        guest: &Context<'_>,
    ) -> Result<BatchCall, Completion> {
        // Under one lock, so that batches wait in the order in which the child gets them.
        let mut calls = lock(&self.calls);
        let mut outgoing = self.room_for_commands(&calls)?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let sender = batch.guest.to_le_bytes();
        outgoing.put(FrameKind::Batch, id, &[&sender, batch.entries]);
        let of = (id, batch.guest, Some(self));
        Ok(calls.batches.add(of, batch.count, guest))
    }

    /// Where commands are put, or why they can't be.
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

    /// Writes as much as the socket takes; the process supervisor writes the rest.
    fn flush(&self) {
        let written = lock(&self.outgoing).write(|bytes| self.stream.try_write(bytes));
        // Any other failure is seen by the reader.
        if written.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.more.notify_one();
        }
    }
}

impl SubprocessCall {
    /// Has it go on, whatever waits for its guest.
    pub fn go_on(&self) {
        self.link.go_on(self.id);
    }

    /// Returns whether and when it began, as far as the host knows.
    pub fn start(&self) -> CallStart {
        CallStart {
            link: Arc::clone(&self.link),
            id: self.id,
            since: Instant::now(),
        }
    }
}

/// A command in a child's hands. Dropped, the child is told that nobody waits for it.
pub(crate) struct SubprocessCall {
    id: u64,
    guest: u64,
    receiver: oneshot::Receiver<Completion>,
    link: Arc<Link>,
    is_over: bool,
}

impl Future for SubprocessCall {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let polled = Pin::new(&mut self.receiver).poll(context);
        polled.map(|ended| {
            self.is_over = true;
            ended.unwrap_or_else(|_| Completion {
                status: host_status::DIED,
                bytes: b"its process ended".to_vec(),
            })
        })
    }
}

impl Drop for SubprocessCall {
    fn drop(&mut self) {
        if !self.is_over
            && let Ok(ended) = self.receiver.try_recv()
        {
            // It has ended, and nobody has taken its reply.
            return self.link.has_read(self.guest, ended.bytes.len());
        }
        if !self.is_over && lock(&self.link.calls).by_id.remove(&self.id).is_some() {
            lock(&self.link.outgoing).put(FrameKind::Cancel, self.id, &[]);
            self.link.flush();
        }
    }
}
