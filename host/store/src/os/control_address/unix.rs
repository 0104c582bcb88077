//! A path to the control socket that is short enough for the kernel, however deep the home lies.
//!
//! The address of a Unix socket is limited to about a hundred bytes, which a home in a build or test directory easily
//! exceeds. On Linux the socket can be reached through its open directory, as `/proc/self/fd/N/control.sock`; that is
//! the same file. On other systems a long path is an error that says what to do.

use std::path::{Path, PathBuf};

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_short_path_stays_as_it_is() {
        let home = Home::at("/h");
        let short = home.control_socket_short().unwrap();
        assert_eq!(short.path(), home.control_socket());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_long_path_is_bound_and_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("d".repeat(120)).join("e".repeat(120)));
        home.create().unwrap();
        assert!(UnixListener::bind(home.control_socket()).is_err());
        let listener = UnixListener::bind(home.control_socket_short().unwrap()).unwrap();
        assert!(home.control_socket().exists());
        let mut guest = UnixStream::connect(home.control_socket_short().unwrap()).unwrap();
        listener.accept().unwrap().0.write_all(b"dae").unwrap();
        let mut text = String::new();
        guest.read_to_string(&mut text).unwrap();
        assert_eq!(text, "dae");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_long_path_in_a_home_that_is_not_there_means_that_nobody_listens() {
        let home = Home::at(format!("/nowhere/{}", "d".repeat(120)));
        let error = home.control_socket_short().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    /// Checks the limit against the kernel of this system.
    #[test]
    fn the_limit_is_the_kernels() {
        let address =
            |bytes: usize| std::os::unix::net::SocketAddr::from_pathname("x".repeat(bytes));
        assert!(address(SOCKET_PATH_BYTES_MAX).is_ok());
        assert!(address(SOCKET_PATH_BYTES_MAX + 1).is_err());
    }
}
