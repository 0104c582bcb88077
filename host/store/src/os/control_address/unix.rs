//! A path to the control socket that is short enough for the kernel, however deep the home lies.
//!
//! The address of a Unix socket is limited to about a hundred bytes, which a home in a build or test directory easily
//! exceeds. On Linux the socket can be reached through its open directory, as `/proc/self/fd/N/control.sock`; that is
//! the same file. On other systems a long path is an error that says what to do.

use std::path::{Path, PathBuf};

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

#[cfg(test)]
mod tests;

/// The size of `sun_path` without its NUL (bytes): unix(7) has 108 bytes on Linux, 104 on macOS and the BSDs.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A path for binding or connecting a socket. It is valid while this lives; a bound or connected socket outlives it.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// The open directory in the path.
    _directory: Option<OwnedFd>,
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

/// Returns the path of the control socket of a home with these directories.
pub(crate) fn of_home(_data: &Path, runtime: &Path) -> PathBuf {
    runtime.join("control.sock")
}

/// Returns a path to the control socket at `path` that is short enough to bind and to connect to.
///
/// # Errors
/// The path is too long, and its directory doesn't exist, can't be opened, or this system can't shorten the path.
pub(crate) fn short(path: PathBuf) -> std::io::Result<SocketPath> {
    match path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        true => Ok(SocketPath {
            path,
            _directory: None,
        }),
        false => by_descriptor(&path),
    }
}

#[cfg(target_os = "linux")]
fn by_descriptor(path: &Path) -> std::io::Result<SocketPath> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd as _;

    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok(SocketPath {
        path: short,
        _directory: Some(directory),
    })
}

#[cfg(not(target_os = "linux"))]
fn by_descriptor(path: &Path) -> std::io::Result<SocketPath> {
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidFilename,
        format!(
            "the control socket's path {} has {} bytes, and this system takes {SOCKET_PATH_BYTES_MAX}; \
             choose a home with a shorter path",
            path.display(),
            path.as_os_str().len()
        ),
    ))
}
