//! The progress of a worker with the commands that it was sent, visible to both sides at any moment.
//!
//! A worker begins commands in the order of the ids that its host assigned. Before it begins one, it moves one word
//! forward by compare-and-swap. To withdraw commands, the host moves the same word past them. So a single word decides
//! whether a command has begun or never will, and the host need not wait for a stuck worker.
//!
//! A second pair of words tells the host which command the worker's thread runs, and since when. Nothing is decided by
//! it alone: the host only chooses by it when to withdraw commands.
//!
//! # Memory ordering
//!
//! The word of the progress is only changed by compare-and-swap, so the changes of both processes have one order. The
//! pair is written in the order start 0, command, start. `Release` and `Acquire` suffice for the host to tell that both
//! belong together: a start that it sees makes the command known that was stored before it, so the second look at the
//! command differs if the start is a later one's; and a command that it sees makes the 0 known that was stored before
//! it, so the start is not an earlier one's.
//!
//! A batch that was set aside because the reply budget is used up is not in that order. The worker reports it, and its
//! later progress, in frames.

use std::time::Duration;

use super::atomics::{AtomicU64, Ordering};
use super::state::HandOffState;
use crate::os::clock::monotonic_ns;

/// The lowest bit of a batch's or call's id in a word. The bits below hold the index of a command in its batch.
const ID_SHIFT: u32 = 16;
/// The index that stands for a whole batch. No batch has that many commands: each takes at least 8 of its batch's 64
/// KiB.
const ALL: u64 = (1 << ID_SHIFT) - 1;

/// The words in the shared memory. All zero is a worker that has begun nothing.
#[repr(C)]
pub(super) struct Progress {
    /// The last command begun in the order of ids, or the last one that the host has withdrawn.
    pub(super) front: AtomicU64,
    /// The command that the worker's thread runs, and its start by the system's monotonic clock. A start of 0 means
    /// none.
    pub(super) at: AtomicU64,
    pub(super) since_ns: AtomicU64,
}

/// The part of a batch or call that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing.
    None,
    /// This many of its commands.
    Some(usize),
    /// All of it.
    All,
}

impl Begun {
    /// Reads from a word how much of a batch or call has begun.
    fn of(word: u64, id: u64) -> Self {
        match (word >> ID_SHIFT).cmp(&id) {
            std::cmp::Ordering::Less => Begun::None,
            std::cmp::Ordering::Greater => Begun::All,
            std::cmp::Ordering::Equal if word & ALL == ALL => Begun::All,
            std::cmp::Ordering::Equal => Begun::Some((word & ALL) as usize + 1),
        }
    }
}

/// The worker's progress at the time when its host withdrew commands.
#[derive(Debug, Clone, Copy)]
pub struct CommandPosition(u64);

impl CommandPosition {
    /// Returns how much of a batch or call had begun by then.
    pub fn begun(self, id: u64) -> Begun {
        Begun::of(self.0, id)
    }
}

/// A command that the worker's thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningCommand {
    /// The id of its batch or call.
    pub id: u64,
    /// Its index in the batch.
    pub index: usize,
    /// The time since its start.
    pub time: Duration,
}

/// The host's side.
impl HandOffState {
    /// Returns how much of a batch or call has begun.
    pub fn begun(&self, id: u64) -> Begun {
        Begun::of(self.memory.progress.front.load(Ordering::Acquire), id)
    }

    /// Returns the command that the worker's thread runs, or `None` if it runs none.
    pub fn running(&self) -> Option<RunningCommand> {
        let (word, since) = self.running_words()?;
        (since != 0).then(|| RunningCommand {
            id: word >> ID_SHIFT,
            index: (word & ALL) as usize,
            // The start is the worker's claim: one in the future counts as no time.
            time: Duration::from_nanos(monotonic_ns().saturating_sub(since)),
        })
    }

    /// Returns the word of a command and its start, which belong together.
    pub(super) fn running_words(&self) -> Option<(u64, u64)> {
        let Progress { at, since_ns, .. } = &self.memory.progress;
        // A worker that changes the words at each attempt runs many commands, none of which takes long.
        for _ in 0..8 {
            let word = at.load(Ordering::Acquire);
            let since = since_ns.load(Ordering::Acquire);
            // If the first word is unchanged, both belong to one command.
            if at.load(Ordering::Relaxed) == word {
                return Some((word, since));
            }
        }
        None
    }

    /// Withdraws all commands up to and including that batch or call that have not begun: they never will. Returns the
    /// worker's progress at that time.
    pub(crate) fn withdraw(&self, up_to: u64) -> CommandPosition {
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let past = up_to << ID_SHIFT | ALL;
        let push = |front| (front < past).then_some(past);
        let before = self.memory.progress.front.fetch_update(set, failed, push);
        CommandPosition(before.unwrap_or_else(|front| front))
    }
}

/// The worker's side.
impl HandOffState {
    /// Begins a command in the order of ids. Returns false if it was withdrawn. `last` caches the word between calls.
    pub fn begin(&self, last: &mut u64, id: u64, index: usize) -> bool {
        let front = &self.memory.progress.front;
        let next = id << ID_SHIFT | index as u64 & ALL;
        let (set, failed) = (Ordering::AcqRel, Ordering::Acquire);
        while let Err(now) = front.compare_exchange(*last, next, set, failed) {
            if now >= next {
                return false;
            }
            *last = now;
        }
        *last = next;
        true
    }

    /// Records that this thread runs a command.
    pub fn run(&self, id: u64, index: usize, since_ns: u64) {
        let Progress {
            at,
            since_ns: since,
            ..
        } = &self.memory.progress;
        // While the two words do not match, the start of 0 means that there is no command.
        since.store(0, Ordering::Release);
        at.store(id << ID_SHIFT | index as u64 & ALL, Ordering::Release);
        since.store(since_ns, Ordering::Release);
    }

    /// Records that this thread runs no command.
    pub fn rest(&self) {
        self.memory.progress.since_ns.store(0, Ordering::Release);
    }
}
