//! The steps of a durable write on Unix.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempPath};

/// Creates a temporary file in `directory`.
pub(crate) fn temporary_in(directory: &Path, named: &Builder<'_, '_>) -> io::Result<NamedTempFile> {
    named.tempfile_in(directory)
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
