//! The control socket: where the owner of the home, and nobody else, changes the ecosystem.
//!
//! A Unix socket in a directory that only its owner may enter, itself for its owner alone, and each peer's user is asked
//! of the kernel besides. It speaks Common TCP, so its connections are guests like any other.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

use crate::door::Door;
use crate::guest;
use crate::home::Home;

/// A listening control socket. Dropped, it is gone, its file too.
#[derive(Debug)]
pub struct Control {
    task: AbortHandle,
    path: PathBuf,
}

impl Control {
    /// Listens. The home's lock must be held: a socket file that is there was left behind by a host that was killed.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(home: &Home, door: Arc<Door>) -> io::Result<Self> {
        let path = home.control_socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let short = home.control_socket_short()?;
        let listener = UnixListener::bind(short.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(accept(listener, door)).abort_handle();
        Ok(Control { task, path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // Where it can't be removed, the next host does.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, door: Arc<Door>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_owner(&stream) => {
                tokio::spawn(guest::serve(stream, Arc::clone(&door)));
            }
            Ok(_) => {
                tracing::warn!("another user knocked at the control socket, and was not let in")
            }
            Err(error) => {
                tracing::warn!(%error, "nobody could be let in at the control socket; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether the peer is the user who runs the host. Root is not: what it wants here it can do as that user.
fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}
