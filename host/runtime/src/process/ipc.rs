//! The protocol between a host and its worker: length-prefixed frames over a socket pair. Pure data.
//!
//! A frame is its length (u32, little-endian, of what follows it), its kind (u8), an id (u64) and a payload. Both ends
//! are the same executable, so frames carry no version. The host trusts nothing that comes in. An unknown kind or an
//! excessive length is a fault: the host treats it as a crash of that worker, and nothing else is affected. The buffer
//! grows with the bytes that have arrived, never with a promised length.
//!
//! Immediate commands (those that end within one call) are sent many at a time ([`batch`]), so that they share the cost
//! of a frame and of the records that either side keeps of it.

pub mod batch;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use dae_plugin_api::abi::SINK_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::plugin::completion::ClientState;
use crate::plugin::host_request::RequestBytes;
use crate::plugin::payload::split_sized;
pub(crate) use crate::plugin::payload::{split_u32, split_u64};
use dae_store::manifest::Manifest;
use dae_store::settings::Bounds;

/// The first argument, which marks the process as a worker.
pub(crate) const ARGUMENT: &str = "__dae-worker";

/// True if this executable, started once more, would run as a worker: its `main` has checked for that. An embedding
/// program that does not check has no subprocesses.
pub(crate) static WORKERS_POSSIBLE: AtomicBool = AtomicBool::new(false);

/// Reads the payload of [`FrameKind::ClientState`].
pub(crate) fn client_state(payload: &[u8]) -> ClientState {
    let state = payload.first().copied().and_then(ClientState::from_repr);
    state.unwrap_or(ClientState::Away)
}

/// The first message from the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartMessage {
    /// The process id of the host.
    pub host_pid: u32,
    /// The plugin's file, a private copy.
    pub file: PathBuf,
    /// The manifest that the host has read in that file.
    pub manifest: Manifest,
    /// The daemon's name.
    pub name: String,
    /// The daemon's port, which its host listens on.
    pub port: u16,
    /// The number of this instance of the daemon.
    pub generation: u64,
    /// The daemon's own configuration, as JSON.
    pub config: String,
    /// The preflight to run; `None` for an instance that serves.
    pub preflight: Option<PreflightMessage>,
    /// The limit for the start (ms).
    pub start_ms: u64,
    /// The environment variables that the process is given beside the usual ones.
    pub env: BTreeMap<String, String>,
    /// The limits on the resources of the process.
    pub bounds: Bounds,
    /// The priority of the process; `None` keeps the host's.
    pub nice: Option<i32>,
    /// True if the background work waits for `Run`.
    pub is_held: bool,
}

/// A preflight; the worker ends after it unless it `stays`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightMessage {
    /// True if the daemon is also started and stopped. Otherwise it is only loaded, checked, and given the state to
    /// read.
    pub starts: bool,
    /// The limit for each step of its stop (ms).
    pub stop_ms: u64,
    /// True if the worker waits for the `Load` of another preflight once its file has passed.
    pub stays: bool,
}

/// The kind of a frame. Those below 16 go to the worker, and so do those that say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::FromRepr)]
#[repr(u8)]
pub enum FrameKind {
    /// The plugin to load and the identity of its daemon; JSON. Answered by `Loaded` or `Refused`.
    Load = 1,
    /// A command: index (u32), guest (u64), the number for its parts or 0 (u64), arguments. The id is the call's.
    Call = 2,
    /// The cancellation of a call: nothing waits for it any more.
    Cancel = 3,
    /// A request to end in order; the payload is the grace period in milliseconds (u64).
    Stop = 4,
    /// A request for a `Pong`.
    Ping = 5,
    /// A notice that the guest of that id has gone.
    GuestGone = 6,
    /// A request for the state or a part of it, whose number is the payload (u8); answered by `Ended`. The id is the call's.
    Save = 7,
    /// A notice that a guest has come, whose id is the payload (u64); answered by `Ended`. The id is the call's.
    GuestCame = 8,
    /// The answer to `Ask`: status (u32), result or text.
    Answered = 9,
    /// The state of the daemon's client of that id: one byte, a [`ClientState`].
    ClientState = 10,
    /// Immediate commands: guest (u64), and the index and arguments of each as entries ([`batch`]). The id is the
    /// batch's. Answered by `Replies`, one batch after the other.
    Batch = 11,
    /// A hand-off of a guest, with its [terms](crate::hand_off::Terms). The id is the hand-off's. The guest's socket comes with
    /// the frame.
    HandOff = 12,
    /// The end of the hand-off of that id: the host has the guest, and the worker closes its copy of the socket.
    Reclaim = 13,
    /// The frame with which the file of the [hand-off state](crate::hand_off) comes. If there is such a state,
    /// this is the first frame.
    SharedMemory = 14,
    /// A request to start the loaded daemon from this state: JSON, or nothing. If the id isn't 0, it is the length of a
    /// state that comes as a file. Answered by `Started` or `Refused`.
    Start = 15,
    /// A notice that the daemon has started.
    Started = 16,
    /// A notice that the plugin is not loaded, or the daemon does not start; the text is the reason, and the id is the
    /// number of its [kind](crate::plugin::start_fault::StartFaultKind).
    Refused = 17,
    /// The end of a call: status (u32), which may have the mark [`AT_ONCE`], guest (u64), result or text.
    Ended = 18,
    /// A log record; JSON.
    Log = 19,
    /// A line for the guest of that id.
    Emit = 20,
    /// The end of the daemon's background work; JSON.
    RunEnd = 21,
    /// The answer to `Ping`.
    Pong = 22,
    /// The orderly end of the daemon; the payload lists what went wrong, one text per line.
    Stopped = 23,
    /// A host API request: length of the operation (u64), operation, request. Answered by `Answered`.
    Ask = 24,
    /// The cancellation of an `Ask`.
    AskCancel = 25,
    /// An `Ask` that gets no answer.
    Tell = 26,
    /// The next replies to the batch of that id: the status and the result or text of each, as entries ([`batch`]).
    Replies = 27,
    /// The worker's return of the guest of that hand-off; see [`HandedBack`](crate::hand_off::HandedBack).
    HandBack = 28,
    /// Bytes of a large reply. After the last of them comes the frame of that id that ends the reply.
    Part = 29,
    /// A notice that this batch or call is set aside, because the reply budget is used up, after this many of its
    /// commands (u32) have begun.
    SetAside = 30,
    /// A notice that the plugin is loaded, and none of it is started. The payload is the schemas that its code has made,
    /// JSON; empty if there are none. With the id 1 it is the reason why it could not make them.
    Loaded = 31,
    /// A notice that this call, which was set aside, has begun.
    Resumed = 32,
    /// A notice that of this batch or call, which was set aside, the commands from this index (u32) on never begin.
    Dropped = 33,
    /// A byte that is 1 while the reply budget is short: then the host reports at once what guests have read.
    Want = 34,
    /// To the worker: the guest of that id has read this many bytes (u64) of its replies.
    Read = 35,
    /// To the worker: nothing that is set aside and has an id up to this one begins any more. Answered by `Dropped`.
    DropAside = 36,
    /// To the worker: that batch or call goes on despite the reply budget, because its guest's other replies wait for
    /// its own.
    GoOn = 37,
    /// A notice that the plugin is loaded, and its code makes its schemas. `Loaded` follows.
    Describing = 38,
    /// In both directions: the [span](crate::threads::trace) that the next frame works for, a `Call`, an `Ask` or a `Tell`.
    Trace = 39,
    /// The answer to a `Save` whose state is large: its length (u64). Answered by `TakeState`.
    StateReady = 40,
    /// To the worker: a byte that is 1 if a file for that state comes with this frame. Answered by `Ended`.
    TakeState = 41,
    /// To the worker: a request to carry out the changes of this delta; answered by `Ended`. The id is the call's.
    Apply = 42,
    /// To the worker: the background work begins.
    Run = 43,
    /// To the worker: it is in reserve, and waits for a `Load`.
    Wait = 44,
}

/// The mark on the status of a command that was a future and did not have to wait. No status is as large.
pub(crate) const AT_ONCE: u32 = 1 << 31;

/// The mark on the status of a save whose state is in the file that the host has lent.
pub(crate) const IN_FILE: u32 = 1 << 30;

/// The size from which a state crosses as a file (bytes). A smaller one is sent and copied in less time than a file
/// takes to make and to map.
pub(crate) const LARGE_STATE_BYTES: usize = 64 << 10;

/// The size from which a state is worth telling the allocator of (bytes).
pub const HUGE_STATE_BYTES: usize = 4 << 20;

/// The largest frame (bytes): the largest reply that a plugin may give, and what may come before and after it, such as
/// the replies of a batch or of a hand-off.
const FRAME_BYTES_MAX: usize = SINK_BYTES_MAX + (512 << 10);
/// The largest frame of a log record (bytes). Its texts are bounded where they are made, and JSON writes a byte as six
/// at most.
const LOG_FRAME_BYTES_MAX: usize = 1 << 20;
/// The memory that an empty outbox keeps for the next batch (bytes); a batch of usual size fits.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// The size from which a reply is large (bytes): it is neither copied nor sent in one piece.
pub(crate) const LARGE_BYTES: usize = 512 << 10;
/// The largest reply, with what may come before it (bytes).
pub(crate) const LARGE_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// The part of a large reply that is sent at a time (bytes). Other frames are sent between two parts.
const PART_BYTES: usize = 128 << 10;
/// The size from which a frame of replies gets no more of them (bytes).
const REPLIES_BYTES_MAX: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = 9;

/// A frame in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub kind: FrameKind,
    pub id: u64,
    pub payload: &'a [u8],
}

/// The reason why incoming bytes are not a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameFault(String);

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a frame whose payload consists of these parts.
fn put(out: &mut Vec<u8>, kind: FrameKind, id: u64, parts: &[&[u8]]) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    // Everything that is sent was bounded before: lines by `line_bytes_max`, results by the sink's limit.
    let length = u32::try_from(HEAD_BYTES + payload).unwrap_or(u32::MAX);
    out.reserve(LENGTH_BYTES + HEAD_BYTES + payload);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(&id.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A reply to a command of a batch.
struct BatchReply<'a> {
    batch: u64,
    status: u32,
    bytes: &'a [u8],
}

/// Appends a reply of a batch to the frame that starts at `open`, or to a new frame. Returns the start of the frame if it
/// takes more replies.
fn append_reply(out: &mut Vec<u8>, open: Option<usize>, reply: &BatchReply<'_>) -> Option<usize> {
    let start = open.unwrap_or_else(|| {
        let start = out.len();
        put(out, FrameKind::Replies, reply.batch, &[]);
        start
    });
    batch::put_entry(out, reply.status, reply.bytes);
    let length = out.len() - start - LENGTH_BYTES;
    // One reply is bounded by the sink's limit.
    let length_bytes = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    out[start..start + LENGTH_BYTES].copy_from_slice(&length_bytes);
    (length < REPLIES_BYTES_MAX).then_some(start)
}

/// Returns a single frame.
pub fn whole(kind: FrameKind, id: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame, kind, id, parts);
    frame
}

/// The bytes that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct FrameOutbox {
    bytes: Vec<u8>,
    /// The number of bytes sent. Moving the rest after each write would take quadratic time for a huge reply.
    sent: usize,
    /// The last frame, if it holds replies of a batch, none of it is sent, and more replies may be added.
    open: Option<OpenReplies>,
    /// Large replies, which are sent in parts when nothing else waits.
    large: VecDeque<LargeReply>,
    /// The number of their unsent bytes.
    large_bytes: usize,
}

/// A large reply.
#[derive(Debug)]
struct LargeReply {
    id: u64,
    body: Vec<u8>,
    sent: usize,
    /// The frame that ends the reply, and the frames that must follow it.
    last: Vec<u8>,
    /// The start of the last frame in `last`, if it takes more replies of the batch.
    open: Option<usize>,
}

/// The start of the open frame, and its batch.
#[derive(Debug, Clone, Copy)]
struct OpenReplies {
    start: usize,
    batch: u64,
}

impl FrameOutbox {
    /// Queues a frame whose payload consists of these parts.
    pub fn put(&mut self, kind: FrameKind, id: u64, parts: &[&[u8]]) {
        self.open = None;
        put(&mut self.bytes, kind, id, parts);
    }

    /// Queues the next reply of a batch, in one frame with those before it if possible.
    pub(crate) fn put_reply(&mut self, batch: u64, status: u32, bytes: &[u8]) {
        let reply = BatchReply {
            batch,
            status,
            bytes,
        };
        // The replies of a batch keep their order: this one follows a large one of the batch that is not sent yet.
        if let Some(large) = self.large.iter_mut().rfind(|large| large.id == batch) {
            let before = large.last.len();
            large.open = append_reply(&mut large.last, large.open, &reply);
            self.large_bytes += large.last.len() - before;
            return;
        }
        let open = self.open.filter(|open| open.batch == batch);
        let open = open.map(|open| open.start);
        let open = append_reply(&mut self.bytes, open, &reply);
        self.open = open.map(|start| OpenReplies { start, batch });
    }

    /// Queues a large reply, which is sent in parts between other frames, and the frame that ends it. Its bytes are not
    /// copied here.
    pub(crate) fn put_large(&mut self, id: u64, body: Vec<u8>, last: Vec<u8>) {
        self.large_bytes += body.len() + last.len();
        self.large.push_back(LargeReply {
            id,
            body,
            sent: 0,
            last,
            open: None,
        });
    }

    /// Moves the next part of a large reply to the bytes to send. Returns false if there is none.
    fn take_part(&mut self) -> bool {
        let Some(large) = self.large.front_mut() else {
            return false;
        };
        let rest = &large.body[large.sent..];
        if rest.is_empty() {
            self.bytes.extend_from_slice(&large.last);
            self.large_bytes -= large.last.len();
            self.large.pop_front();
            return true;
        }
        let part = &rest[..rest.len().min(PART_BYTES)];
        large.sent += part.len();
        self.large_bytes -= part.len();
        put(&mut self.bytes, FrameKind::Part, large.id, &[part]);
        true
    }

    /// Returns how many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.large_bytes
    }

    /// Returns whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Passes the waiting bytes to `write` until all are sent, or until it fails; a full socket is a failure, too.
    pub fn write(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        self.open = None;
        let mut result = Ok(());
        loop {
            while result.is_ok() && self.sent < self.bytes.len() {
                result = write(&self.bytes[self.sent..]).map(|written| self.sent += written);
            }
            if result.is_err() {
                break;
            }
            self.sent = 0;
            self.bytes.clear();
            if !self.take_part() {
                break;
            }
        }
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            // Frees the memory of a huge reply.
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        } else if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        result
    }
}

/// The bytes that came in and were not yet taken out.
#[derive(Debug, Default)]
pub struct FrameInbox {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameInbox {
    /// Returns the buffer to read into, with room for `want` more bytes.
    pub fn room(&mut self, want: usize) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // Frees the memory of a huge reply.
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * want {
            self.bytes = Vec::new();
        }
        self.bytes.reserve(want);
        &mut self.bytes
    }

    /// Returns the next whole frame, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, FrameFault> {
        let rest = &self.bytes[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            let text = format!(
                "a frame of {length} bytes, where {HEAD_BYTES} to {FRAME_BYTES_MAX} are possible"
            );
            return Err(FrameFault(text));
        }
        if length > LOG_FRAME_BYTES_MAX && rest.first() == Some(&(FrameKind::Log as u8)) {
            let text =
                format!("a log record of {length} bytes, where {LOG_FRAME_BYTES_MAX} are the most");
            return Err(FrameFault(text));
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        self.start += LENGTH_BYTES + length;
        let number = frame[0];
        let kind = FrameKind::from_repr(number)
            .ok_or_else(|| FrameFault(format!("a frame of the unknown kind {number}")))?;
        let (id, payload) = split_u64(&frame[1..]);
        Ok(Some(Frame { kind, id, payload }))
    }
}

/// Returns the operation and the payload of a request in a frame. They are empty if there are too few bytes or the
/// operation is not UTF-8.
pub(crate) fn request(payload: &[u8]) -> RequestBytes<'_> {
    let (operation, payload) = split_sized(payload).unwrap_or_default();
    RequestBytes {
        operation: std::str::from_utf8(operation).unwrap_or_default(),
        payload,
    }
}

#[cfg(test)]
mod tests;
