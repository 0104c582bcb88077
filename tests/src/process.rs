//! What the kernel knows of another process: its memory, its CPU time, its signals. Linux alone.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

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
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process that lives");
    let of_task = |task: fs::DirEntry| {
        // A thread may end between the listing and this.
        let account = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        account
            .split(' ')
            .next()
            .and_then(|ns| ns.parse::<u64>().ok())
            .unwrap_or(0)
    };
    tasks.filter_map(Result::ok).map(of_task).sum()
}
