//! The machine's memory, disk, and descriptors of files and sockets that are left for a host.
//!
//! `None` stands for what a system doesn't tell.

use std::path::Path;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;

/// Returns the memory that programs can still have (bytes).
#[must_use]
pub fn memory_available() -> Option<u64> {
    system::memory_available()
}

/// Returns the space that this user can still fill in the file system of a directory (bytes).
#[must_use]
pub fn disk_available(directory: &Path) -> Option<u64> {
    system::disk_available(directory)
}

/// Returns the most descriptors that a process may give itself (the hard limit); `None` also for no limit.
#[must_use]
pub fn descriptors_max(pid: u32) -> Option<u64> {
    system::descriptors_max(pid)
}

/// Returns the name of the program that a process runs.
#[must_use]
pub fn program_of(pid: u32) -> Option<String> {
    system::program_of(pid)
}
