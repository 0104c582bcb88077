//! What a process has, and what it does while nobody asks anything of it, in the kernel's own account.

use std::fs;
use std::time::Duration;

use dae_tests::process;

/// Bytes of memory, by how they are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// All that is in memory.
    pub(super) resident: f64,
    /// The same, what others have too divided among them.
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
            resident: bytes("Rss:")?,
            proportional: bytes("Pss:")?,
            anonymous: bytes("Anonymous:")?,
        })
    }
}

/// What it did in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// How often one of its threads was woken.
    pub(super) wakes: f64,
    pub(super) cpu_ms: f64,
}

impl Rest {
    /// Looks on for that long.
    pub(super) fn of(process: u32, time: Duration) -> Self {
        let (wakes, cpu_ns) = (wakes(process), process::cpu_ns(process));
        std::thread::sleep(time);
        let seconds = time.as_secs_f64();
        let cpu_ns = process::cpu_ns(process).saturating_sub(cpu_ns);
        Rest {
            wakes: self::wakes(process).saturating_sub(wakes) as f64 / seconds,
            cpu_ms: cpu_ns as f64 / 1e6 / seconds,
        }
    }
}

/// Each time that a thread went to sleep, it had been woken.
fn wakes(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let switches = status.lines();
        let mut switches =
            switches.filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches.next()?.trim().parse::<u64>().ok()
    };
    let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
    tasks.filter_map(of_task).sum()
}
