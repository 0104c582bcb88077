//! The kernel's counts of a connection's bytes, and direct reading and writing. Linux alone counts.
//!
//! A killed process can't report whether its last `recv` or `send` was done, but the kernel can. The bytes that came in,
//! less those still to be read, were read. The bytes that the other side has acknowledged, and those that await that,
//! were written. Urgent data must be in line with the rest ([`keep_in_line`]), or it would count as unread for good.

#![allow(unsafe_code)]

use std::io;

use super::descriptors::BorrowedDescriptor;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// The bytes read from and written to a connection since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCounts {
    /// The bytes that were read.
    pub read: u64,
    /// The bytes that were written.
    pub written: u64,
}

/// Asks the kernel for the counts. Nothing may read from or write to the connection meanwhile.
///
/// # Errors
/// `ConnectionReset` if the connection is closed, `Unsupported` where the system does not count, or the system's error.
pub fn counts(socket: BorrowedDescriptor<'_>) -> io::Result<ByteCounts> {
    system::counts(socket)
}

/// Makes the kernel treat urgent data like any other data.
///
/// # Errors
/// The system's error; `Unsupported` where the system does not count.
pub fn keep_in_line(socket: BorrowedDescriptor<'_>) -> io::Result<()> {
    system::keep_in_line(socket)
}

/// Reads once, without waiting, and returns the number of bytes.
///
/// # Errors
/// The system's error; `WouldBlock` if there is nothing to read; `Unsupported` where the system does not count.
///
/// # Safety
/// `length` bytes at `at` belong to the caller, and are valid for writing.
pub unsafe fn receive(
    socket: BorrowedDescriptor<'_>,
    at: *mut u8,
    length: usize,
) -> io::Result<usize> {
    // SAFETY: the caller's promise is the same.
    unsafe { system::receive(socket, at, length) }
}

/// Writes once, without waiting, and returns the number of bytes.
///
/// # Errors
/// The system's error; `WouldBlock` if the socket is full; `Unsupported` where the system does not count.
///
/// # Safety
/// `length` bytes at `at` belong to the caller, and are valid for reading.
pub unsafe fn send(
    socket: BorrowedDescriptor<'_>,
    at: *const u8,
    length: usize,
) -> io::Result<usize> {
    // SAFETY: the caller's promise is the same.
    unsafe { system::send(socket, at, length) }
}
