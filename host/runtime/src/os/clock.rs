//! The clock that all processes of the machine share. It never goes back.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Returns the time since some fixed moment, such as the system's start (ns).
pub fn monotonic_ns() -> u64 {
    system::monotonic_ns()
}
