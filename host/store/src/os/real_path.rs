//! The path of a file without links, in the form that a person would type.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::path::{Path, PathBuf};

/// Returns the absolute path of an existing file or directory without links.
///
/// # Errors
/// The system's error, such as `NotFound`.
pub fn of(path: &Path) -> io::Result<PathBuf> {
    system::of(path)
}
