//! A port of the loopback address, and the errors of one that another program has.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;

use tokio::net::TcpSocket;

/// Returns a socket that is bound to the port, or to any free port for 0. While it is open, no other program can bind
/// the same address. A restarted host gets its ports although old connections linger.
///
/// # Errors
/// The system's error: see [`is_taken`].
pub fn bind(port: u16) -> io::Result<TcpSocket> {
    system::bind(port)
}

/// Returns whether the error says that another program has the port, so that the next one may be free.
#[must_use]
pub fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse || system::is_reserved(error)
}
