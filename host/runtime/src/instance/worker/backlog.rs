//! Commands that the host has handed over and that have not begun, in the order in which they begin.
//!
//! A batch runs for a short time, and then the event loop runs: it polls futures, fires timers and answers pings. The
//! rest of the batch waits here, and later commands wait behind it.

use std::collections::VecDeque;

use crate::process::ipc::batch::{Entries, put_entry};
use crate::process::ipc::{Frame, FrameKind, split_u32, split_u64};
use crate::threads::trace::TraceSpan;

/// The most memory that is kept for the next job (bytes); a batch of usual size fits.
const SPARE_BYTES_MAX: usize = 128 << 10;

/// The queue of jobs that have not finished.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    jobs: VecDeque<Job>,
    /// Jobs whose guests have too much unread, in the order in which they came.
    aside: VecDeque<Job>,
    /// The memory of a finished job.
    spare: Vec<u8>,
}

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobKind {
    /// Commands that end on the spot.
    Batch,
    /// One command, of any kind.
    Call,
    /// The guest has left. Its earlier commands run first.
    Goodbye,
}

/// The part of a batch, or a single call, that has not begun.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) what: JobKind,
    /// The number of the batch or of the call.
    pub(super) id: u64,
    /// The guest that sent it.
    pub(super) guest: u64,
    /// The number of the call for its parts; 0 if its caller takes none.
    pub(super) parts: u64,
    /// Its span, if it is a command of a trace.
    pub(super) span: Option<TraceSpan>,
    /// The index in the batch of its next command.
    pub(super) place: usize,
    /// True if it was set aside, so that it begins outside the order of numbers.
    pub(super) is_aside: bool,
    /// The reply bytes that are not in the reply budget yet.
    pub(super) made: usize,
    /// The commands, in the frames' format.
    commands: Vec<u8>,
    /// The number of bytes of `commands` that have begun.
    begun: usize,
}

/// The next command of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct NextCommand<'j> {
    pub(super) index: u32,
    pub(super) arguments: &'j [u8],
}

impl Job {
    /// Returns the next command, or `None` if all have begun.
    pub(super) fn next(&self) -> Option<NextCommand<'_>> {
        let (index, arguments) = Entries(&self.commands[self.begun..]).next()?;
        Some(NextCommand { index, arguments })
    }

    /// Notes that the next command has begun.
    pub(super) fn advance(&mut self) {
        let mut rest = Entries(&self.commands[self.begun..]);
        let _ = rest.next();
        self.begun = self.commands.len() - rest.0.len();
        self.place += 1;
    }
}

impl Backlog {
    /// Returns whether no job waits, except for those set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Returns whether a job is set aside.
    pub(super) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Returns whether a job of that guest is set aside. Later jobs of the guest must wait behind it.
    pub(super) fn is_aside(&self, guest: u64) -> bool {
        self.aside.iter().any(|job| job.guest == guest)
    }

    /// Sets a job aside, behind the others.
    pub(super) fn set_aside(&mut self, mut job: Job) {
        job.is_aside = true;
        self.aside.push_back(job);
    }

    /// Takes out all jobs that were set aside.
    pub(super) fn take_aside(&mut self) -> VecDeque<Job> {
        std::mem::take(&mut self.aside)
    }

    /// Drops jobs that were set aside and handed over up to that number, except for goodbyes. Returns the number of
    /// each, and the index of its first command that never begins.
    pub(super) fn drop_aside(&mut self, last: u64) -> Vec<(u64, usize)> {
        let is_dropped = |job: &Job| job.what != JobKind::Goodbye && job.id <= last;
        let dropped = self.aside.iter().filter(|job| is_dropped(job));
        let dropped = dropped.map(|job| (job.id, job.place)).collect();
        self.aside.retain(|job| !is_dropped(job));
        dropped
    }

    /// Adds a frame's job at the end of the queue. Returns its guest.
    pub(super) fn push(&mut self, frame: &Frame<'_>, span: Option<TraceSpan>) -> u64 {
        let mut commands = std::mem::take(&mut self.spare);
        commands.clear();
        let mut parts = 0;
        let (what, guest) = match frame.kind {
            FrameKind::Batch => {
                let (guest, entries) = split_u64(frame.payload);
                commands.extend_from_slice(entries);
                (JobKind::Batch, guest)
            }
            FrameKind::Call => {
                let (index, rest) = split_u32(frame.payload);
                let (guest, rest) = split_u64(rest);
                let arguments;
                (parts, arguments) = split_u64(rest);
                put_entry(&mut commands, index, arguments);
                (JobKind::Call, guest)
            }
            _ => (JobKind::Goodbye, frame.id),
        };
        self.jobs.push_back(Job {
            what,
            id: frame.id,
            guest,
            parts,
            span,
            place: 0,
            is_aside: false,
            made: 0,
            commands,
            begun: 0,
        });
        guest
    }

    /// Drops a call that nobody waits for, if it has not begun.
    pub(super) fn cancel(&mut self, id: u64) {
        let is_other = |job: &Job| job.what != JobKind::Call || job.id != id;
        self.jobs.retain(is_other);
        self.aside.retain(is_other);
    }

    /// Puts an unfinished job back at the front.
    pub(super) fn put_back(&mut self, job: Job) {
        self.jobs.push_front(job);
    }

    /// Takes out the first job.
    pub(super) fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Takes back the memory of a finished job for the next one.
    pub(super) fn give_back(&mut self, job: Job) {
        if job.commands.capacity() <= SPARE_BYTES_MAX {
            self.spare = job.commands;
        }
    }
}
