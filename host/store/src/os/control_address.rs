//! The address of a home's control socket.
//!
//! On Unix it is a socket file in the home, and its path may have to be shortened for the kernel. On Windows it is the
//! name of a named pipe; such names are not files and are common to the whole machine.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use system::of_home;

/// A path for binding or connecting a socket, or the name of a pipe. It is valid while this lives; a bound or connected
/// socket outlives it.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// The part of the path that has to stay open.
    _directory: system::Directory,
}

impl SocketPath {
    /// Returns the path for `bind` or `connect`, valid only in this process. Messages must show the real path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Returns a path to the control socket at `path` that is short enough to bind and to connect to.
///
/// # Errors
/// The path is too long, and its directory doesn't exist, can't be opened, or this system can't shorten the path.
pub(crate) fn short(path: PathBuf) -> io::Result<SocketPath> {
    let (path, directory) = system::short(path)?;
    Ok(SocketPath {
        path,
        _directory: directory,
    })
}
