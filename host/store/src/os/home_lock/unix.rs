//! Locks the lock file and the home's directory, each as a whole. A lock here is advisory, so anybody can read the text of a locked file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::os::disk;
use crate::os::private;

#[cfg(test)]
mod tests;

/// Opens the lock file without truncating it, since the text may be another process's.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private::set_owners_mode(&mut options);
    options.open(path)
}

/// Locks the file that [`open`] has opened. Returns false if another process has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns whether a process has locked the file.
pub(crate) fn is_held(path: &Path) -> bool {
    let shared = disk::open_anything(path).map(|file| file.try_lock_shared());
    matches!(shared, Ok(Err(TryLockError::WouldBlock)))
}

/// Opens the directory and locks it; `None` if another process has it. Some file systems can't lock directories; there,
/// only the file's lock counts.
pub(crate) fn hold_directory(dir: &Path) -> io::Result<Option<File>> {
    let directory = File::open(dir)?;
    let is_taken = matches!(directory.try_lock(), Err(TryLockError::WouldBlock));
    Ok((!is_taken).then_some(directory))
}

/// Returns whether a process has locked the directory.
pub(crate) fn is_directory_held(dir: &Path) -> bool {
    is_held(dir)
}
