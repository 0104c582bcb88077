//! The CPU time and the memory of processes, as the kernel counts them.
//!
//! A daemon's process may start others. On Linux all processes of its group count; Windows counts the process alone. A
//! system without a twin answers that nothing is known.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

#[cfg(not(any(target_os = "linux", windows)))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(not(any(target_os = "linux", windows)))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(windows)]
use windows as system;

/// The resources that a process has used, or all processes of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The CPU time since the start.
    pub cpu: Duration,
    /// The present memory that no other process shares (bytes).
    pub memory_bytes: u64,
    /// The present memory in all, without what is swapped out (bytes).
    pub resident_bytes: u64,
}

/// Returns the usage of this process, without those that it has started; `None` if it can't be known.
#[must_use]
pub fn of_this_process() -> Option<ProcessUsage> {
    system::of_this_process()
}

/// Returns the usage of one process, without those that it has started; `None` if it can't be known.
#[must_use]
pub fn of_process(pid: u32) -> Option<ProcessUsage> {
    system::of_process(pid)
}

/// Returns the usage of the processes that lead a group each, with all of their group. Those that can't be known are
/// left out.
#[must_use]
pub fn of_groups(leaders: &BTreeSet<u32>) -> HashMap<u32, ProcessUsage> {
    match leaders.is_empty() {
        true => HashMap::new(),
        false => system::of_groups(leaders),
    }
}
