//! A port of the loopback address or of another one, and the errors of one that another program has.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// Returns a socket that is bound to the port, or to any free port for 0. While it is open, no other program can bind
/// the same address. A restarted host gets its ports although old connections linger.
///
/// # Errors
/// The system's error: see [`is_taken`].
pub fn bind(port: u16) -> io::Result<TcpSocket> {
    bind_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Returns a socket that is bound to the address, by the same rules.
///
/// # Errors
/// The system's error: see [`is_taken`].
pub fn bind_to(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    system::bind(&socket, address)?;
    Ok(socket)
}

/// Returns whether the error says that another program has the port, so that the next one may be free.
#[must_use]
pub fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse || system::is_reserved(error)
}
