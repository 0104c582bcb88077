//! The end of a connection that its daemon must notice: a reset. After a plain close the daemon can't tell a guest that has
//! gone from one that has only finished sending, and carries out what it was asked.

use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

/// Makes the close of a connection reset it, so that the host of its daemon cancels the commands that still run.
pub fn reset_at_close(stream: &TcpStream) {
    // If the system refuses, the close is a plain one.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
