//! Systems whose kernel does not count.

#![allow(unsafe_code)]

use std::io;

use super::ByteCounts;
use crate::os::descriptors::BorrowedDescriptor;

pub(super) fn counts(_: BorrowedDescriptor<'_>) -> io::Result<ByteCounts> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn keep_in_line(_: BorrowedDescriptor<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
/// It touches no memory.
pub(super) unsafe fn receive(_: BorrowedDescriptor<'_>, _: *mut u8, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
/// It touches no memory.
pub(super) unsafe fn send(_: BorrowedDescriptor<'_>, _: *const u8, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
