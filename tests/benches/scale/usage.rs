//! The resources of a process, and its activity while it gets no commands, from the kernel's statistics.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

/// The memory of a process in bytes, in two measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// The resident memory, with shared pages divided among their users (PSS).
    pub(super) proportional: f64,
    /// The memory that is not backed by a file.
    pub(super) anonymous: f64,
}

impl Memory {
    /// Returns an error if there is no such process.
    pub(super) fn of(process: u32) -> Result<Self, String> {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0)
                .ok_or_else(|| format!("{path} has no {name}"))
        };
        Ok(Memory {
            proportional: bytes("Pss:")?,
            anonymous: bytes("Anonymous:")?,
        })
    }
}

/// The activity of a process per second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    /// The number of times one of its threads was woken.
    pub(super) wakes: f64,
    pub(super) cpu_ms: f64,
}

/// The statistics of one thread.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    wakes: u64,
    cpu_ns: u64,
}

impl Rest {
    /// Observes the process for the given seconds. The statistics of a thread vanish when it ends, so they are read
    /// every second.
    pub(super) fn of(process: u32, seconds: u32) -> Self {
        let mut rest = Rest::default();
        let mut before = accounts(process);
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            let now = accounts(process);
            for (task, account) in &now {
                let before = before.get(task).copied().unwrap_or_default();
                let wakes = account.wakes.saturating_sub(before.wakes);
                let cpu_ns = account.cpu_ns.saturating_sub(before.cpu_ns);
                rest.wakes += wakes as f64 / f64::from(seconds);
                rest.cpu_ms += cpu_ns as f64 / 1e6 / f64::from(seconds);
            }
            before = now;
        }
        rest
    }
}

/// Returns the statistics by thread.
fn accounts(process: u32) -> HashMap<OsString, Account> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let account = |task: fs::DirEntry| {
        // The thread may end before it is read.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let schedule = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut lines = status.lines();
        // The number of times the thread went to sleep equals the number of times it was woken.
        let wakes = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let account = Account {
            wakes: wakes.trim().parse().ok()?,
            cpu_ns: schedule.split(' ').next()?.parse().ok()?,
        };
        Some((task.file_name(), account))
    };
    let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
    tasks.filter_map(account).collect()
}
