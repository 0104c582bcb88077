//! The times of the file's last change and of its creation, and its attributes. The index of a file and the time of any
//! change would need an open file, for each of thousands. So a program that writes other content of the same size, and
//! then sets the time back, is not noticed.

use std::fs::Metadata;
use std::os::windows::fs::MetadataExt as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    modified: u64,
    created: u64,
    attributes: u32,
}

impl Facts {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Facts {
            modified: metadata.last_write_time(),
            created: metadata.creation_time(),
            attributes: metadata.file_attributes(),
        }
    }
}
