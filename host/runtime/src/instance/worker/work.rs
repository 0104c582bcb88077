//! Work on what was handed over: one command after the other, as far as there are time and room.

use std::collections::HashSet;
use std::sync::Arc;

use super::Worker;
use super::backlog::{Job, JobKind, NextCommand};
use super::clock::TurnClock;
use super::start::ServingDaemon;
use crate::connection::reply_budget::{GUEST_BYTES_MAX, Reservation};
use crate::plugin::command_table::RunsOn;
use crate::plugin::completion::Call;
use crate::process::hand_off::monotonic_ns;
use crate::process::ipc::batch::HEAD_BYTES as ENTRY_HEAD_BYTES;
use crate::process::ipc::{FrameKind, LARGE_BYTES};

/// What a job's replies are added up to before the room hears of them (bytes).
const MADE_BYTES_MAX: usize = 64 << 10;
/// What a batch's spare buffer keeps (bytes): a reply of usual size fits.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// How far a job was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobProgress {
    Whole,
    /// As far as there was time.
    Part,
    /// As far as there was room.
    NoRoom,
}

impl Worker {
    /// Runs what was handed over, one command after the other, for a moment.
    pub(super) fn work(&mut self, served: &ServingDaemon) {
        let mut clock = TurnClock::now();
        self.work_aside(served, &mut clock);
        while !clock.is_over()
            && let Some(mut job) = self.backlog.pop()
        {
            let is_held_up = self.backlog.is_aside(job.guest);
            let ran = match is_held_up {
                true => JobProgress::NoRoom,
                false => self.run_job(&mut job, served, &mut clock),
            };
            match ran {
                JobProgress::Whole => self.backlog.give_back(job),
                JobProgress::Part => self.backlog.put_back(job),
                JobProgress::NoRoom => self.set_aside(job),
            }
        }
        self.spare.clear();
        self.spare.shrink_to(SPARE_BYTES_MAX);
        self.tell_want();
    }

    /// Goes on with what was set aside, as far as there is room now.
    fn work_aside(&mut self, served: &ServingDaemon, clock: &mut TurnClock) {
        if !self.backlog.has_aside() {
            return;
        }
        let mut held_up = HashSet::new();
        for mut job in self.backlog.take_aside() {
            let may_run = !clock.is_over() && !held_up.contains(&job.guest);
            if may_run && self.run_job(&mut job, served, clock) == JobProgress::Whole {
                self.backlog.give_back(job);
            } else {
                held_up.insert(job.guest);
                self.backlog.set_aside(job);
            }
        }
    }

    /// Sets a job aside, and says so: what the hand-off state shows of the order of numbers doesn't hold for it.
    fn set_aside(&mut self, job: Job) {
        let place = u32::try_from(job.place).unwrap_or(u32::MAX);
        self.wire
            .send_now(FrameKind::SetAside, job.id, &[&place.to_le_bytes()]);
        self.backlog.set_aside(job);
    }

    /// Tells the host whether this side waits to hear what guests have read.
    fn tell_want(&mut self) {
        let wants = self.room.is_tight() || self.backlog.has_aside();
        if std::mem::replace(&mut self.wants, wants) != wants {
            self.wire
                .send_now(FrameKind::Want, 0, &[&[u8::from(wants)]]);
        }
    }

    /// Runs a job as far as there are time and room.
    fn run_job(
        &mut self,
        job: &mut Job,
        served: &ServingDaemon,
        clock: &mut TurnClock,
    ) -> JobProgress {
        let mut ran = JobProgress::Whole;
        while let Some(next) = job.next() {
            let Some(reservation) = self.reserve(job, next, served) else {
                ran = JobProgress::NoRoom;
                break;
            };
            let arguments = next.arguments.len();
            let call = call_of(next.index, job.guest, next.arguments);
            let of = (job.id, job.place, job.is_aside);
            let made = match job.what {
                JobKind::Call => self.call(of, call, (served, reservation)),
                JobKind::Batch | JobKind::Goodbye => self.answer_of_batch(of, call, served),
            };
            // The host has withdrawn it, and all behind it.
            let Some(made) = made else { break };
            // What ends later is told then.
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

    /// Returns the reservation that a command begins with (blocking commands alone need one), or `None` where there is no
    /// room for its reply.
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
        let has_room = job.made < GUEST_BYTES_MAX && self.room.may_begin(job.guest, next.index);
        let may_run = has_room || (job.is_aside && self.room.take_freed(job.id));
        may_run.then_some(reservation)
    }

    /// Runs a command of a batch, which holds this thread until it is over; how many bytes it gave. `None` where the host
    /// has withdrawn it.
    fn answer_of_batch(
        &mut self,
        of: (u64, usize, bool),
        call: Call<'_>,
        served: &ServingDaemon,
    ) -> Option<usize> {
        if !self.begin(of, true) {
            return None;
        }
        if !served.instance.is_quick(call.index) {
            // What is done must not wait for a command that may hold this thread.
            self.wire.flush_now();
        }
        // Room for what stands before an entry, so that a large one needn't be moved.
        self.spare.clear();
        self.spare.extend_from_slice(&[0; ENTRY_HEAD_BYTES]);
        // Not straight into the queue: the daemon's code may log, which takes the queue's lock.
        let status = served.instance.answer_here(call, &mut self.spare);
        let made = self.spare.len() - ENTRY_HEAD_BYTES;
        match made >= LARGE_BYTES {
            true => self
                .wire
                .send_large_reply(of.0, status, std::mem::take(&mut self.spare)),
            false => self
                .wire
                .send_reply(of.0, status, &self.spare[ENTRY_HEAD_BYTES..]),
        }
        Some(made)
    }

    /// Begins a command of a batch, or a call; false where the host has withdrawn it. With `holds`, this thread runs it.
    fn begin(&mut self, (id, place, is_aside): (u64, usize, bool), holds: bool) -> bool {
        let Some(hand_off_state) = &self.hand_off_state else {
            return true;
        };
        let has_begun = is_aside || hand_off_state.begin(&mut self.front, id, place);
        if has_begun && holds {
            hand_off_state.run(id, place, monotonic_ns());
        }
        has_begun
    }

    /// The command that this thread ran has ended.
    fn rest(&self) {
        if let Some(hand_off_state) = &self.hand_off_state {
            hand_off_state.rest();
        }
    }

    fn call(
        &mut self,
        of: (u64, usize, bool),
        call: Call<'_>,
        (served, reservation): (&ServingDaemon, Option<Arc<Reservation>>),
    ) -> Option<usize> {
        let runs = served.runs.get(call.index as usize).copied();
        let runs = runs.unwrap_or(RunsOn::Here);
        let (id, _, is_aside) = of;
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
            self.run_one((id, call.guest, call.index), pending, reservation);
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

fn call_of(index: u32, guest: u64, arguments: &[u8]) -> Call<'_> {
    Call {
        index,
        guest,
        // It was UTF-8 when the host read it from the guest.
        arguments: std::str::from_utf8(arguments).unwrap_or_default(),
    }
}
