//! A Unix socket.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Peer;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use dae_store::home::{FileId, Home};

/// The interval for checking whether a client that has finished sending still reads.
const HANG_UP_POLL: Duration = Duration::from_millis(100);

/// A connection.
pub type ControlStream = UnixStream;

#[derive(Debug)]
pub(super) struct ControlListener {
    listener: UnixListener,
    /// The identity of the socket file that was created.
    file: FileId,
}

impl ControlListener {
    /// A file there on which nobody listens was left by a killed host, and is replaced.
    pub(super) fn bind(home: &Home) -> io::Result<Self> {
        let path = home.control_socket();
        let short = home.control_socket_short()?;
        if Peer::connect(short.path()).is_ok() {
            let text = "another process listens there; end it, or remove the socket";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let file = FileId::of(&std::fs::symlink_metadata(&path)?);
        Ok(ControlListener { listener, file })
    }

    pub(super) async fn accept(&self) -> io::Result<ControlStream> {
        Ok(self.listener.accept().await?.0)
    }

    /// The file may be gone, or be another host's.
    pub(super) fn is_reachable(&self, home: &Home) -> bool {
        let there = std::fs::symlink_metadata(home.control_socket());
        there.is_ok_and(|metadata| FileId::of(&metadata) == self.file)
    }

    pub(super) fn remove(&self, home: &Home) {
        if self.is_reachable(home) {
            let _ = std::fs::remove_file(home.control_socket());
        }
    }
}

pub(super) fn is_owner(stream: &ControlStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// Reading can't tell a client that has only finished sending from one that has gone. So the system is polled once there
/// is nothing more to read.
pub(super) fn hang_up(stream: &ControlStream) -> impl Future<Output = ()> + Send + use<> {
    let watched = stream.as_fd().try_clone_to_owned();
    let watched = watched.map(std::os::unix::net::UnixStream::from);
    let watched = watched.and_then(UnixStream::from_std);
    async move {
        // Without a watch, writing the replies detects the end.
        let Ok(watched) = watched else {
            return std::future::pending().await;
        };
        loop {
            match watched.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {
                    // The guest's own task reads the data. Clear the readiness here to wait for the next event.
                    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = watched.try_io(Interest::READABLE, nothing);
                    continue;
                }
                _ if has_hung_up(&watched) => return,
                _ => {}
            }
            tokio::time::sleep(HANG_UP_POLL).await;
        }
    }
}

fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let asked = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    asked.is_ok_and(|_| polled[0].revents().contains(PollFlags::HUP))
}
