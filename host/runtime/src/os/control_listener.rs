//! The listener of the control socket, its connections, and the check of who connects.
//!
//! On Unix it is a socket file that only the owner may open. On Windows it is a named pipe that only the owner may open
//! and that has no file: it is there for as long as the host has it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;

use dae_store::home::Home;

pub use system::ControlStream;

/// A control socket that accepts connections.
#[derive(Debug)]
pub struct ControlListener(system::ControlListener);

impl ControlListener {
    /// Listens. The caller must hold the home's lock. Call it on a runtime.
    ///
    /// # Errors
    /// The system's error; `AddrInUse` if another process listens there.
    pub fn bind(home: &Home) -> io::Result<Self> {
        system::ControlListener::bind(home).map(ControlListener)
    }

    /// Waits for the next client. Dropping the future early loses none.
    ///
    /// # Errors
    /// The system's error.
    pub async fn accept(&self) -> io::Result<ControlStream> {
        self.0.accept().await
    }

    /// Returns whether clients still reach this listener.
    #[must_use]
    pub fn is_reachable(&self, home: &Home) -> bool {
        self.0.is_reachable(home)
    }

    /// Removes what it has left in the home. Ignores failures: the next host removes it.
    pub fn remove(&self, home: &Home) {
        self.0.remove(home);
    }
}

/// Returns whether the peer is the user who runs the host. Root is refused: it can act as that user instead.
#[must_use]
pub fn is_owner(stream: &ControlStream) -> bool {
    system::is_owner(stream)
}

/// Ends when the client has closed its end. A client that has only finished sending still reads its replies.
pub fn hang_up(stream: &ControlStream) -> impl Future<Output = ()> + Send + use<> {
    system::hang_up(stream)
}
