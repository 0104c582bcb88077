//! With exclusive use. Address reuse would let any program of this machine take over a port that is listened on.
//!
//! The system closes a lingering connection's address to nobody, so that a restarted host needs no address reuse.

#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsRawSocket as _;

use tokio::net::TcpSocket;
use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, WSAEACCES, setsockopt,
};

pub(super) fn bind(socket: &TcpSocket, address: SocketAddr) -> io::Result<()> {
    exclude_others(socket)?;
    socket.bind(address)
}

/// The option has effect only before the socket is bound.
fn exclude_others(socket: &TcpSocket) -> io::Result<()> {
    let on = 1_i32.to_ne_bytes();
    let length = i32::try_from(on.len()).unwrap_or(0);
    // The standard library's type and the system's differ in name only.
    let raw = socket.as_raw_socket() as SOCKET;
    // SAFETY: the socket is borrowed, so it is open; the call reads `length` bytes behind the pointer.
    match unsafe { setsockopt(raw, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, on.as_ptr(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The system denies access to a port that another program has exclusively, or that is set aside for a service.
pub(super) fn is_reserved(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEACCES)
}

#[cfg(test)]
mod tests {
    use super::super::{bind, is_taken};

    #[tokio::test]
    async fn a_port_has_one_listener() {
        let first = bind(0).unwrap();
        let port = first.local_addr().unwrap().port();
        let _listener = first.listen(1).unwrap();
        let error = bind(port).expect_err("it is taken");
        assert!(is_taken(&error), "{error}");
    }
}
