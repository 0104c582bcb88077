//! What a process has, and what it does while nobody asks anything of it, in the kernel's own account.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

/// Bytes of memory, by how they are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// What is in memory, and what others have too divided among them.
    pub(super) proportional: f64,
    /// What no file stands behind.
    pub(super) anonymous: f64,
}

impl Memory {
    /// Errors: there is no such process.
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

/// What it did in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    /// How often one of its threads was woken.
    pub(super) wakes: f64,
    pub(super) cpu_ms: f64,
}

/// The account of one thread.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    wakes: u64,
    cpu_ns: u64,
}

impl Rest {
    /// Looks on for so many seconds. A thread that ends takes its account with it, so that is read every second.
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

/// By thread.
fn accounts(process: u32) -> HashMap<OsString, Account> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let account = |task: fs::DirEntry| {
        // It may end before it is read.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let schedule = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut lines = status.lines();
        // Each time that it went to sleep, it had been woken.
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
