//! A path to the control socket that the kernel takes, however deep the home lies.
//!
//! The address of a Unix socket has room for some hundred bytes, and a home in a build's or a test's directory is
//! easily longer. Linux offers a way around: open the directory, and name the socket by the descriptor,
//! `/proc/self/fd/N/control.sock`; it is the same file. Elsewhere a long path is an error that says what to do.

use std::path::{Path, PathBuf};

#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt as _;

use super::Home;

/// `sun_path` less its NUL: unix(7) has 108 bytes on Linux, 104 on macOS and the BSDs.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A path to bind or connect a socket to. It is good for as long as this lives; what was bound or connected outlives it.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// What the path leads through.
    #[cfg(unix)]
    _directory: Option<OwnedFd>,
}

impl SocketPath {
    /// The path, for `bind` or `connect` of this process alone. In messages show the real one.
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

#[cfg(unix)]
impl Home {
    /// The control socket by a path short enough to bind and to connect to.
    ///
    /// # Errors
    /// The real path is too long and its directory isn't there (then nothing listens either: `ErrorKind::NotFound`),
    /// may not be opened, or this system has no way around.
    pub fn control_socket_short(&self) -> std::io::Result<SocketPath> {
        let path = self.control_socket();
        match path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            true => Ok(SocketPath {
                path,
                _directory: None,
            }),
            false => by_descriptor(&path),
        }
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

#[cfg(all(unix, not(target_os = "linux")))]
fn by_descriptor(path: &Path) -> std::io::Result<SocketPath> {
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidFilename,
        format!(
            "the control socket's path {} has {} bytes, and this system takes {SOCKET_PATH_BYTES_MAX}; \
             choose a shorter home with --home",
            path.display(),
            path.as_os_str().len()
        ),
    ))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
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

    /// The limit is the kernel's own, on this system too.
    #[test]
    fn the_limit_is_the_kernels() {
        let address =
            |bytes: usize| std::os::unix::net::SocketAddr::from_pathname("x".repeat(bytes));
        assert!(address(SOCKET_PATH_BYTES_MAX).is_ok());
        assert!(address(SOCKET_PATH_BYTES_MAX + 1).is_err());
    }
}
