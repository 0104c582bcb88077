//! Counters, limits, traces and spare threads of a host, and the watchdog that finds handlers that block a thread.

pub mod counters;
pub mod fd_limits;
pub mod handler_samples;
pub(crate) mod latency;
pub mod spare;
pub mod trace;
pub mod watchdog;
