//! The end of a worker's process: seen before the process is reaped, waited for with its whole group, and told.
//!
//! As long as a process that has ended is not reaped, its number is nobody else's. So its end is seen by a descriptor of
//! the process; its group is killed by number, and only then is it asked how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal};
// It waits until a descriptor is readable, whatever that is of; here of a process.
pub(super) use tokio::net::unix::pipe::Receiver as ProcessFd;

use super::group::ProcessGroup;

/// How often a killed group is looked for, until it is gone.
const GROUP_POLL: Duration = Duration::from_millis(1);
/// As it takes longer, less often: each look reads the kernel's table of processes.
const GROUP_POLL_MAX: Duration = Duration::from_millis(50);

/// A descriptor of that process, which must not have been reaped; where the system has none, its end is seen by reaping.
pub(super) fn descriptor_of(process: Pid) -> Option<ProcessFd> {
    #[cfg(target_os = "linux")]
    {
        let opened = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::NONBLOCK);
        opened
            .ok()
            .and_then(|opened| ProcessFd::from_owned_fd_unchecked(opened).ok())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Ends once nothing runs any more of the group. What has ended and waits for its parent to be asked how doesn't run: it
/// may wait for ever, where whoever adopts orphans doesn't ask.
pub(super) async fn group_gone(number: Pid, group: Option<ProcessGroup>) {
    let mut poll = GROUP_POLL;
    while rustix::process::test_kill_process_group(number).is_ok() {
        match &group {
            Some(group) if group.kill_left() == 0 => return,
            Some(_) => {}
            // Nothing tells it from another one.
            None => {
                let _ = rustix::process::kill_process_group(number, Signal::KILL);
            }
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 2).min(GROUP_POLL_MAX);
    }
}

/// Ends when the process has.
pub(super) async fn exited(end: Option<&ProcessFd>, process: &mut tokio::process::Child) {
    let seen = match end {
        Some(end) => end.readable().await.map(drop),
        None => Err(io::ErrorKind::Unsupported.into()),
    };
    if seen.is_err() {
        let _ = process.wait().await;
    }
}

/// How a process ended, for a person.
pub(super) fn told(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}{}", meaning(signal)),
        (None, None) => format!("ended with {status}"),
    }
}

fn meaning(signal: i32) -> &'static str {
    match signal {
        6 => " (SIGABRT: abort, or memory that could not be had)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: by somebody, or the kernel for want of memory)",
        11 => " (SIGSEGV: segmentation fault or stack overflow)",
        24 => " (SIGXCPU: its bound of CPU time)",
        _ => "",
    }
}
