//! The worker's end of the socket: any thread sends frames, one thread receives them.
//!
//! A log record or an event is written at once by the thread that has it: the daemon may crash at its next instruction,
//! and then its last messages matter most. Replies are written together when a batch is done.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use dae_plugin_api::abi::status;
use tokio::sync::{Notify, oneshot};

use super::known::GuestsOfWorker;
use super::running::CallOf;
use crate::hand_off::HandedBack;
use crate::instance::Pending;
use crate::os::descriptors::OwnedDescriptor;
use crate::os::worker_stream::{self, WorkerStream};
use crate::plugin::completion::{Completion, HostAnswer};
use crate::plugin::host_api::HostApi;
use crate::plugin::host_request::{DeferredRequest, Instruction, RequestBytes};
use crate::process::ipc::{self, FrameKind, FrameOutbox, LARGE_BYTES, client_state, split_u32};
use crate::threads::trace;
use dae_store::lock::lock;
use dae_store::log::Record;

/// The limit for unsent bytes. Past it log records are dropped, so that memory stays bounded if the host doesn't read.
const LOG_WAITING_BYTES_MAX: usize = 16 << 20;

thread_local! {
    /// True if this thread has sent the host an event or request since [`begin_to_listen`].
    static HAS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Starts to note whether the command on this thread sends the host an event or request.
#[inline]
pub(super) fn begin_to_listen() {
    HAS_TOLD.set(false);
}

/// Returns whether it has. Such a frame must reach the host before the command's reply reaches anybody.
#[inline]
pub(super) fn has_told() -> bool {
    HAS_TOLD.get()
}

/// The worker's connection to its host.
#[derive(Debug)]
pub(super) struct HostConnection {
    own: Weak<HostConnection>,
    stream: WorkerStream,
    outgoing: Mutex<FrameOutbox>,
    more: Notify,
    known: GuestsOfWorker,
    /// The daemon's requests to the host, by number.
    asked: Mutex<HashMap<u64, oneshot::Sender<Completion>>>,
    last_asked: AtomicU64,
    /// Unanswered requests for lines that nobody waits for at the moment, by event queue. The host has already removed
    /// the lines that answer them, so the next request for that queue gets the answer.
    pulls: Mutex<HashMap<u64, PendingRequest>>,
    /// True if the host knows that this side waits for reports of what guests have read.
    wants: AtomicBool,
    begun: BegunCommands,
}

/// Commands of guests that were handed off, which have begun and wait, on their way to the loop that polls commands.
#[derive(Default)]
struct BegunCommands {
    queue: Mutex<Vec<(CallOf, Pending)>>,
    more: Notify,
}

impl std::fmt::Debug for BegunCommands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BegunCommands({})", lock(&self.queue).len())
    }
}

impl HostConnection {
    pub(super) fn new(stream: WorkerStream) -> Arc<Self> {
        Arc::new_cyclic(|own| HostConnection {
            own: Weak::clone(own),
            stream,
            outgoing: Mutex::default(),
            more: Notify::new(),
            known: GuestsOfWorker::default(),
            asked: Mutex::default(),
            last_asked: AtomicU64::new(0),
            pulls: Mutex::default(),
            wants: AtomicBool::new(false),
            begun: BegunCommands::default(),
        })
    }

    /// Reads once. The end of the stream is an error, since the host never closes first.
    pub(super) async fn receive(
        &self,
        chunk: &mut [u8],
        descriptors: &mut Vec<OwnedDescriptor>,
    ) -> io::Result<usize> {
        match worker_stream::receive(&self.stream, chunk, descriptors).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Queues a frame that goes out with the batch.
    pub(super) fn send(&self, kind: FrameKind, id: u64, parts: &[&[u8]]) {
        lock(&self.outgoing).put(kind, id, parts);
        self.more.notify_one();
    }

    /// Queues the answer to a call of that guest. The status may have the mark [`ipc::AT_ONCE`].
    pub(super) fn send_ended(&self, (id, guest): (u64, u64), status: u32, bytes: Vec<u8>) {
        let (status, guest) = (status.to_le_bytes(), guest.to_le_bytes());
        if bytes.len() < LARGE_BYTES {
            return self.send(FrameKind::Ended, id, &[&status, &guest, &bytes]);
        }
        let last = ipc::whole(FrameKind::Ended, id, &[&status, &guest]);
        lock(&self.outgoing).put_large(id, bytes, last);
        self.more.notify_one();
    }

    /// Queues the next reply of a batch, a large one. `entry` begins with space for the entry's head.
    pub(super) fn send_large_reply(&self, batch: u64, status: u32, mut entry: Vec<u8>) {
        ipc::batch::write_head(&mut entry, status);
        let last = ipc::whole(FrameKind::Replies, batch, &[]);
        lock(&self.outgoing).put_large(batch, entry, last);
        self.more.notify_one();
    }

    /// Hands a hand-off back, whose last reply may be large.
    pub(super) fn hand_back(&self, id: u64, mut back: HandedBack) {
        let large = match back.last.len() >= LARGE_BYTES {
            true => std::mem::take(&mut back.last),
            false => Vec::new(),
        };
        let parts = [
            &back.head()[..],
            &back.replies,
            &back.last,
            &back.waiting,
            &back.rest,
        ];
        if large.is_empty() {
            return self.send_now(FrameKind::HandBack, id, &parts);
        }
        let last = ipc::whole(FrameKind::HandBack, id, &parts);
        lock(&self.outgoing).put_large(id, large, last);
        self.flush_now();
        self.more.notify_one();
    }

    /// Passes a command that has begun to the loop that polls commands.
    pub(super) fn go_on_with(&self, of: CallOf, command: Pending) {
        lock(&self.begun.queue).push((of, command));
        self.begun.more.notify_one();
    }

    /// Waits until there may be such commands.
    pub(super) async fn has_begun(&self) {
        self.begun.more.notified().await;
    }

    /// Takes such commands.
    pub(super) fn take_begun(&self) -> Vec<(CallOf, Pending)> {
        std::mem::take(&mut *lock(&self.begun.queue))
    }

    /// Queues the next reply of a batch.
    pub(super) fn send_reply(&self, batch: u64, status: u32, bytes: &[u8]) {
        lock(&self.outgoing).put_reply(batch, status, bytes);
    }

    /// Queues a frame and writes as much as the socket takes at once.
    pub(super) fn send_now(&self, kind: FrameKind, id: u64, parts: &[&[u8]]) {
        lock(&self.outgoing).put(kind, id, parts);
        self.flush_now();
        self.more.notify_one();
    }

    /// Reports to the host whether this side waits for reports of what guests have read, if that has changed.
    pub(super) fn tell_want(&self, wants: bool) {
        if self.wants.swap(wants, Ordering::Relaxed) != wants {
            self.send_now(FrameKind::Want, 0, &[&[u8::from(wants)]]);
        }
    }

    /// Writes as much as the socket takes at once.
    pub(super) fn flush_now(&self) {
        // The reader of this end sees any error other than a full socket.
        let _ = lock(&self.outgoing).write(|bytes| self.stream.try_write(bytes));
    }

    /// Completes when queued bytes were sent. Never completes while nothing is queued.
    pub(super) async fn flushed(&self) -> io::Result<()> {
        while lock(&self.outgoing).is_empty() {
            self.more.notified().await;
        }
        self.stream.writable().await?;
        self.flush_now();
        Ok(())
    }

    /// Writes all that is queued.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while !lock(&self.outgoing).is_empty() {
            self.stream.writable().await?;
            self.flush_now();
        }
        Ok(())
    }

    /// Makes sure, as the last act of this process, that the host gets all that was written.
    pub(super) fn deliver(&self) {
        worker_stream::deliver(&self.stream);
    }

    fn send_ask(&self, kind: FrameKind, id: u64, bytes: RequestBytes<'_>) {
        let length = (bytes.operation.len() as u64).to_le_bytes();
        let parts: [&[u8]; 3] = [&length, bytes.operation.as_bytes(), bytes.payload];
        if let Some(span) = trace::current() {
            // Under one lock: the span belongs to the frame behind it.
            let mut outgoing = lock(&self.outgoing);
            outgoing.put(FrameKind::Trace, id, &[&span.bytes()]);
            outgoing.put(kind, id, &parts);
            drop(outgoing);
            self.flush_now();
            return self.more.notify_one();
        }
        self.send_now(kind, id, &parts);
    }

    pub(super) fn guest_came(&self, guest: u64) {
        self.known.guest_came(guest);
    }

    /// Notes the state of a connection that the daemon has opened.
    pub(super) fn client(&self, guest: u64, payload: &[u8]) {
        self.known.client(guest, client_state(payload));
    }

    pub(super) fn guest_gone(&self, guest: u64) {
        self.known.guest_gone(guest);
    }
}

impl HostConnection {
    /// Passes the host's answer to the request of that number.
    pub(super) fn on_answer(&self, id: u64, payload: &[u8]) {
        let (status, bytes) = split_u32(payload);
        // The caller may have given up.
        if let Some(waiting) = lock(&self.asked).remove(&id) {
            let _ = waiting.send(Completion {
                status,
                bytes: bytes.to_vec(),
            });
        }
    }
}

/// A request to the host. Dropping it sends the host a cancellation.
#[derive(Debug)]
struct PendingRequest {
    id: u64,
    answer: oneshot::Receiver<Completion>,
    wire: Weak<HostConnection>,
}

impl Future for PendingRequest {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Completion::gone()))
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.upgrade()
            && lock(&wire.asked).remove(&self.id).is_some()
        {
            wire.send_now(FrameKind::AskCancel, self.id, &[]);
        }
    }
}

/// A request for the next lines of an event queue. If dropped, the next such request gets its answer.
struct EventPull {
    event_queue: u64,
    asked: Option<PendingRequest>,
}

impl Future for EventPull {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let Some(asked) = &mut self.asked else {
            return Poll::Pending;
        };
        let ended = std::task::ready!(Pin::new(&mut *asked).poll(context));
        if ended.status == status::GONE
            && let Some(wire) = asked.wire.upgrade()
        {
            wire.known.event_queue_ended(self.event_queue);
        }
        self.asked = None;
        Poll::Ready(ended)
    }
}

impl Drop for EventPull {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take()
            && let Some(wire) = asked.wire.upgrade()
        {
            let left = lock(&wire.pulls).insert(self.event_queue, asked);
            drop(left);
        }
    }
}

impl HostApi for HostConnection {
    fn log(&self, record: Record) {
        if lock(&self.outgoing).len() > LOG_WAITING_BYTES_MAX {
            return;
        }
        let record = serde_json::to_vec(&record).unwrap_or_default();
        self.send_now(FrameKind::Log, 0, &[&record]);
    }

    fn emit(&self, guest: u64, line: &[u8]) -> bool {
        let is_open = self.is_open(guest);
        if is_open {
            self.send_now(FrameKind::Emit, guest, &[line]);
            HAS_TOLD.set(true);
        }
        is_open
    }

    fn is_open(&self, guest: u64) -> bool {
        self.known.is_open(guest)
    }

    /// Answers as the host would. The host carries the instruction out when it receives it.
    fn instruct(&self, bytes: RequestBytes<'_>, instruction: Instruction<'_>) -> Completion {
        if let Err(refusal) = self.known.note(&instruction) {
            return refusal;
        }
        if let Instruction::CloseEventQueue(event_queue) = instruction {
            self.forget_pull(event_queue);
        }
        self.send_ask(FrameKind::Tell, 0, bytes);
        HAS_TOLD.set(true);
        Completion::nothing()
    }

    fn ask_later(&self, bytes: RequestBytes<'_>, request: DeferredRequest<'_>) -> HostAnswer {
        match request {
            DeferredRequest::NextLines(event_queue) => {
                let left = lock(&self.pulls).remove(&event_queue);
                let asked = Some(left.unwrap_or_else(|| self.ask_host(bytes)));
                HostAnswer::Later(Box::pin(EventPull { event_queue, asked }))
            }
            DeferredRequest::Connect(_)
            | DeferredRequest::CallGuest { .. }
            | DeferredRequest::Call { .. }
            | DeferredRequest::List
            | DeferredRequest::Save
            | DeferredRequest::Part(_)
            | DeferredRequest::Provide(_)
            | DeferredRequest::Withdraw(_)
            | DeferredRequest::Find(_) => HostAnswer::Later(Box::pin(self.ask_host(bytes))),
        }
    }
}

impl HostConnection {
    fn ask_host(&self, bytes: RequestBytes<'_>) -> PendingRequest {
        let id = self.last_asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        lock(&self.asked).insert(id, sender);
        self.send_ask(FrameKind::Ask, id, bytes);
        PendingRequest {
            id,
            answer,
            wire: Weak::clone(&self.own),
        }
    }

    /// Drops the pending request for lines of an event queue that is closed.
    fn forget_pull(&self, event_queue: u64) {
        let left = lock(&self.pulls).remove(&event_queue);
        drop(left);
    }
}
