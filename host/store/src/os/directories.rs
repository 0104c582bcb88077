//! The user's directories, which hold the default home.

use std::path::PathBuf;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::of_user;
#[cfg(windows)]
pub(crate) use windows::of_user;

/// The user's directories according to the system.
pub(crate) struct UserDirectories {
    pub(crate) data: PathBuf,
    pub(crate) state: Option<PathBuf>,
    pub(crate) config: PathBuf,
}
