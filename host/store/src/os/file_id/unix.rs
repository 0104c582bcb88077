//! The device and the inode.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::FileId;

impl FileId {
    /// Returns the identity of the file or directory with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

pub(super) fn at(path: &Path) -> io::Result<FileId> {
    std::fs::metadata(path).map(|metadata| FileId::of(&metadata))
}

pub(super) fn of_open(file: &File) -> io::Result<FileId> {
    file.metadata().map(|metadata| FileId::of(&metadata))
}
