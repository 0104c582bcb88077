//! The identity of a file or directory, independent of its path.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// The identity of a file or directory, independent of its path. It survives a move, and a copy has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    /// The number of the inode, or of the file's record.
    inode: u64,
}

impl FileId {
    /// Returns the identity of the file or directory that `path` leads to.
    ///
    /// # Errors
    /// A system error.
    pub fn at(path: &Path) -> io::Result<Self> {
        system::at(path)
    }

    /// Returns the identity of an open file or directory.
    ///
    /// # Errors
    /// A system error.
    pub fn of_open(file: &File) -> io::Result<Self> {
        system::of_open(file)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.device, self.inode)
    }
}
