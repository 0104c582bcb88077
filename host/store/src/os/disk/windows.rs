//! The steps of a durable write on Windows.
//!
//! A file that another program has open may refuse to be opened, replaced or removed. That is then tried again for a
//! while.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempPath};

use crate::os::advice::is_in_use;
use crate::os::handle;
use crate::os::in_use::{self, retried};

#[cfg(test)]
mod tests;

/// Creates a temporary file in `directory`. The standard library opens it: a file of the crate has the attribute of a
/// temporary one, which keeps it in memory, and a path in it may not be long.
pub(crate) fn temporary_in(directory: &Path, named: &Builder<'_, '_>) -> io::Result<NamedTempFile> {
    named.make_in(directory, |path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).open(path)
    })
}

/// Does work with several files, whose waits for other programs together take no longer than that for one file.
pub(crate) fn with_one_wait<T>(work: impl FnOnce() -> T) -> T {
    in_use::with_one_wait(work)
}

/// Opens whatever is there for reading, as soon as a program that doesn't share it lets go of it.
pub(crate) fn open_anything(path: &Path) -> io::Result<File> {
    retried(is_in_use, || File::open(path))
}

/// Does nothing: no pipe has a name among the files.
pub(crate) fn never_wait(_options: &mut OpenOptions) {}

/// Opens a file on a disk for reading. A pipe or a device is refused, which may have no end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = open_anything(path)?;
    match handle::is_on_disk(&file) {
        true => Ok(file),
        false => Err(io::Error::other(
            "expected a regular file, got a pipe or a device",
        )),
    }
}

/// Reads a file on a disk.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns false: descriptors have no paths here.
pub(crate) fn is_own_descriptor(_path: &Path) -> bool {
    false
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    retried(is_in_use, || fs::remove_file(path))
}

/// Renames a file.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    retried(is_in_use, || fs::rename(from, to))
}

/// Renames a temporary file over `path`.
///
/// # Errors
/// A system error; the temporary file is then removed and `path` is unchanged.
pub(crate) fn replace(mut temporary: TempPath, path: &Path) -> io::Result<()> {
    // The standard library's rename replaces a file that a reader has open and shares, on the file systems that can.
    retried(
        |error| may_pass(error, path),
        || fs::rename(&temporary, path),
    )?;
    temporary.disable_cleanup(true);
    Ok(())
}

/// Returns whether a rename that failed may succeed later. An open file is answered as an access that is denied, and so
/// is a directory in the way, which no wait removes.
fn may_pass(error: &io::Error, path: &Path) -> bool {
    is_in_use(error) || error.kind() == io::ErrorKind::PermissionDenied && !path.is_dir()
}

/// Syncs a file that will be renamed. Afterwards it is too late: Windows syncs only files that are open for writing, and
/// opens none so that a process has loaded as a library.
pub(crate) fn sync_before_rename(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Does nothing: see [`sync_before_rename`].
pub(crate) fn sync_later(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Does nothing: Windows can't sync a directory, and NTFS writes its names to a journal.
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
