//! What a host and its worker say to each other: length-prefixed frames over a socket pair. Pure data.
//!
//! A frame is its length (u32, little-endian, of what follows it), its kind (u8), an id (u64) and a payload. Both ends are
//! the same executable, so there is no version in it. The host trusts nothing that comes in: a kind that isn't known or a
//! length past the limit is a fault, which is a crash of that worker and nothing more; the buffer grows with what has
//! arrived, never with what a length promises.
//!
//! Commands that end on the spot cross many at a time ([`batch`]): a frame, and whatever either side keeps of it, is paid
//! once for all of them.

pub mod batch;
pub mod hand_off;
pub mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use dae_plugin_api::abi::SINK_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::plugin::completion::ClientState;
use dae_store::manifest::Manifest;
use dae_store::settings::Bounds;

/// The first argument by which the executable knows that it is a worker.
pub(crate) const ARGUMENT: &str = "__dae-worker";

/// Whether this executable, started once more, would know that it is a worker: its `main` has asked. An embedding program
/// that doesn't has no subprocesses.
pub(crate) static WORKERS_POSSIBLE: AtomicBool = AtomicBool::new(false);

/// The payload of [`FrameKind::Visit`].
pub(crate) fn client_byte(state: ClientState) -> u8 {
    match state {
        ClientState::Away => 0,
        ClientState::Open => 1,
        ClientState::Over => 2,
    }
}

/// Reads what [`client_byte`] has written.
pub(crate) fn client_state(payload: &[u8]) -> ClientState {
    match payload.first() {
        Some(1) => ClientState::Open,
        Some(2) => ClientState::Over,
        _ => ClientState::Away,
    }
}

/// What the host tells first.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartMessage {
    /// The process of the host.
    pub host_pid: u32,
    /// The plugin's file, a private copy.
    pub file: PathBuf,
    /// What the host has read in that file.
    pub manifest: Manifest,
    /// The daemon's name.
    pub name: String,
    /// The daemon's port, which its host listens on.
    pub port: u16,
    /// Which instance of the daemon this will be.
    pub generation: u64,
    /// The daemon's own configuration, as JSON.
    pub config: String,
    /// What it is for, where it is not to serve.
    pub trial: Option<PreflightMessage>,
    /// How long the start may take (ms).
    pub start_ms: u64,
    /// What the process may use at most.
    pub bounds: Bounds,
    /// The priority of the process; `None` leaves that of the host.
    pub nice: Option<i32>,
}

/// A trial: the worker ends after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightMessage {
    /// The daemon is started, too, and stopped again; else only loaded, checked, and given the state to read.
    pub starts: bool,
    /// How long each step of its stop may take.
    pub stop_ms: u64,
}

/// What a frame is. Those below 16 go to the worker, and those that say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The plugin to load and who it will be; JSON. Answered by `Loaded` or `Refused`.
    Load = 1,
    /// A command: index (u32), guest (u64), arguments. The id is the call's.
    Call = 2,
    /// Nobody waits for that call any more.
    Cancel = 3,
    /// End in order; the payload is the grace in milliseconds (u64).
    Stop = 4,
    /// Say `Pong`.
    Ping = 5,
    /// The guest of that id has gone.
    GuestGone = 6,
    /// Give the state; answered by `Ended`. The id is the call's.
    Save = 7,
    /// A guest has come, whose id is the payload (u64); answered by `Ended`. The id is the call's.
    GuestCame = 8,
    /// The answer to `Ask`: status (u32), result or text.
    Answered = 9,
    /// How a connection is that the daemon has opened, of that id: one byte ([`client_byte`]).
    Visit = 10,
    /// Commands that end on the spot: guest (u64), and for each index and arguments, as [`batch`] has it. The id is the
    /// batch's. Answered by `Replies`, batch after batch.
    Batch = 11,
    /// A guest is lent, on these terms ([`hand_off`]). The id is the hand-off's. With it comes the guest's socket.
    Lend = 12,
    /// The hand-off of that id is at home again; the worker has nothing of it and closes its copy of the socket.
    Reclaim = 13,
    /// The file of the [hand-off state](crate::process::hand_off) comes with this. It is the first frame, where there is a hand-off state.
    Ledger = 14,
    /// Start what was loaded, from this state: JSON, or nothing. Answered by `Started` or `Refused`.
    Start = 15,
    /// The daemon answers.
    Started = 16,
    /// It isn't loaded, or doesn't start; the text says why.
    Refused = 17,
    /// A call has ended: status (u32), guest (u64), result or text.
    Ended = 18,
    /// A log record; JSON.
    Log = 19,
    /// A line for the guest of that id.
    Emit = 20,
    /// Its background work has ended; JSON.
    RunEnd = 21,
    /// The answer to `Ping`.
    Pong = 22,
    /// The daemon has ended in order; the payload is what went wrong, one text a line.
    Stopped = 23,
    /// The daemon asks something about others: length of the operation (u64), operation, request. Answered by `Answered`.
    Ask = 24,
    /// It doesn't wait for that answer any more.
    AskCancel = 25,
    /// As `Ask`, where no answer is waited for.
    Tell = 26,
    /// The next replies to the batch of that id: for each status and result or text, as [`batch`] has it.
    Replies = 27,
    /// The hand-off of that id is handed back; see [`hand_off`].
    HandBack = 28,
    /// Bytes of a large reply. The frame of that id that says that it is over comes behind the last of them.
    Part = 29,
    /// That batch or call is set aside for want of room; so many of its commands (u32) have begun.
    SetAside = 30,
    /// The plugin is loaded, and nothing of it started.
    Loaded = 31,
    /// That call, which was set aside, has begun.
    Resumed = 32,
    /// Of that batch, which was set aside, the commands from this one (u32) on never begin.
    Dropped = 33,
    /// Whether there is a want of room (a byte): the host is to say at once what guests have read.
    Want = 34,
    /// To the worker: the guest of that id has read so many bytes (u64) of its replies.
    Read = 35,
    /// To the worker: nothing that is set aside and has a number up to this one begins any more. Answered by `Dropped`.
    DropAside = 36,
    /// To the worker: that batch or call goes on, whatever waits for its guest: what waits is held up by it.
    GoOn = 37,
}

const KINDS: [FrameKind; 37] = [
    FrameKind::GoOn,
    FrameKind::Part,
    FrameKind::SetAside,
    FrameKind::Resumed,
    FrameKind::Dropped,
    FrameKind::Want,
    FrameKind::Read,
    FrameKind::DropAside,
    FrameKind::Ledger,
    FrameKind::Lend,
    FrameKind::Reclaim,
    FrameKind::HandBack,
    FrameKind::Batch,
    FrameKind::Replies,
    FrameKind::Load,
    FrameKind::Start,
    FrameKind::Loaded,
    FrameKind::Call,
    FrameKind::Cancel,
    FrameKind::Stop,
    FrameKind::Ping,
    FrameKind::GuestGone,
    FrameKind::Save,
    FrameKind::GuestCame,
    FrameKind::Answered,
    FrameKind::Visit,
    FrameKind::Started,
    FrameKind::Refused,
    FrameKind::Ended,
    FrameKind::Log,
    FrameKind::Emit,
    FrameKind::RunEnd,
    FrameKind::Pong,
    FrameKind::Stopped,
    FrameKind::Ask,
    FrameKind::AskCancel,
    FrameKind::Tell,
];

/// The largest reply that a plugin may give, and what may stand before and behind it: replies of a batch, or of a hand-off (bytes).
const FRAME_BYTES_MAX: usize = SINK_BYTES_MAX + (512 << 10);
/// The largest frame of a log record (bytes): its texts are bounded where they are made, and JSON writes a byte as six at
/// most.
const LOG_FRAME_BYTES_MAX: usize = 1 << 20;
/// What an empty outbox keeps for the next batch (bytes); a batch of usual size fits.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// A reply of this size is large: it is neither copied nor sent in one piece (bytes).
pub(crate) const LARGE_BYTES: usize = 512 << 10;
/// The largest, with what may stand before it (bytes).
pub(crate) const LARGE_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// What goes out of it at a time (bytes). Other frames go out between two of these.
const PART_BYTES: usize = 128 << 10;
/// A frame of replies that has grown to this isn't added to (bytes).
const REPLIES_BYTES_MAX: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = 9;

/// One frame, as it lies in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub kind: FrameKind,
    pub id: u64,
    pub payload: &'a [u8],
}

/// What came is not a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameFault(String);

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a frame whose payload is these parts.
fn put(out: &mut Vec<u8>, kind: FrameKind, id: u64, parts: &[&[u8]]) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    // Everything that is sent was bounded on its way here: lines by `line_bytes_max`, results by the sink's limit.
    let length = u32::try_from(HEAD_BYTES + payload).unwrap_or(u32::MAX);
    out.reserve(LENGTH_BYTES + HEAD_BYTES + payload);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(&id.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A frame by itself.
pub fn whole(kind: FrameKind, id: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame, kind, id, parts);
    frame
}

/// What is to go out and has not yet gone.
#[derive(Debug, Default)]
pub(crate) struct FrameOutbox {
    bytes: Vec<u8>,
    /// How much of it has gone: moving the rest after each write would take a huge reply's time squared.
    sent: usize,
    /// The last frame, where it has replies of a batch, nothing of it has gone, and more may be added.
    open: Option<OpenReplies>,
    /// Large replies, which go out in parts when nothing else is to go.
    large: VecDeque<LargeReply>,
    /// What of them has not gone.
    large_bytes: usize,
}

/// A large reply.
#[derive(Debug)]
struct LargeReply {
    id: u64,
    body: Vec<u8>,
    sent: usize,
    /// The frame that says that it is over.
    last: Vec<u8>,
}

/// Where it begins, and whose it is.
#[derive(Debug, Clone, Copy)]
struct OpenReplies {
    start: usize,
    batch: u64,
}

impl FrameOutbox {
    /// Queues a frame whose payload is these parts.
    pub fn put(&mut self, kind: FrameKind, id: u64, parts: &[&[u8]]) {
        self.open = None;
        put(&mut self.bytes, kind, id, parts);
    }

    /// Queues the next reply of a batch, in one frame with those before it as far as that goes.
    pub(crate) fn put_reply(&mut self, batch: u64, status: u32, bytes: &[u8]) {
        let start = match self.open {
            Some(open) if open.batch == batch => open.start,
            _ => {
                let start = self.bytes.len();
                put(&mut self.bytes, FrameKind::Replies, batch, &[]);
                start
            }
        };
        batch::put_entry(&mut self.bytes, status, bytes);
        let length = self.bytes.len() - start - LENGTH_BYTES;
        // One reply is bounded by the sink's limit.
        let length_bytes = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        self.bytes[start..start + LENGTH_BYTES].copy_from_slice(&length_bytes);
        self.open = (length < REPLIES_BYTES_MAX).then_some(OpenReplies { start, batch });
    }

    /// Queues a large reply, whose frames go out between others, and the frame that says that it is over. Its bytes are not
    /// copied.
    pub(crate) fn put_large(&mut self, id: u64, body: Vec<u8>, last: Vec<u8>) {
        self.large_bytes += body.len() + last.len();
        self.large.push_back(LargeReply {
            id,
            body,
            sent: 0,
            last,
        });
    }

    /// Puts the next part of a large reply where it goes out from; false where there is none.
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

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.large_bytes
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands what waits to `write` until all of it has gone, or until it fails; a full socket is a failure too.
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
            // A huge one's memory is given back.
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        } else if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        result
    }
}

/// What has come in and was not yet taken out.
#[derive(Debug, Default)]
pub struct FrameInbox {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameInbox {
    /// The buffer to read into, with room for `want` more bytes.
    pub fn room(&mut self, want: usize) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // A huge reply's memory is given back.
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * want {
            self.bytes = Vec::new();
        }
        self.bytes.reserve(want);
        &mut self.bytes
    }

    /// The next whole frame, if there is one.
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
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == number);
        let kind =
            kind.ok_or_else(|| FrameFault(format!("a frame of the unknown kind {number}")))?;
        let (id, payload) = split_u64(&frame[1..]);
        Ok(Some(Frame { kind, id, payload }))
    }
}

/// A number off the front of a payload; 0 where there are too few bytes.
pub fn split_u64(bytes: &[u8]) -> (u64, &[u8]) {
    match bytes.split_first_chunk::<8>() {
        Some((number, rest)) => (u64::from_le_bytes(*number), rest),
        None => (0, &[]),
    }
}

/// A text off the front of a payload, behind its length; empty where there are too few bytes, or none of a text.
pub(crate) fn split_text(bytes: &[u8]) -> (&str, &[u8]) {
    let (length, rest) = split_u64(bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match rest.split_at_checked(length) {
        Some((text, rest)) => (std::str::from_utf8(text).unwrap_or_default(), rest),
        None => ("", &[]),
    }
}

/// A number off the front of a payload; 0 where there are too few bytes.
pub(crate) fn split_u32(bytes: &[u8]) -> (u32, &[u8]) {
    match bytes.split_first_chunk::<4>() {
        Some((number, rest)) => (u32::from_le_bytes(*number), rest),
        None => (0, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nonsense_is_a_fault_and_allocates_nothing() {
        for bytes in [[0xff_u8; 16], [0; 16]] {
            let mut inbox = FrameInbox::default();
            inbox.room(16).extend_from_slice(&bytes);
            assert!(inbox.next().is_err());
        }
        let mut inbox = FrameInbox::default();
        inbox
            .room(64)
            .extend_from_slice(&[12, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        assert!(
            inbox
                .next()
                .unwrap_err()
                .to_string()
                .contains("unknown kind 99")
        );
    }

    #[test]
    fn an_outbox_sends_each_byte_once_and_gives_a_huge_ones_memory_back() {
        let mut outbox = FrameOutbox::default();
        let huge = vec![7; 4 * KEPT_BYTES_MAX];
        let (mut sent, mut room) = (Vec::new(), 0);
        outbox.put(FrameKind::Ended, 1, &[&huge]);
        let mut expected = Vec::new();
        put(&mut expected, FrameKind::Ended, 1, &[&huge]);
        while !outbox.is_empty() {
            room = 100_000;
            let result = outbox.write(|bytes| {
                let written = bytes.len().min(room);
                room -= written;
                sent.extend_from_slice(&bytes[..written]);
                match written {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(written),
                }
            });
            assert_eq!(result.is_ok(), outbox.is_empty());
        }
        assert!(room > 0 && sent == expected);
        assert!(outbox.bytes.capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn a_large_reply_goes_out_in_parts_between_other_frames() {
        let mut outbox = FrameOutbox::default();
        let body: Vec<u8> = (0..2 * PART_BYTES + 5).map(|byte| byte as u8).collect();
        outbox.put_large(7, body.clone(), whole(FrameKind::Ended, 7, &[b"end"]));
        let (mut inbox, mut taken, mut parts) = (FrameInbox::default(), Vec::new(), Vec::new());
        let mut room = 3 * PART_BYTES / 2;
        while !outbox.is_empty() {
            let _ = outbox.write(|bytes| {
                let written = bytes.len().min(room);
                room -= written;
                inbox.room(written).extend_from_slice(&bytes[..written]);
                match written {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(written),
                }
            });
            if room == 0 {
                outbox.put(FrameKind::Pong, 0, &[]);
                room = usize::MAX;
            }
            while let Some(frame) = inbox.next().unwrap() {
                taken.push(frame.kind);
                if frame.kind == FrameKind::Part {
                    parts.extend_from_slice(frame.payload);
                }
            }
        }
        let (part, pong, ended) = (FrameKind::Part, FrameKind::Pong, FrameKind::Ended);
        assert_eq!(taken, [part, part, pong, part, ended]);
        assert!(parts == body);
    }

    #[test]
    fn replies_share_a_frame_until_something_else_goes_out() {
        let mut outbox = FrameOutbox::default();
        outbox.put_reply(7, 1, b"a");
        outbox.put_reply(7, 2, b"bc");
        outbox.put(FrameKind::Emit, 3, &[b"tick [1]"]);
        outbox.put_reply(7, 3, b"");
        outbox.put_reply(8, 4, &vec![b'x'; REPLIES_BYTES_MAX]);
        outbox.put_reply(8, 5, b"y");
        let mut inbox = FrameInbox::default();
        inbox.room(0).extend_from_slice(&outbox.bytes);
        let mut came = Vec::new();
        while let Some(frame) = inbox.next().unwrap() {
            came.push((frame.kind, frame.id, batch::count(frame.payload)));
        }
        let replies = |id, count| (FrameKind::Replies, id, Some(count));
        let (emit, last) = ((FrameKind::Emit, 3, None), replies(8, 1));
        assert_eq!(
            came,
            [replies(7, 2), emit, replies(7, 1), replies(8, 1), last]
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            sent in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
            at in 1_usize..40,
        ) {
            let mut bytes = Vec::new();
            for (id, payload) in &sent {
                put(&mut bytes, FrameKind::Ended, *id, &[payload]);
            }
            let mut inbox = FrameInbox::default();
            let mut came = Vec::new();
            for chunk in bytes.chunks(at) {
                inbox.room(chunk.len()).extend_from_slice(chunk);
                while let Some(frame) = inbox.next().unwrap() {
                    prop_assert_eq!(frame.kind, FrameKind::Ended);
                    came.push((frame.id, frame.payload.to_vec()));
                }
            }
            prop_assert_eq!(came, sent);
        }
    }
}
