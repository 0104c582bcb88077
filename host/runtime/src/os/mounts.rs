//! File systems that forbid running code from their files.

use std::path::Path;

#[cfg(unix)]
mod unix;

/// Returns whether the file system of a directory forbids loading code from it. Windows has no such file systems.
#[must_use]
pub fn is_noexec(directory: &Path) -> bool {
    #[cfg(unix)]
    return unix::is_noexec(directory);
    #[cfg(not(unix))]
    {
        let _ = directory;
        false
    }
}
