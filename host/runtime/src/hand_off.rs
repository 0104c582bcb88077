//! The hand-off of busy guests: the whole protocol between a host and the worker process of a daemon.
//!
//! A busy guest's socket is handed off to its daemon's own process, which then reads its lines and writes its replies
//! itself. So a command costs there what it costs in-process. The connection stays the host's, which keeps its own
//! descriptor. `host/docs/design/socket-hand-off.md` has the reasons and the figures. This page has the rules; each file has
//! the details of its part.
//!
//! # States
//!
//! Each hand-off has an id, which is never used again, and a slot in the shared memory (`slot`). The word of the slot
//! decides which side may act:
//!
//! - **free**: the guest is the host's.
//! - **handed off**: it rests. The worker may pick it up, and the host may take it.
//! - **held**: the worker has picked it up. That period is a *turn*: the worker reads once, runs the lines, writes the
//!   replies, and releases the guest. While it reads or writes, it is also *busy*.
//! - **wanted**: the host has asked for it. The worker begins no further line and hands it back.
//! - **seized**: the host has taken it during a turn. Nothing that the worker does affects it any more.
//!
//! # Messages
//!
//! Frames ([`crate::process::ipc`]) cross beside the shared memory:
//!
//! | frame | from | meaning |
//! |---|---|---|
//! | `SharedMemory` | host | the first frame of all; the file of the shared memory comes with it |
//! | `HandOff` | host | the [`Terms`]; the guest's socket comes with it |
//! | `HandBack` | worker | the guest returns, with what the worker has left over ([`HandedBack`]) |
//! | `Reclaim` | host | the guest is the host's; the worker closes its copy of the socket |
//!
//! A request for a guest is no frame: it is a bit of the slot, which the worker looks at before each line.
//!
//! # The return of a guest
//!
//! - **Recall.** The host takes a guest that is handed off, at once. It asks for a guest that is held, and the worker
//!   hands it back at the next line. Reasons: a reload, an event, the end of the daemon, a second of silence.
//! - **Hand-back.** The worker returns the guest unasked if it meets a command that doesn't end at once. If that is an async
//!   command which has begun and waits, the worker goes on with it, and sends its end as that of a call with the hand-off's id.
//! - **Seizure.** If the command does not end, the host first closes the turn by the word of the line (`line`), so that
//!   no further line begins, and then seizes the guest by the word of the slot. It reads the worker's unfinished work
//!   ([`HandOffState::lost_work`]), answers the line that had begun with an error, and goes on with the rest.
//! - **Death.** When the process and its group are gone, the host reads the unfinished work in the same way.
//!
//! # Shared memory
//!
//! It outlives the worker (`memory`): the words of the slots, the position and progress of the worker in its turn, the
//! bytes that it has read and not answered, and the replies that are not written. The worker records each step before
//! it takes the next one. The kernel reports the rest: the numbers of bytes that were read and written ([`socket`]). So
//! the host knows which lines are answered, which one had begun, and which ones never will. No command
//! runs twice, and none is lost but the one that was running. The memory also holds the worker's progress with commands
//! that came in frames (`progress`), and its counters.
//!
//! Neither side makes a reference to plain data in the memory. The worker may be faulty or taken over: the host reads
//! each word and byte once and atomically (`buffer`), checks what it has read, and ends a worker whose slots no rule can
//! have produced.
//!
//! # Memory ordering
//!
//! Host and worker are two processes, so nothing orders their accesses but these words. Each decision is one
//! read-modify-write of one word:
//!
//! | decision | word |
//! |---|---|
//! | pick-up or recall; release or request; seizure or hand-back | the slot |
//! | begin of a line or end of the turn | the line |
//! | begin of a command or withdrawal | the progress |
//!
//! No decision is a handshake over two words ("write mine, then read yours"), which would need a `SeqCst` fence on both
//! sides. The loser of each decision learns of it from the same word. All changes are `AcqRel`: they release what their
//! side has done, and acquire what the other side did. What is written beside these words has one writer, and is
//! released with the next step. Nothing depends on a pause: a side that waits looks again at the word that it waits for.
//! The files `slot`, `line`, `state` and `progress` have the argument for each access. `model` checks them: loom runs
//! the shipped files in all orders with at most three interruptions of a thread.
//!
//! # Limits
//!
//! `SLOTS` guests of one worker at a time, and at most one in four of its descriptors. `TAKEN_BYTES` of lines and
//! `MADE_BYTES` of replies in a turn. One guest has a turn at a time. Linux only: other systems lack the kernel's
//! counts.
//!
//! # Who uses it
//!
//! The task of a connection decides when to hand its guest off, and continues after the return
//! (`session::guest::hand_off`). The connection to the worker sends the frames (`process::subprocess::hand_offs`). The
//! worker's instance runs the commands (`instance::worker::hand_offs`).

mod atomics;
mod buffer;
mod cursor;
mod host;
mod line;
mod mapping;
mod memory;
mod messages;
mod progress;
mod slot;
mod socket;
mod state;
mod threshold;
mod worker;

pub(crate) use host::{HandOff, HostHandOffs, RecallReason, Returned, WorkerLink};
pub(crate) use messages::{HandedBack, Terms};
pub(crate) use progress::{Begun, CommandPosition};
pub(crate) use state::{HandOffState, Position};
pub(crate) use threshold::HandOffThreshold;
pub(crate) use worker::{AbortOnPanic, ServedDaemon, Started, WaitingCommand, WorkerHandOffs};

#[cfg(all(test, target_os = "linux"))]
mod model;
#[cfg(all(test, target_os = "linux"))]
mod tests;
