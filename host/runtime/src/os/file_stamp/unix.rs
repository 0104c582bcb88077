//! The inode, the time of the last change of the content, and that of any change, which no program can set.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Facts {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Facts {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
