//! Systems without sealed memory files.

use std::io;
use std::ptr::NonNull;

use crate::os::descriptors::OwnedDescriptor;

/// A mapping, of which there is none.
#[derive(Debug)]
pub(super) enum Region {}

impl Region {
    pub(super) fn create(_bytes: usize) -> io::Result<(Self, OwnedDescriptor)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn open(_file: &OwnedDescriptor, _bytes: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn address(&self) -> NonNull<u8> {
        match *self {}
    }
}
