//! Reading and writing between a guest's socket and the shared memory.
//!
//! The worker reads straight into the shared memory, so that no moment exists in which bytes are read and lie in memory
//! that dies with the worker. The kernel gets an address for that, and no reference to the memory is made.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;

use super::buffer::OwnBuffer;
use crate::os::descriptors::BorrowedDescriptor;
use crate::os::tcp_counts;

pub use crate::os::tcp_counts::{ByteCounts, counts, keep_in_line};

/// Reads once into a buffer of the shared memory, without waiting.
///
/// # Errors
/// The system's error; `WouldBlock` if there is nothing to read.
pub(crate) fn receive<const BYTES: usize>(
    socket: BorrowedDescriptor<'_>,
    into: &mut OwnBuffer<'_, BYTES>,
) -> io::Result<usize> {
    let (at, length) = into.address(0..BYTES);
    // SAFETY: the bytes are a part of a buffer that this thread has for itself: it is borrowed mutably, by way of the
    // only guard. No reference to it as plain bytes exists. The host copies none of it until this process has reported
    // it.
    unsafe { tcp_counts::receive(socket, at.cast(), length) }
}

/// Writes a part of a buffer of the shared memory once, without waiting.
///
/// # Errors
/// The system's error; `WouldBlock` if the socket is full.
pub(crate) fn send<const BYTES: usize>(
    socket: BorrowedDescriptor<'_>,
    from: &OwnBuffer<'_, BYTES>,
    part: Range<usize>,
) -> io::Result<usize> {
    let (at, length) = from.address(part);
    // SAFETY: the bytes lie within a buffer that this thread owns.
    unsafe { tcp_counts::send(socket, at.cast_const().cast(), length) }
}
