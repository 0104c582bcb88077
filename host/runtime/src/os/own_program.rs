//! The path at which this program is started again: as a worker, or as the host below process 1 of a container.
//!
//! On Linux a host and its workers are of one version, even if the file was replaced after the host's start.

use std::io;
use std::path::PathBuf;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// Returns the path.
///
/// # Errors
/// The system's error.
pub fn path() -> io::Result<PathBuf> {
    system::path()
}
