//! The reply of `graph`: which daemons call which, how often, and how long the calls take.

use serde::{Deserialize, Serialize};

/// The calls of one caller to one daemon since the host started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphEdge {
    /// The name of the calling daemon; absent for all guests that are no daemons of this host, taken together.
    pub caller: Option<String>,
    /// The name of the called daemon.
    pub callee: String,
    /// True if the called daemon is one of another program.
    pub foreign: bool,
    /// The number of calls.
    pub calls: u64,
    /// The number of calls that were answered with an error, or not at all; absent for guests.
    pub errors: Option<u64>,
    /// The median of the calls' times as the caller sees them, in microseconds; absent for guests and without a call.
    pub p50_us: Option<f64>,
    /// The time that 99 of 100 calls stay below, in microseconds; absent as `p50_us` is.
    pub p99_us: Option<f64>,
}
