//! The resources that this process has, for metrics. Linux alone tells all of them.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

use super::descriptors;
use super::process_usage::{self, ProcessUsage};

/// The resources that this process has. A part that the system doesn't tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OwnProcess {
    /// The CPU time and the memory, without those of processes that it has started.
    pub usage: Option<ProcessUsage>,
    /// The open descriptors.
    pub descriptors: Option<u64>,
    /// The descriptors that the process may have at present.
    pub descriptors_max: Option<u64>,
    /// The time of the start, in seconds since 1970.
    pub started_s: Option<f64>,
}

/// Returns the resources that this process has now.
#[must_use]
pub fn now() -> OwnProcess {
    OwnProcess {
        usage: process_usage::of_this_process(),
        descriptors: system::open_descriptors(),
        descriptors_max: descriptors::limit(),
        started_s: system::started_s(),
    }
}
