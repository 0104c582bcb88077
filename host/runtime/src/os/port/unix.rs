//! With address reuse, which on Unix lets nobody share a port that is listened on.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

pub(super) fn bind(socket: &TcpSocket, address: SocketAddr) -> io::Result<()> {
    // For port 0, set it only after bind: set before, it makes the system's search for a free port slow (3 s for ten
    // thousand ports, 50 ms without).
    socket.set_reuseaddr(address.port() != 0)?;
    socket.bind(address)?;
    socket.set_reuseaddr(true)
}

/// Returns false: a port that this user may not have stays that way, and the person must know it.
pub(super) fn is_reserved(_error: &io::Error) -> bool {
    false
}
