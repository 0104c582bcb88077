//! Opens a plugin's file safely: neither a pipe that blocks forever nor a file that another user replaces can harm the
//! host.
//!
//! A loaded plugin runs with all rights of the host's user. Therefore only this user and root may write the file and
//! its directory; a private group of the owner counts as the owner (see [`crate::write_access`]). Directories further
//! up are not checked; they are the user's responsibility. A sticky directory (`/tmp`) is accepted, because users can't
//! rename or remove each other's files in it.
//!
//! The checks use the open file, not its name, so the checked file is the one that is read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::ops::Deref;
use std::path::Path;

use memmap2::MmapMut;

use super::fault::{FileFault, FileFaultKind};
use super::library::{BEGINNING_BYTES, check_is_object};
use crate::os::write_access::{self, AclTarget};
use crate::os::{advice, plugin_file, real_path};

/// The longest accepted file (bytes). Large plugins with all debug symbols have some hundred MB. The file is read into
/// memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Opens a plugin's file for reading.
///
/// # Errors
/// The file doesn't exist, isn't a regular file, can't be read, is too large, doesn't begin like a library, or others
/// may write it.
pub fn open(path: &Path) -> Result<File, FileFault> {
    let opened = opened(path);
    opened.map_err(|fault| fault.at(path))
}

fn opened(path: &Path) -> Result<File, FileFault> {
    let fault = |error: io::Error| match plugin_file::is_of_device(&error) {
        true => no_regular_file(),
        false => unreadable(path, &error),
    };
    // Checked before opening, because opening some devices has an effect.
    check_is_file(&fs::metadata(path).map_err(fault)?)?;
    let file = plugin_file::open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    check_is_file(&metadata)?;
    if !plugin_file::is_on_disk(&file) {
        return Err(no_regular_file());
    }
    check_trusted(path, &file, &metadata)?;
    check_beginning(path, &file)?;
    Ok(file)
}

/// Returns the length of a file whose type and size are those of a plugin; `None` for a pipe, a device or an oversized
/// file.
pub fn file_bytes(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    check_is_file(&metadata).is_ok().then_some(metadata.len())
}

/// The content of a file. Its pages go back to the system when it is dropped: an allocator would keep memory of that size
/// for later, in each of its arenas.
#[derive(Debug)]
pub struct FileContent {
    pages: MmapMut,
    bytes: usize,
}

impl Deref for FileContent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages[..self.bytes]
    }
}

/// Reads all bytes from the current position of `file`, which was opened from `path`.
///
/// # Errors
/// A disk error, or the file has grown meanwhile.
pub fn read_whole(file: &mut File, path: &Path) -> Result<FileContent, FileFault> {
    let read = content_of(file).map_err(|e| unreadable(path, &e).at(path))?;
    read.ok_or_else(|| {
        let text = "grew while it was read; try again when whatever writes it is done";
        FileFault::new(FileFaultKind::Changed, text).at(path)
    })
}

/// Returns the content, or `None` if the file has become longer than it was at first.
fn content_of(file: &mut File) -> io::Result<Option<FileContent>> {
    let bytes_now = file.metadata()?.len().min(FILE_BYTES_MAX);
    // The read that fills the last byte shows that the file has grown.
    let capacity = usize::try_from(bytes_now + 1).unwrap_or(usize::MAX);
    let mut content = FileContent {
        pages: MmapMut::map_anon(capacity)?,
        bytes: 0,
    };
    while content.bytes < capacity {
        match file.read(&mut content.pages[content.bytes..]) {
            Ok(0) => return Ok(Some(content)),
            Ok(more) => content.bytes += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn unreadable(path: &Path, error: &io::Error) -> FileFault {
    use io::ErrorKind as Kind;
    let advice = advice::of_path(error, path);
    let (kind, text) = match error.kind() {
        Kind::NotFound if let Some(advice) = advice => {
            (FileFaultKind::Missing, format!("is not there: {advice}"))
        }
        Kind::NotFound | Kind::NotADirectory => (
            FileFaultKind::Missing,
            "is not there; build it (`cargo build --release`), or look at the path".to_owned(),
        ),
        Kind::PermissionDenied => (
            FileFaultKind::NoPermission,
            format!("may not be read by this user; {}", advice::FILE_RIGHTS),
        ),
        _ => (
            FileFaultKind::Unreadable,
            format!(
                "cannot be read: {error}; {}",
                advice.unwrap_or("look at the path and the disk")
            ),
        ),
    };
    FileFault::new(kind, text)
}

fn check_is_file(metadata: &Metadata) -> Result<(), FileFault> {
    if metadata.is_dir() {
        let text = "is a directory; name the compiled plugin in it";
        return Err(FileFault::new(FileFaultKind::NotAFile, text));
    }
    if !metadata.is_file() {
        return Err(no_regular_file());
    }
    if metadata.len() > FILE_BYTES_MAX {
        let len = metadata.len();
        let text = format!(
            "has {len} bytes, more than the {FILE_BYTES_MAX} of any plugin; strip it, or name another file"
        );
        return Err(FileFault::new(FileFaultKind::TooLarge, text));
    }
    Ok(())
}

fn no_regular_file() -> FileFault {
    let text = "is a pipe, a socket or a device; name a compiled plugin";
    FileFault::new(FileFaultKind::NotAFile, text)
}

/// Rejects a file that doesn't begin like a library, without reading the rest.
fn check_beginning(path: &Path, file: &File) -> Result<(), FileFault> {
    let mut beginning = [0; BEGINNING_BYTES];
    let read = plugin_file::read_beginning(file, &mut beginning);
    check_is_object(&beginning[..read.map_err(|e| unreadable(path, &e))?])
}

/// Checks that others can write neither the file nor the directories that contain it.
fn check_trusted(path: &Path, file: &File, metadata: &Metadata) -> Result<(), FileFault> {
    check_hands(path, AclTarget::Open(file), metadata)?;
    // The file can be replaced in two places: the directory of a symbolic link and the directory of its target.
    let real = real_path::of(path).map_err(|e| unreadable(path, &e))?;
    let named = std::path::absolute(path).map_err(|e| unreadable(path, &e))?;
    for directory in [named.parent(), real.parent()].into_iter().flatten() {
        let metadata = fs::metadata(directory).map_err(|e| unreadable(path, &e))?;
        check_hands(directory, AclTarget::Named(directory), &metadata)?;
    }
    Ok(())
}

fn check_hands(path: &Path, place: AclTarget<'_>, metadata: &Metadata) -> Result<(), FileFault> {
    let what = path.display();
    let other = write_access::other_owner(metadata, place, true);
    if let Some(other) = other.map_err(|e| unreadable(path, &e))? {
        let text = format!(
            "is not safe to run: {what} belongs to user {}, and this is user {}; \
             copy it to a directory of your own",
            other.owner, other.ours
        );
        return Err(FileFault::new(FileFaultKind::Insecure, text));
    }
    if write_access::is_sticky(metadata, place) {
        return Ok(());
    }
    if let Some(who) = write_access::others_who_write(metadata, place) {
        let text = format!(
            "is not safe to run: {what} may be written by {who}; {}",
            who.remedy(path)
        );
        return Err(FileFault::new(FileFaultKind::Insecure, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn the_whole_content_is_read_from_where_the_file_is() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(
            read_whole(&mut file, Path::new("empty"))
                .unwrap()
                .is_empty()
        );
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        assert_eq!(*read_whole(&mut file, Path::new("x")).unwrap(), *b"content");
    }
}
