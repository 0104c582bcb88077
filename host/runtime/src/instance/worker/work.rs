//! The execution of handed-over commands, one after the other, as time and the reply budget permit.

use std::collections::HashSet;
use std::sync::Arc;

use super::Worker;
use super::backlog::{Job, JobKind, NextCommand};
use super::clock::WorkClock;
use super::running::CallOf;
use super::start::ServingDaemon;
use crate::connection::reply_budget::{GUEST_BYTES_MAX, Reservation};
use crate::os::clock::monotonic_ns;
use crate::plugin::command_table::RunsOn;
use crate::plugin::completion::Call;
use crate::process::ipc::batch::HEAD_BYTES as ENTRY_HEAD_BYTES;
use crate::process::ipc::{FrameKind, LARGE_BYTES};
use crate::threads::trace;

/// The reply bytes of a job after which they are added to the reply budget.
const MADE_BYTES_MAX: usize = 64 << 10;
/// The capacity that a batch's spare buffer keeps (bytes); a reply of usual size fits.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// The progress of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobProgress {
    Whole,
    /// Stopped because its time was up.
    Part,
    /// Stopped because the reply budget was used up.
    NoBudget,
}

/// The place of a job's next command among all commands.
#[derive(Debug, Clone, Copy)]
struct JobPlace {
    id: u64,
    place: usize,
    is_aside: bool,
}

impl JobPlace {
    fn of(job: &Job) -> Self {
        JobPlace {
            id: job.id,
            place: job.place,
            is_aside: job.is_aside,
        }
    }
}

impl Worker {
    /// Runs handed-over commands one after the other for a short time.
    pub(super) fn work(&mut self, served: &ServingDaemon) {
        let mut clock = WorkClock::now();
        self.work_aside(served, &mut clock);
        while !clock.is_over()
            && let Some(mut job) = self.backlog.pop()
        {
            let is_held_up = self.backlog.is_aside(job.guest);
            let ran = match is_held_up {
                true => JobProgress::NoBudget,
                false => self.run_job(&mut job, served, &mut clock),
            };
            match ran {
                JobProgress::Whole => self.backlog.give_back(job),
                JobProgress::Part => self.backlog.put_back(job),
                JobProgress::NoBudget => self.set_aside(job),
            }
        }
        self.spare.clear();
        self.spare.shrink_to(SPARE_BYTES_MAX);
        self.tell_want();
    }

    /// Continues the jobs that were set aside, as far as the reply budget permits now.
    fn work_aside(&mut self, served: &ServingDaemon, clock: &mut WorkClock) {
        self.is_aside_cut = false;
        if !self.backlog.has_aside() {
            return;
        }
        let mut held_up = HashSet::new();
        for mut job in self.backlog.take_aside() {
            let ran = if held_up.contains(&job.guest) {
                JobProgress::NoBudget
            } else if clock.is_over() {
                JobProgress::Part
            } else {
                self.run_job(&mut job, served, clock)
            };
            self.is_aside_cut |= ran == JobProgress::Part;
            if ran == JobProgress::Whole {
                self.backlog.give_back(job);
            } else {
                held_up.insert(job.guest);
                self.backlog.set_aside(job);
            }
        }
    }

    /// Sets a job aside, and reports it: the order of numbers in the hand-off state doesn't hold for this job.
    fn set_aside(&mut self, job: Job) {
        let place = u32::try_from(job.place).unwrap_or(u32::MAX);
        self.wire
            .send_now(FrameKind::SetAside, job.id, &[&place.to_le_bytes()]);
        self.backlog.set_aside(job);
    }

    /// Reports to the host whether this side waits for reports of what guests have read.
    fn tell_want(&mut self) {
        self.wire
            .tell_want(self.room.is_tight() || self.backlog.has_aside());
    }

    /// Runs a job as far as time and the reply budget permit.
    fn run_job(
        &mut self,
        job: &mut Job,
        served: &ServingDaemon,
        clock: &mut WorkClock,
    ) -> JobProgress {
        let mut ran = JobProgress::Whole;
        while let Some(next) = job.next() {
            let Some(reservation) = self.reserve(job, next, served) else {
                ran = JobProgress::NoBudget;
                break;
            };
            let arguments = next.arguments.len();
            let call = call_of(next, job);
            let of = JobPlace::of(job);
            let made = trace::during(job.span, || match job.what {
                JobKind::Call => self.call(of, call, served, reservation),
                JobKind::Batch | JobKind::Goodbye => self.answer_of_batch(of, call, served),
            });
            // The host has withdrawn this command, and all behind it.
            let Some(made) = made else { break };
            // A command that ends later is noted then.
            if made > 0 {
                self.room.note(next.index, arguments, made);
            }
            job.made += made;
            job.advance();
            if job.made >= MADE_BYTES_MAX {
                self.room.add(job.guest, std::mem::take(&mut job.made));
            }
            if clock.tick() {
                self.wire.flush_now();
            }
            if clock.is_over() && job.next().is_some() {
                ran = JobProgress::Part;
                break;
            }
        }
        self.rest();
        self.room.add(job.guest, std::mem::take(&mut job.made));
        if ran == JobProgress::Whole && job.what == JobKind::Goodbye {
            served.instance.guest_gone(job.guest, &());
        }
        ran
    }

    /// Returns the reservation that a command begins with (only blocking commands need one), or `None` if there is no
    /// budget for its reply.
    fn reserve(
        &self,
        job: &Job,
        next: NextCommand<'_>,
        served: &ServingDaemon,
    ) -> Option<Option<Arc<Reservation>>> {
        let runs = served.runs.get(next.index as usize);
        let reservation = match runs {
            Some(RunsOn::Blocking) => self.room.reserve(next.index).ok()?,
            _ => None,
        };
        let has_budget = job.made < GUEST_BYTES_MAX && self.room.may_begin(job.guest, next.index);
        let is_freed = job.is_aside && self.room.take_freed(job.id);
        if is_freed && job.what == JobKind::Call {
            // It stays free while it runs.
            self.room.free(job.id);
        }
        (has_budget || is_freed).then_some(reservation)
    }

    /// Runs a command of a batch, which holds this thread until it ends. Returns the size of its reply (bytes), or
    /// `None` if the host has withdrawn the command.
    fn answer_of_batch(
        &mut self,
        of: JobPlace,
        call: Call<'_>,
        served: &ServingDaemon,
    ) -> Option<usize> {
        if !self.begin(of, true) {
            return None;
        }
        if !served.instance.is_quick(call.index) {
            // Finished replies must not wait for a command that may hold this thread.
            self.wire.flush_now();
        }
        // Leaves space for the entry's head, so that a large reply needn't be moved.
        self.spare.clear();
        self.spare.extend_from_slice(&[0; ENTRY_HEAD_BYTES]);
        // Not written directly to the queue: the daemon's code may log, which takes the queue's lock.
        let status = served.instance.answer_here(call, &mut self.spare);
        let made = self.spare.len() - ENTRY_HEAD_BYTES;
        match made >= LARGE_BYTES {
            true => self
                .wire
                .send_large_reply(of.id, status, std::mem::take(&mut self.spare)),
            false => self
                .wire
                .send_reply(of.id, status, &self.spare[ENTRY_HEAD_BYTES..]),
        }
        Some(made)
    }

    /// Begins a command of a batch, or a call. Returns false if the host has withdrawn it. `holds` means that this
    /// thread runs it.
    fn begin(&mut self, of: JobPlace, holds: bool) -> bool {
        let JobPlace {
            id,
            place,
            is_aside,
        } = of;
        let Some(hand_off_state) = &self.hand_off_state else {
            return true;
        };
        let has_begun = is_aside || hand_off_state.begin(&mut self.front, id, place);
        if has_begun && holds {
            hand_off_state.run(id, place, monotonic_ns());
        }
        has_begun
    }

    /// Notes that this thread runs no command any more.
    fn rest(&self) {
        if let Some(hand_off_state) = &self.hand_off_state {
            hand_off_state.rest();
        }
    }

    fn call(
        &mut self,
        of: JobPlace,
        call: Call<'_>,
        served: &ServingDaemon,
        reservation: Option<Arc<Reservation>>,
    ) -> Option<usize> {
        let runs = served.runs.get(call.index as usize).copied();
        let runs = runs.unwrap_or(RunsOn::Here);
        let JobPlace { id, is_aside, .. } = of;
        if !self.begin(of, runs == RunsOn::Here) {
            return None;
        }
        if is_aside {
            self.wire.send(FrameKind::Resumed, id, &[]);
        }
        if runs != RunsOn::Here {
            let pending = served
                .instance
                .answer_later(runs, call, reservation.as_ref());
            let of = CallOf {
                id,
                guest: call.guest,
                command: call.index,
            };
            self.run_one(of, pending, reservation);
            return Some(0);
        }
        if !served.instance.is_quick(call.index) {
            self.wire.flush_now();
        }
        let mut bytes = Vec::new();
        let status = served.instance.answer_here(call, &mut bytes);
        let made = bytes.len();
        self.wire.send_ended((id, call.guest), status, bytes);
        Some(made)
    }
}

fn call_of<'j>(next: NextCommand<'j>, job: &Job) -> Call<'j> {
    Call {
        index: next.index,
        guest: job.guest,
        // The host checked that it is UTF-8 when it read it from the guest.
        arguments: std::str::from_utf8(next.arguments).unwrap_or_default(),
        parts: job.parts,
    }
}
