//! Files and directories that only the host's user may use.
//!
//! On Unix they have a mode. On Windows the directories of a home have an access list of their own, and the files in
//! them inherit it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(unix)]
pub(crate) use unix::{close_to_others, is_open_to_others};
#[cfg(windows)]
pub(crate) use windows::{close_to_others, is_open_to_others};

/// Lets only the owner read and write a new file. [`set_owners_mode`] alone is not enough: the process's umask limits the
/// mode, and a daemon in this process may have changed the umask.
///
/// # Errors
/// A system error.
pub fn make_owners(file: &File) -> io::Result<()> {
    system::make_owners(file)
}

/// Lets only the owner read and write the file that these options create.
pub(crate) fn set_owners_mode(options: &mut OpenOptions) {
    system::set_owners_mode(options);
}

/// Creates a directory for the owner alone, with missing parents of the same kind, unless it exists.
///
/// # Errors
/// A system error.
pub(crate) fn make_owners_directory(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => system::close_new_directory(dir),
        Err(_) if dir.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
            // A directory that can have no other in it, such as /proc.
            if parent.is_dir() {
                return Err(e);
            }
            // Windows answers this as a path that is not found.
            if parent.is_file() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            make_owners_directory(parent)?;
            make_owners_directory(dir)
        }
        Err(e) => Err(e),
    }
}
