//! A file of somebody else's, opened so that nothing about it can surprise: not a pipe that never ends, not a file
//! that another user exchanges.
//!
//! Trust: what is loaded runs with all of our user's rights, so whoever may write the file or its directory is as good
//! as we are. Only our user and root may, or the private group of one of them (see [`crate::write_access`]). The directories
//! further up are not looked at: they are as the user keeps them. A sticky directory (`/tmp`) is good enough, for in it
//! nobody moves another's files.
//!
//! The file is judged by its open descriptor, not by its name, so that what was judged is what is read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use super::fault::{FileFault, FileFaultKind};
use super::library::{BEGINNING_BYTES, check_is_object};
#[cfg(unix)]
use crate::write_access::{self, AclTarget};

/// No plugin comes near; with all debug symbols, large ones have some hundred MB. It is read into memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Opens a plugin's file for reading.
///
/// # Errors
/// It isn't there, isn't a regular file, may not be read, is too large, or others may write it.
pub fn open(path: &Path) -> Result<File, FileFault> {
    let opened = opened(path);
    opened.map_err(|fault| fault.at(path))
}

fn opened(path: &Path) -> Result<File, FileFault> {
    // Before the open, which for some devices does something.
    check_is_file(&fs::metadata(path).map_err(|e| unreadable(&e))?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // Should it have become a pipe since, the open still doesn't wait for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path).map_err(|e| unreadable(&e))?;
    let metadata = file.metadata().map_err(|e| unreadable(&e))?;
    check_is_file(&metadata)?;
    check_trusted(path, &file, &metadata)?;
    check_beginning(&file)?;
    Ok(file)
}

/// The length of a file that may be a plugin by its kind and size; `None` for a pipe, a device, a giant.
pub fn file_bytes(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    check_is_file(&metadata).is_ok().then_some(metadata.len())
}

/// All bytes from where `file`, opened from `path`, stands.
///
/// # Errors
/// The disk's.
pub fn read_whole(file: &mut File, path: &Path) -> Result<Vec<u8>, FileFault> {
    // One allocation, where it stays as long as it is now.
    let bytes_now = file.metadata().map_or(0, |metadata| metadata.len());
    let room = usize::try_from(bytes_now.min(FILE_BYTES_MAX) + 1).unwrap_or(0);
    let mut bytes = Vec::with_capacity(room);
    match file.take(FILE_BYTES_MAX).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err(unreadable(&e).at(path)),
    }
}

fn unreadable(error: &io::Error) -> FileFault {
    use io::ErrorKind as Kind;
    let (kind, text) = match error.kind() {
        Kind::NotFound | Kind::NotADirectory => (
            FileFaultKind::Missing,
            "is not there; build it (`cargo build --release`), or look at the path".to_owned(),
        ),
        Kind::PermissionDenied => (
            FileFaultKind::NoPermission,
            "may not be read by this user; see `ls -ld` of it and of its directories".to_owned(),
        ),
        _ => (
            FileFaultKind::Unreadable,
            format!("cannot be read: {error}; look at the path and the disk"),
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
        let text = "is a pipe, a socket or a device; name a compiled plugin";
        return Err(FileFault::new(FileFaultKind::NotAFile, text));
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

/// A file that begins like no library is not read any further, however large it is.
#[cfg(unix)]
fn check_beginning(file: &File) -> Result<(), FileFault> {
    use std::os::unix::fs::FileExt as _;
    let mut beginning = [0; BEGINNING_BYTES];
    let length = file
        .read_at(&mut beginning, 0)
        .map_err(|e| unreadable(&e))?;
    check_is_object(&beginning[..length])
}

#[cfg(not(unix))]
fn check_beginning(_file: &File) -> Result<(), FileFault> {
    Ok(())
}

/// Neither the file, nor a directory by which its name leads to it, is in the hands of others.
#[cfg(unix)]
fn check_trusted(path: &Path, file: &File, metadata: &Metadata) -> Result<(), FileFault> {
    check_hands(path, AclTarget::Open(file), metadata)?;
    // The directory of a link and that of the file behind it: in either, the file can be exchanged.
    let real = fs::canonicalize(path).map_err(|e| unreadable(&e))?;
    let named = std::path::absolute(path).map_err(|e| unreadable(&e))?;
    for directory in [named.parent(), real.parent()].into_iter().flatten() {
        let metadata = fs::metadata(directory).map_err(|e| unreadable(&e))?;
        check_hands(directory, AclTarget::Named(directory), &metadata)?;
    }
    Ok(())
}

#[cfg(unix)]
fn check_hands(what: &Path, place: AclTarget<'_>, metadata: &Metadata) -> Result<(), FileFault> {
    use std::os::unix::fs::MetadataExt as _;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let ours = rustix::process::geteuid().as_raw();
    let what = what.display();
    if ![ours, 0].contains(&owner) {
        let text = format!(
            "is not safe to run: {what} belongs to user {owner}, and this is user {ours}; \
             copy it to a directory of your own"
        );
        return Err(FileFault::new(FileFaultKind::Insecure, text));
    }
    let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
    if is_sticky {
        return Ok(());
    }
    if let Some(who) = write_access::others_who_write(metadata, place) {
        let text = format!(
            "is not safe to run: {what} may be written by {who}; close it with `chmod go-w {what}`"
        );
        return Err(FileFault::new(FileFaultKind::Insecure, text));
    }
    Ok(())
}

/// Windows keeps files from others by inherited lists, which have no such bits.
#[cfg(not(unix))]
fn check_trusted(_path: &Path, _file: &File, _metadata: &Metadata) -> Result<(), FileFault> {
    Ok(())
}
