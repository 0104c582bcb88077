//! A process group, and a descriptor of the process that leads it.
//!
//! Until an ended process is reaped, no other process gets its id. So the host sees the end by a descriptor of the
//! process, then kills the group by its number, and only then asks for the exit status.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
// The type waits until any descriptor is readable; here it is that of a process.
use tokio::net::unix::pipe::Receiver as ProcessFd;
use tokio::process::{Child, Command};

use super::group::{GroupRecords, ProcessGroup};
use crate::os::worker_stream::WorkerEnd;

/// The first interval at which to check whether a killed group is gone.
const GROUP_POLL: Duration = Duration::from_millis(1);
/// The longest such interval. It grows, because each check reads the kernel's table of processes.
const GROUP_POLL_MAX: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct WorkerProcess {
    process: Child,
    number: Pid,
    /// The descriptor that is readable once the process has ended, even before it is reaped.
    end: Option<ProcessFd>,
    group: Option<ProcessGroup>,
    records: GroupRecords,
}

impl WorkerProcess {
    pub(super) fn start(
        mut command: Command,
        stdin: WorkerEnd,
        records: &GroupRecords,
    ) -> io::Result<Self> {
        let process = command.stdin(stdin.into_stdin()).spawn()?;
        let pid = process.id().map(u32::cast_signed).and_then(Pid::from_raw);
        let number = pid.ok_or_else(|| io::Error::other("it ended at once"))?;
        let group = ProcessGroup::led_by(number);
        if let Some(group) = &group
            && let Err(error) = records.keep(group)
        {
            tracing::warn!(
                pid = process.id(),
                error = format!("{error:#}"),
                "a process could not be recorded; if it and its host are killed, what it has started is left"
            );
        }
        Ok(WorkerProcess {
            process,
            number,
            end: descriptor_of(number),
            group,
            records: records.clone(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.number.as_raw_nonzero().get().cast_unsigned()
    }

    pub(super) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    pub(super) async fn exited(&mut self) {
        let seen = match &self.end {
            Some(end) => end.readable().await.map(drop),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if seen.is_err() {
            let _ = self.process.wait().await;
        }
    }

    /// Call it before the process is reaped: until then no other process gets the number.
    pub(super) fn kill_all(&self) {
        let _ = rustix::process::kill_process_group(self.number, Signal::KILL);
    }

    /// Waits until no process of the group runs any more. A zombie does not run: it may stay for ever if the process
    /// that adopts orphans does not reap it.
    pub(super) async fn all_gone(&self) {
        let mut poll = GROUP_POLL;
        while rustix::process::test_kill_process_group(self.number).is_ok() {
            match &self.group {
                Some(group) if group.kill_left() == 0 => return,
                Some(_) => {}
                // No record identifies the members, so the whole group is signalled by its number.
                None => self.kill_all(),
            }
            tokio::time::sleep(poll).await;
            poll = (poll * 2).min(GROUP_POLL_MAX);
        }
    }

    pub(super) fn forget(&self) {
        if let Some(group) = &self.group {
            self.records.forget(group);
        }
    }
}

/// Returns a descriptor of a process, which must not have been reaped. Returns `None` where the system has none; then
/// only reaping shows the end.
fn descriptor_of(process: Pid) -> Option<ProcessFd> {
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

pub(crate) const SAFE_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

pub(super) fn is_same_variable(one: &str, other: &str) -> bool {
    one == other
}

/// A group of its own, so that it and all that it starts can be ended together. A Ctrl-C at the host's terminal does not
/// reach them.
pub(super) fn stand_apart(command: &mut Command) {
    command.process_group(0);
}

pub(super) fn prepare(command: &mut Command) {
    stand_apart(command);
    command.arg0("dae-host-worker");
}

pub(super) fn in_words(status: ExitStatus) -> String {
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
