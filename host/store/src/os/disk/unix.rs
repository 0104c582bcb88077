//! The steps of a durable write on Unix.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempPath};

/// Creates a temporary file in `directory`.
pub(crate) fn temporary_in(directory: &Path, named: &Builder<'_, '_>) -> io::Result<NamedTempFile> {
    named.tempfile_in(directory)
}

/// Does work with several files. No program keeps others from using them, so nothing waits.
pub(crate) fn with_one_wait<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Renames a file.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Renames a temporary file over `path`.
///
/// # Errors
/// A system error; the temporary file is then removed and `path` is unchanged.
pub(crate) fn replace(temporary: TempPath, path: &Path) -> io::Result<()> {
    temporary.persist(path).map_err(|e| e.error)
}

/// Does nothing: [`sync_later`] syncs the file under its final name, while others use it already.
pub(crate) fn sync_before_rename(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Syncs a file that was renamed without.
pub(crate) fn sync_later(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|opened| opened.sync_all()) {
        Err(e) if !can_sync_directories(&e) => Ok(()),
        result => result,
    }
}

/// Returns whether the file system can sync directories. Some FUSE and network file systems can't; nothing more can be
/// done there.
fn can_sync_directories(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}
