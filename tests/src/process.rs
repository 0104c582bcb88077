//! What the kernel knows of another process: its memory, its CPU time, its signals, its processors. Linux alone.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A pid as the kernel's own type.
///
/// # Panics
/// For 0 and for numbers that no process has.
#[must_use]
pub fn pid(number: u32) -> Pid {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id")
}

/// Sends a signal to one process.
///
/// # Panics
/// When there is no such process, or it is not ours.
#[track_caller]
pub fn signal(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("a process of ours");
}

/// Kills a process and all of its group. That it has ended already is no error.
pub fn kill_group(leader: u32) {
    let _ = kill_process_group(pid(leader), Signal::KILL);
}

/// Resident memory, in bytes.
///
/// # Panics
/// When there is no such process.
#[track_caller]
#[must_use]
pub fn resident_bytes(process: u32) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).expect("a process that lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS in /proc");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB");
    kib * 1024
}

/// CPU time that all its threads have taken, in nanoseconds. A thread that has ended takes its time with it, so this
/// is for servers whose threads stay. `utime` in `/proc/PID/stat` counts ticks of 10 ms, which is too coarse for a
/// short round; the scheduler's own account is exact.
///
/// # Panics
/// When there is no such process, or the kernel keeps no such account.
#[track_caller]
#[must_use]
pub fn cpu_ns(process: u32) -> u64 {
    let of_task = |task: u32| {
        // A thread may end between the listing and this.
        let path = format!("/proc/{process}/task/{task}/schedstat");
        let account = fs::read_to_string(path).unwrap_or_default();
        let ns = account.split(' ').next().and_then(|ns| ns.parse().ok());
        ns.unwrap_or(0)
    };
    tasks(process).into_iter().map(of_task).sum()
}

/// The processors that this thread may run on.
///
/// # Panics
/// When the kernel doesn't say.
#[must_use]
pub fn processors() -> CpuSet {
    sched_getaffinity(None).expect("the kernel knows its processors")
}

/// Only the last of these processors: the first one often has the interrupts.
#[must_use]
pub fn last_of(processors: &CpuSet) -> CpuSet {
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|cpu| processors.is_set(*cpu));
    let mut one = CpuSet::new();
    last.into_iter().for_each(|cpu| one.set(cpu));
    one
}

/// Lets all threads of a process run on these processors alone; a thread that ends meanwhile is let go.
pub fn confine(process: u32, processors: &CpuSet) {
    for task in tasks(process) {
        let _ = sched_setaffinity(Some(pid(task)), processors);
    }
}

fn tasks(process: u32) -> Vec<u32> {
    let listed = fs::read_dir(format!("/proc/{process}/task")).expect("a process that lives");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    listed.filter_map(Result::ok).filter_map(number).collect()
}
