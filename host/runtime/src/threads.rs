//! What the threads of a host need: counters, limits, and the watchdog over handlers that hold one.

pub(crate) mod counters;
pub mod fd_limits;
pub(crate) mod latency;
pub mod spare;
pub mod watchdog;
