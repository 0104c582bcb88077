//! The steps of a durable write on Unix, and the opening of files that may have become something else.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempPath};

#[cfg(test)]
mod tests;

/// Creates a temporary file in `directory`.
pub(crate) fn temporary_in(directory: &Path, named: &Builder<'_, '_>) -> io::Result<NamedTempFile> {
    named.tempfile_in(directory)
}

/// Does work with several files. No program keeps others from using them, so nothing waits.
pub(crate) fn with_one_wait<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Opens whatever is there for reading, without waiting: a pipe that nobody writes to would hold an open for ever.
pub(crate) fn open_anything(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    never_wait(&mut options);
    options.open(path)
}

/// Makes an open, and each use of the open file, fail where it would have to wait. Regular files are never waited for.
pub(crate) fn never_wait(options: &mut OpenOptions) {
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
}

/// Opens a regular file for reading. Anything else is refused: a pipe could be waited for, and a device may have no end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = open_anything(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!(
            "expected a regular file, got {}",
            kind_text(kind)
        ))),
    }
}

fn kind_text(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Reads a regular file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns whether the path names a descriptor that this process has got, such as that of a shell's `<(command)`.
pub(crate) fn is_own_descriptor(path: &Path) -> bool {
    let is_below = |dir: &str| path.starts_with(dir);
    path == Path::new("/dev/stdin") || is_below("/dev/fd") || is_below("/proc/self/fd")
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
