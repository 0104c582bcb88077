//! Systems without sealed files in memory.

use std::io;

use crate::os::descriptors::{BorrowedDescriptor, OwnedDescriptor};

/// A file, of which there is none.
#[derive(Debug)]
pub(super) enum SealedFile {}

impl SealedFile {
    pub(super) fn seal(_file: OwnedDescriptor) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn open(_file: OwnedDescriptor, _bytes: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn descriptor(&self) -> BorrowedDescriptor<'_> {
        match *self {}
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match *self {}
    }
}

pub(super) fn create(_bytes: usize) -> io::Result<OwnedDescriptor> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn fill(_file: &OwnedDescriptor, _bytes: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
