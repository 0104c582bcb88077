//! The end of a worker's process: seen before the process is reaped, awaited with its whole group, and described.
//!
//! Until an ended process is reaped, no other process gets its id. So the host sees the end by a descriptor of the
//! process, then kills the group by its number, and only then asks for the exit status.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal};
// The type waits until any descriptor is readable; here it is that of a process.
pub(super) use tokio::net::unix::pipe::Receiver as ProcessFd;

use super::group::ProcessGroup;

/// The first interval at which to check whether a killed group is gone.
const GROUP_POLL: Duration = Duration::from_millis(1);
/// The longest such interval. It grows, because each check reads the kernel's table of processes.
const GROUP_POLL_MAX: Duration = Duration::from_millis(50);

/// Returns a descriptor of a process, which must not have been reaped. Returns `None` where the system has none; then
/// only reaping shows the end.
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

/// Waits until no process of the group runs any more. A zombie does not run: it may stay for ever if the process that
/// adopts orphans does not reap it.
pub(super) async fn group_gone(number: Pid, group: Option<ProcessGroup>) {
    let mut poll = GROUP_POLL;
    while rustix::process::test_kill_process_group(number).is_ok() {
        match &group {
            Some(group) if group.kill_left() == 0 => return,
            Some(_) => {}
            // No record identifies the members, so the whole group is signalled by its number.
            None => {
                let _ = rustix::process::kill_process_group(number, Signal::KILL);
            }
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 2).min(GROUP_POLL_MAX);
    }
}

/// Waits until the process has ended.
pub(super) async fn exited(end: Option<&ProcessFd>, process: &mut tokio::process::Child) {
    let seen = match end {
        Some(end) => end.readable().await.map(drop),
        None => Err(io::ErrorKind::Unsupported.into()),
    };
    if seen.is_err() {
        let _ = process.wait().await;
    }
}

/// Describes how a process ended, for a person.
pub(super) fn in_words(status: std::process::ExitStatus) -> String {
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
