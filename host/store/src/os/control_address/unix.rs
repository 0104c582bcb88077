//! A path to the control socket that is short enough for the kernel, however deep the home lies.
//!
//! The address of a Unix socket is limited to about a hundred bytes, which a home in a build or test directory easily
//! exceeds. On Linux the socket can be reached through its open directory, as `/proc/self/fd/N/control.sock`; that is
//! the same file. On other systems a long path is an error that says what to do.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The size of `sun_path` without its NUL (bytes): unix(7) has 108 bytes on Linux, 104 on macOS and the BSDs.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The open directory in a shortened path.
pub(super) type Directory = Option<OwnedFd>;

/// Returns the path of the control socket of a home with these directories.
pub(crate) fn of_home(_data: &Path, runtime: &Path) -> PathBuf {
    runtime.join("control.sock")
}

pub(super) fn short(path: PathBuf) -> io::Result<(PathBuf, Directory)> {
    match path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        true => Ok((path, None)),
        false => by_descriptor(&path),
    }
}

#[cfg(target_os = "linux")]
fn by_descriptor(path: &Path) -> io::Result<(PathBuf, Directory)> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd as _;

    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((short, Some(directory)))
}

#[cfg(not(target_os = "linux"))]
fn by_descriptor(path: &Path) -> io::Result<(PathBuf, Directory)> {
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!(
            "the control socket's path {} has {} bytes, and this system takes {SOCKET_PATH_BYTES_MAX}; \
             choose a home with a shorter path",
            path.display(),
            path.as_os_str().len()
        ),
    ))
}
