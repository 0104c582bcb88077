//! Descriptors of files and sockets: their types, how many a process may have, and what it has inherited.
//!
//! Windows has handles in place of descriptors. Their number has no limit that a host could reach. There a descriptor
//! means a socket.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;

use tokio::net::TcpStream;

pub use system::{AsDescriptor, BorrowedDescriptor, Numbered, OwnedDescriptor};

/// Borrows the descriptor of a file or socket.
pub fn of(opened: &impl AsDescriptor) -> BorrowedDescriptor<'_> {
    system::of(opened)
}

/// Returns the soft limit: how many descriptors this process may have. `None` if there is no limit.
#[must_use]
pub fn limit() -> Option<u64> {
    system::limit()
}

/// Sets the soft limit, at most to the hard limit. If the system refuses, the process keeps its limit.
pub fn set_limit(files_max: u64) {
    system::set_limit(files_max);
}

/// Returns whether an error means that this process has reached its limit.
#[must_use]
pub fn is_none_left(error: &io::Error) -> bool {
    system::is_none_left(error)
}

/// Returns a copy of a connection that has the lowest free number.
///
/// # Errors
/// The system's error.
pub fn lowest_copy(stream: &TcpStream) -> io::Result<std::net::TcpStream> {
    system::lowest_copy(stream)
}

/// Keeps inherited descriptors from the programs that this process starts, apart from the three standard ones. On Windows
/// it keeps these too, unless a program is given them. Call it before there are threads.
pub fn keep_to_ourselves() {
    system::keep_to_ourselves();
}

/// Returns the number by which the kernel knows a socket, in whatever process.
///
/// # Errors
/// The system's error; `InvalidInput` if it is no socket.
pub fn socket_number(socket: BorrowedDescriptor<'_>) -> io::Result<u64> {
    system::socket_number(socket)
}
