//! The end of a worker with its host, together with all that its daemon has started.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;

/// Makes this process end with its host, which must be its parent.
///
/// # Errors
/// The host has ended already, or the system's error.
pub(crate) fn end_with(host: u32) -> io::Result<()> {
    system::end_with(host)
}

/// Kills this process, and what it has started: on Unix the rest of its process group if it leads one.
pub(crate) fn end_group() {
    system::end_group();
}
