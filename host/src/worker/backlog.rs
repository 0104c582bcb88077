//! Commands that the host has handed over and that have not begun, in the order in which they begin.
//!
//! A batch runs for a moment, and then the event loop has its turn: futures are polled, timers fire, pings are answered. What
//! is left of the batch waits here, and whatever comes behind it waits behind it.

use std::collections::VecDeque;

use crate::frame::batch::{Entries, put_entry};
use crate::frame::{Frame, Kind, split_u32, split_u64};

/// Memory that is kept for the next job: a batch of usual size fits (bytes).
const SPARE_BYTES_MAX: usize = 128 << 10;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    jobs: VecDeque<Job>,
    /// The memory of one that is over.
    spare: Vec<u8>,
}

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
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
    pub(super) what: What,
    /// The batch's number, or the call's.
    pub(super) id: u64,
    /// Who sent it.
    pub(super) guest: u64,
    /// The index of its first command in the batch.
    pub(super) place: usize,
    /// Commands, as the frames have them.
    commands: Vec<u8>,
    /// How much of that has begun.
    begun: usize,
}

/// A command that is to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next<'j> {
    pub(super) index: u32,
    pub(super) arguments: &'j [u8],
}

impl Job {
    /// The first command; `None` where all have begun.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        let (index, arguments) = Entries(&self.commands[self.begun..]).next()?;
        Some(Next { index, arguments })
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
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Queues what a frame hands over behind all others; from whom it is.
    pub(super) fn push(&mut self, frame: &Frame<'_>) -> u64 {
        let mut commands = std::mem::take(&mut self.spare);
        commands.clear();
        let (what, guest) = match frame.kind {
            Kind::Batch => {
                let (guest, entries) = split_u64(frame.payload);
                commands.extend_from_slice(entries);
                (What::Batch, guest)
            }
            Kind::Call => {
                let (index, rest) = split_u32(frame.payload);
                let (guest, arguments) = split_u64(rest);
                put_entry(&mut commands, index, arguments);
                (What::Call, guest)
            }
            _ => (What::Goodbye, frame.id),
        };
        self.jobs.push_back(Job {
            what,
            id: frame.id,
            guest,
            place: 0,
            commands,
            begun: 0,
        });
        guest
    }

    /// Drops a call that nobody waits for and that has not begun.
    pub(super) fn cancel(&mut self, id: u64) {
        self.jobs
            .retain(|job| job.what != What::Call || job.id != id);
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
