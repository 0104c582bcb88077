//! Files that survive a power cut: either the whole old file or the whole new file remains, never a part of either.
//!
//! A write goes to a temporary file in the same directory, which is synced and renamed over the old file. The directory
//! is then synced too, since a name is part of the directory's data. This takes two syncs; several files in one
//! directory can share the second one ([`stage`]).
//!
//! Out of scope: locks (the home's lock ensures a single writer) and reading. Errors are [`DiskFault`]s, which name the
//! action, the file, the cause and a remedy. After an error the old file is unchanged.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

pub use crate::os::private::make_owners;
use crate::os::{advice, disk, private};

/// The prefix of temporary files, which lets people recognise leftovers of a killed process. [`sweep`] removes these at
/// the next start.
const TEMPORARY_PREFIX: &str = ".new-";

/// The number of random characters (letters and digits) after the prefix.
const TEMPORARY_RANDOM_CHARS: usize = 6;

/// A failed operation on a file or directory.
#[derive(Debug)]
pub struct DiskFault {
    text: String,
}

impl DiskFault {
    /// Creates a fault from a system error. `tried` is a verb, such as `write`.
    pub fn new(error: &io::Error, tried: &str, path: &Path) -> Self {
        let named = path.display();
        let text = match advice_for(error, path) {
            Some(advice) => format!("cannot {tried} {named}: {error}; {advice}"),
            None => format!("cannot {tried} {named}: {error}"),
        };
        DiskFault { text }
    }
}

impl std::fmt::Display for DiskFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DiskFault {}

/// Returns a remedy for the user, where the system's error text doesn't suggest one.
fn advice_for(error: &io::Error, path: &Path) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    if let Some(advice) = advice::of_error(error, path) {
        return Some(advice);
    }
    Some(match error.kind() {
        Kind::StorageFull => "the disk is full: free some space and try again",
        Kind::QuotaExceeded => "your disk quota is used up: free some of it and try again",
        Kind::PermissionDenied => advice::OWNER,
        Kind::ReadOnlyFilesystem => "that file system is read-only: choose another home",
        Kind::NotADirectory => {
            "a part of that path is a file: move it away, or choose another home"
        }
        Kind::NotFound => {
            "it, or the directory it lies in, is gone: was the home removed while in use?"
        }
        _ => return None,
    })
}

/// Replaces the content of `path` with `bytes`. Only the owner may read the file.
///
/// # Errors
/// A disk error; `path` is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskFault> {
    stage(path, bytes)?.put_in_place()?;
    sync_directory(directory_of(path))
}

/// The new content of a file, in a synced temporary file beside it. Dropping this removes the temporary file.
#[derive(Debug)]
pub struct StagedFile {
    path: PathBuf,
    temporary: TempPath,
}

/// Performs the first step of [`write()`]. To write several files of one directory, stage each of them (possibly in
/// parallel), put each in place, and call [`sync_directory`] once. The files are durable only after that.
///
/// # Errors
/// A disk error; `path` is then unchanged.
pub fn stage(path: &Path, bytes: &[u8]) -> Result<StagedFile, DiskFault> {
    stage_parts(path, &[bytes])
}

/// Does the same as [`stage`] with a content in several parts.
///
/// # Errors
/// The same as [`stage`].
pub(crate) fn stage_parts(path: &Path, parts: &[&[u8]]) -> Result<StagedFile, DiskFault> {
    let file = beside(path, parts)?;
    let synced = file.as_file().sync_all();
    synced.map_err(|e| DiskFault::new(&e, "write", path))?;
    Ok(StagedFile {
        path: path.to_owned(),
        temporary: file.into_temp_path(),
    })
}

impl StagedFile {
    /// Renames the temporary file over the old one.
    ///
    /// # Errors
    /// A disk error; the old file is then unchanged.
    pub(crate) fn put_in_place(self) -> Result<(), DiskFault> {
        rename(self.temporary, &self.path)
    }
}

/// Writes like [`write()`], but without syncing where [`settle`] can sync later. For a file whose damage can be detected.
///
/// # Errors
/// A disk error; `path` is then unchanged.
pub fn place(path: &Path, bytes: &[u8]) -> Result<(), DiskFault> {
    let file = beside(path, &[bytes])?;
    let synced = disk::sync_before_rename(file.as_file());
    synced.map_err(|e| DiskFault::new(&e, "write", path))?;
    rename(file.into_temp_path(), path)
}

/// Makes a file that [`place`] has written durable.
///
/// # Errors
/// A disk error; after a power cut the file may then have any content.
pub fn settle(path: &Path) -> Result<(), DiskFault> {
    disk::sync_later(path).map_err(|e| DiskFault::new(&e, "write", path))?;
    sync_directory(directory_of(path))
}

fn beside(path: &Path, parts: &[&[u8]]) -> Result<NamedTempFile, DiskFault> {
    let mut named = tempfile::Builder::new();
    named
        .prefix(TEMPORARY_PREFIX)
        .rand_bytes(TEMPORARY_RANDOM_CHARS);
    let file = disk::temporary_in(directory_of(path), &named);
    let filled = file.and_then(|mut file| {
        make_owners(file.as_file())?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        Ok(file)
    });
    filled.map_err(|e| DiskFault::new(&e, "write", path))
}

fn rename(temporary: TempPath, path: &Path) -> Result<(), DiskFault> {
    disk::replace(temporary, path).map_err(|e| DiskFault::new(&e, "replace", path))
}

/// Removes temporary files of killed processes in `directory` and below, except in the subdirectory `spared`. The
/// caller must hold the home's lock and must not have written anything yet.
pub fn sweep(directory: &Path, spared: &Path) {
    for path in leftovers(directory, spared) {
        // A file that can't be removed now does no harm; the next start tries again.
        let _ = fs::remove_file(&path);
    }
}

/// Returns the files that [`sweep`] removes. While a host runs, some of them may be its own, and in use.
#[must_use]
pub fn leftovers(directory: &Path, spared: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() && path != spared => found.extend(leftovers(&path, spared)),
            Ok(kind) if kind.is_file() && is_temporary(&entry.file_name()) => found.push(path),
            _ => {}
        }
    }
    found
}

fn is_temporary(name: &OsStr) -> bool {
    let random = name
        .to_str()
        .and_then(|name| name.strip_prefix(TEMPORARY_PREFIX));
    let is_random = |random: &str| {
        random.len() == TEMPORARY_RANDOM_CHARS && random.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    random.is_some_and(is_random)
}

/// Makes the names in `directory` durable.
///
/// # Errors
/// A disk error.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), DiskFault> {
    disk::sync_directory(directory).map_err(|e| DiskFault::new(&e, "sync", directory))
}

/// Does work with several files of the store. Where another program may keep a file from being used, the waits for all of
/// them together take no longer than that for one.
pub(crate) fn with_one_wait<T>(work: impl FnOnce() -> T) -> T {
    disk::with_one_wait(work)
}

/// Opens a file of the store for reading. Where another program may keep it from being opened, it is waited for.
///
/// # Errors
/// A system error.
pub fn open(path: &Path) -> io::Result<fs::File> {
    disk::open(path)
}

/// Reads a file of the store, as [`open`] opens it.
///
/// # Errors
/// A system error.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    disk::read(path)
}

/// Gives a file another name, as soon as no other program keeps it from that.
///
/// # Errors
/// A disk error.
pub(crate) fn move_aside(path: &Path, to: &Path) -> Result<(), DiskFault> {
    disk::rename(path, to).map_err(|e| DiskFault::new(&e, "move aside", path))
}

/// Writes a new file that only its owner may read. What is half-written is removed.
///
/// # Errors
/// There is a file of that name already, or a disk error.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    private::set_owners_mode(&mut options);
    let mut file = options.open(path).map_err(taken)?;
    let written = private::make_owners(&file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    }
    written
}

/// Returns the error of a file that can't be made, in words of its own if there is one of that name.
fn taken(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::AlreadyExists => io::Error::new(
            kind,
            "it is there already, and is left as it is; choose another name",
        ),
        _ => error,
    }
}

/// Removes a file. A missing file is not an error.
///
/// # Errors
/// A disk error.
pub fn remove(path: &Path) -> Result<(), DiskFault> {
    match disk::remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DiskFault::new(&e, "remove", path)),
        _ => Ok(()),
    }
}

/// Returns the directory that holds `path`, or `.` for a bare name.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "a longer old text").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::create_dir_all(path.join("in the way")).unwrap();
        write(&path, b"new").unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file_the_attempt_and_the_way_out() {
        let path = Path::new("/home/ada/registry.json");
        for (kind, way_out) in [
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::QuotaExceeded, "quota"),
            (io::ErrorKind::PermissionDenied, "see who"),
            (io::ErrorKind::ReadOnlyFilesystem, "another home"),
        ] {
            let fault = DiskFault::new(&kind.into(), "write", path);
            let text = fault.to_string();
            assert!(
                text.starts_with("cannot write /home/ada/registry.json: "),
                "{text}"
            );
            assert!(text.contains(way_out), "{text}");
        }
    }

    #[test]
    fn a_sweep_removes_what_killed_writes_have_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (states, spared) = (dir.path().join("states"), dir.path().join("plugins"));
        for dir in [&states, &spared] {
            fs::create_dir(dir).unwrap();
        }
        let left = beside(&states.join("A.json"), &[b"half"]).unwrap();
        let left = left.into_temp_path().keep().unwrap();
        assert!(is_temporary(left.file_name().unwrap()), "{left:?}");
        for dir in [dir.path(), &states, &spared] {
            fs::write(dir.join(".new-abc123"), "half").unwrap();
            fs::write(dir.join(".new-and-mine"), "a person's").unwrap();
        }
        sweep(dir.path(), &spared);
        let is_there = |path: PathBuf| path.exists();
        assert!(!is_there(left) && !is_there(states.join(".new-abc123")));
        assert!(!is_there(dir.path().join(".new-abc123")));
        assert!(is_there(spared.join(".new-abc123")));
        assert!(is_there(states.join(".new-and-mine")));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let text = write(Path::new("/nowhere/at/all"), b"")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("/nowhere/at/all") && text.contains("gone"),
            "{text}"
        );
    }
}
