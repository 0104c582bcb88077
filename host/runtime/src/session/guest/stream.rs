//! The streams that guests connect by: TCP and the control socket.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::os::control_listener::ControlStream;

/// A stream that guests connect by.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// Returns the origin of the connection, for the log.
    fn peer(&self) -> String;

    /// Writes what fits at once.
    ///
    /// # Errors
    /// An error of the system.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// True if a guest on this stream can be handed off to the daemon's own process.
    const CAN_BE_HANDED_OFF: bool;

    /// Detaches the socket from the runtime.
    ///
    /// # Errors
    /// An error of the system, or the stream can't be handed off.
    fn part(self) -> io::Result<std::net::TcpStream>;

    /// Attaches a detached socket to the runtime again.
    ///
    /// # Errors
    /// An error of the system, or the stream can't be handed off.
    fn rejoin(socket: std::net::TcpStream) -> io::Result<Self>;
}

impl Stream for TcpStream {
    fn peer(&self) -> String {
        self.peer_addr()
            .as_ref()
            .map_or_else(|_| "nobody".to_owned(), SocketAddr::to_string)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }

    const CAN_BE_HANDED_OFF: bool = true;

    fn part(self) -> io::Result<std::net::TcpStream> {
        self.into_std()
    }

    fn rejoin(socket: std::net::TcpStream) -> io::Result<Self> {
        TcpStream::from_std(socket)
    }
}

impl Stream for ControlStream {
    fn peer(&self) -> String {
        "the control socket".to_owned()
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        ControlStream::try_write(self, bytes)
    }

    const CAN_BE_HANDED_OFF: bool = false;

    fn part(self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rejoin(_: std::net::TcpStream) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
