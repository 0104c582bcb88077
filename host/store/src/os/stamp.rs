//! The marks of a file or directory that change with its content or with the rights to it, and that no program sets when
//! it copies times.

use std::fs::Metadata;
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(unix)]
pub(crate) use unix::WriteAccess;
#[cfg(windows)]
use windows as system;
#[cfg(windows)]
pub(crate) use windows::WriteAccess;

/// The marks of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileMarks {
    /// The number of the inode, or of the file's record.
    pub(crate) inode: u64,
    /// The time of the last change of the content, the names or the rights: seconds and nanoseconds.
    pub(crate) changed: (i64, i64),
}

impl FileMarks {
    /// Returns the marks of the file at `path` with this metadata.
    pub(crate) fn of(path: &Path, metadata: &Metadata) -> Self {
        system::marks(path, metadata)
    }
}

impl WriteAccess {
    /// Returns who may write the directory that contains `path`; a directory that can't be read has the default.
    pub(crate) fn of_parent(path: &Path) -> Self {
        let parent = path.parent().and_then(system::write_access);
        parent.unwrap_or_default()
    }
}
