//! The inode with its change time, and the mode.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::FileMarks;

#[cfg(test)]
mod tests;

/// The mode, owner and group, which determine who may write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WriteAccess {
    mode: u32,
    owner: u32,
    group: u32,
}

pub(super) fn marks(_path: &Path, metadata: &Metadata) -> FileMarks {
    FileMarks {
        inode: metadata.ino(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

pub(super) fn write_access(dir: &Path) -> Option<WriteAccess> {
    let metadata = std::fs::metadata(dir).ok()?;
    Some(WriteAccess {
        mode: metadata.mode(),
        owner: metadata.uid(),
        group: metadata.gid(),
    })
}
