//! The connection of the command line to the control socket of a home.
//!
//! On Unix it is a Unix socket. On Windows it is a named pipe. Every wait for it has a limit.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io::{self, Read, Write};
use std::time::Duration;

use dae_store::home::Home;

/// A connection to a host's control socket. Its calls block.
#[derive(Debug)]
pub struct ControlClient(system::ControlClient);

impl ControlClient {
    /// Connects to the host of a home.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if nobody listens, `WouldBlock` or `TimedOut` if the listener accepts nobody
    /// within `limit`, `PermissionDenied` if it belongs to another user, or another error of the system.
    pub fn connect(home: &Home, limit: Duration) -> io::Result<Self> {
        let address = home.control_socket_short()?;
        system::ControlClient::connect(address.path(), limit).map(ControlClient)
    }

    /// Sets the limit of each read and write; `None` for none. One that takes longer fails with `WouldBlock` or
    /// `TimedOut`.
    ///
    /// # Errors
    /// The limit is zero, or the system's error.
    pub fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.limit(limit)
    }
}

impl Read for ControlClient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for ControlClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
