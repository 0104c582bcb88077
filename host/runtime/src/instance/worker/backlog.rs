//! Commands that the host has handed over and that have not begun, in the order in which they begin.
//!
//! A batch runs for a moment, and then the event loop has its turn: futures are polled, timers fire, pings are answered. What
//! is left of the batch waits here, and whatever comes behind it waits behind it.

use std::collections::VecDeque;

use crate::process::ipc::batch::{Entries, put_entry};
use crate::process::ipc::{Frame, FrameKind, split_u32, split_u64};

/// Memory that is kept for the next job: a batch of usual size fits (bytes).
const SPARE_BYTES_MAX: usize = 128 << 10;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    jobs: VecDeque<Job>,
    /// Those whose guests have too much to read, in the order in which they came.
    aside: VecDeque<Job>,
    /// The memory of one that is over.
    spare: Vec<u8>,
}

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobKind {
    /// Commands that end on the spot.
    Batch,
    /// One command, of any kind.
    Call,
    /// The guest has gone, and what it had sent before comes first.
    Goodbye,
}

/// A batch, or a single call, from the first command that has not begun on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) what: JobKind,
    /// The batch's number, or the call's.
    pub(super) id: u64,
    /// Who sent it.
    pub(super) guest: u64,
    /// The index of its first command in the batch.
    pub(super) place: usize,
    /// Whether it was set aside, so that it begins out of the order of numbers.
    pub(super) is_aside: bool,
    /// What its replies have come to that the room hasn't heard of (bytes).
    pub(super) made: usize,
    /// Commands, as the frames have them.
    commands: Vec<u8>,
    /// How much of that has begun.
    begun: usize,
}

/// A command that is to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct NextCommand<'j> {
    pub(super) index: u32,
    pub(super) arguments: &'j [u8],
}

impl Job {
    /// The first command; `None` where all have begun.
    pub(super) fn next(&self) -> Option<NextCommand<'_>> {
        let (index, arguments) = Entries(&self.commands[self.begun..]).next()?;
        Some(NextCommand { index, arguments })
    }

    /// The first command has begun.
    pub(super) fn advance(&mut self) {
        let mut rest = Entries(&self.commands[self.begun..]);
        let _ = rest.next();
        self.begun = self.commands.len() - rest.0.len();
        self.place += 1;
    }
}

impl Backlog {
    /// Whether nothing waits but for room.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether something waits for room.
    pub(super) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Whether something of that guest waits for room. What comes behind it waits behind it.
    pub(super) fn is_aside(&self, guest: u64) -> bool {
        self.aside.iter().any(|job| job.guest == guest)
    }

    /// Sets a job aside, behind the others.
    pub(super) fn set_aside(&mut self, mut job: Job) {
        job.is_aside = true;
        self.aside.push_back(job);
    }

    /// Takes out what is aside.
    pub(super) fn take_aside(&mut self) -> VecDeque<Job> {
        std::mem::take(&mut self.aside)
    }

    /// Drops what is aside of what was handed over up to that number, but for goodbyes: each with its first command that
    /// never begins.
    pub(super) fn drop_aside(&mut self, last: u64) -> Vec<(u64, usize)> {
        let is_dropped = |job: &Job| job.what != JobKind::Goodbye && job.id <= last;
        let dropped = self.aside.iter().filter(|job| is_dropped(job));
        let dropped = dropped.map(|job| (job.id, job.place)).collect();
        self.aside.retain(|job| !is_dropped(job));
        dropped
    }

    /// Queues what a frame hands over behind all others; from whom it is.
    pub(super) fn push(&mut self, frame: &Frame<'_>) -> u64 {
        let mut commands = std::mem::take(&mut self.spare);
        commands.clear();
        let (what, guest) = match frame.kind {
            FrameKind::Batch => {
                let (guest, entries) = split_u64(frame.payload);
                commands.extend_from_slice(entries);
                (JobKind::Batch, guest)
            }
            FrameKind::Call => {
                let (index, rest) = split_u32(frame.payload);
                let (guest, arguments) = split_u64(rest);
                put_entry(&mut commands, index, arguments);
                (JobKind::Call, guest)
            }
            _ => (JobKind::Goodbye, frame.id),
        };
        self.jobs.push_back(Job {
            what,
            id: frame.id,
            guest,
            place: 0,
            is_aside: false,
            made: 0,
            commands,
            begun: 0,
        });
        guest
    }

    /// Drops a call that nobody waits for and that has not begun.
    pub(super) fn cancel(&mut self, id: u64) {
        let is_other = |job: &Job| job.what != JobKind::Call || job.id != id;
        self.jobs.retain(is_other);
        self.aside.retain(is_other);
    }

    /// Puts a job back that isn't over.
    pub(super) fn put_back(&mut self, job: Job) {
        self.jobs.push_front(job);
    }

    /// The first job.
    pub(super) fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Takes back the memory of a job that is over, for the next one.
    pub(super) fn give_back(&mut self, job: Job) {
        if job.commands.capacity() <= SPARE_BYTES_MAX {
            self.spare = job.commands;
        }
    }
}
