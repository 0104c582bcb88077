//! The request and the reply of `usage`: how much of the machine each daemon uses, measured over a window.
//!
//! A value that can't be known is absent. It is never estimated, since an invented number is worse than none.

use serde::{Deserialize, Serialize};

/// The window if the request names none (ms): long enough for a few ticks of the kernel's clock, short enough to wait
/// for.
pub const WINDOW_MS: u64 = 250;

/// The longest window (ms): a caller that wants more asks again.
pub const WINDOW_MS_MAX: u64 = 10_000;

/// The request of `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRequest {
    /// The time over which to measure, in milliseconds; 0 measures no CPU time and no rates.
    #[serde(default = "window_ms")]
    pub window_ms: u64,
}

impl Default for UsageRequest {
    fn default() -> Self {
        UsageRequest {
            window_ms: WINDOW_MS,
        }
    }
}

fn window_ms() -> u64 {
    WINDOW_MS
}

/// The way in which CPU time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuKind {
    /// By the kernel, for the whole process of the host, the daemons in it included.
    Host,
    /// By the kernel, for a daemon's own process and all that it has started.
    Process,
    /// By samples of the host's threads: the share of samples in which one ran a handler of the daemon.
    Handlers,
}

/// The usage of one daemon over the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The name it runs under.
    pub name: String,
    /// The state, as in its status.
    pub state: String,
    /// The CPU time, in percent of one core.
    pub cpu_percent: Option<f64>,
    /// The way in which `cpu_percent` was measured.
    pub cpu_kind: Option<CpuKind>,
    /// The memory that its process shares with no other, in bytes; absent for a daemon in the host's process.
    pub memory_bytes: Option<u64>,
    /// The rates and latencies of its commands.
    #[serde(flatten)]
    pub commands: CommandRates,
    /// The number of connected guests.
    pub guests: u64,
    /// The number of restarts since the host started.
    pub restarts: u64,
    /// The number of the instance, counted since the host started.
    pub generation: u64,
    /// The time for which the instance has run, in milliseconds; absent while nothing runs.
    pub uptime_ms: Option<u64>,
}

/// The commands that a daemon answered within the window, as its guests see them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandRates {
    /// The number of answered commands per second.
    pub calls_per_s: f64,
    /// The number of those per second that were answered with `error`.
    pub errors_per_s: f64,
    /// The median of their latencies, in microseconds; absent without a call.
    pub p50_us: Option<f64>,
    /// The 99th percentile of their latencies, in microseconds; absent without a call.
    pub p99_us: Option<f64>,
}

/// Returns a share of one core in percent, rounded to a tenth.
#[must_use]
pub fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| tenth(100.0 * part / whole))
}

/// Returns a number rounded to a tenth: more digits would be noise.
#[must_use]
pub fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_window_has_the_usual_one() {
        let read = |text| {
            serde_json::from_str::<UsageRequest>(text)
                .unwrap()
                .window_ms
        };
        assert_eq!((read("{}"), read("{\"window_ms\":0}")), (WINDOW_MS, 0));
    }

    #[test]
    fn a_share_of_nothing_is_unknown() {
        assert_eq!(percent(0.25, 0.0), None);
        assert_eq!(percent(0.125, 1.0), Some(12.5));
        assert_eq!(percent(2.0, 1.0), Some(200.0));
    }
}
