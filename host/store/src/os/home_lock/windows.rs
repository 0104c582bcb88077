//! One byte of the file is locked, far behind its end.
//!
//! A lock here is mandatory: nobody else can read a byte that is locked, and the text names the holder. A directory can't
//! be locked; it is held open instead. Neither the file nor the directory can be removed or renamed meanwhile, since they
//! are opened without sharing that.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_SHARE_READ,
    FILE_SHARE_WRITE, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
};
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

#[cfg(test)]
mod tests;

/// The upper half of the offset of the locked byte: no text is as long as that.
const LOCKED_AT_HIGH: u32 = 0x4000_0000;

/// The rights that others have to the open file: they can't remove it.
const SHARED: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE;

/// Opens the lock file without truncating it, since the text may be another process's.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.share_mode(SHARED).open(path)
}

/// Locks the file that [`open`] has opened. Returns false if another process has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    lock(file, LOCKFILE_EXCLUSIVE_LOCK)
}

/// Returns whether a process has locked the file.
pub(crate) fn is_held(path: &Path) -> bool {
    let shared = File::open(path).map(|file| lock(&file, 0));
    matches!(shared, Ok(Ok(false)))
}

/// Opens the directory such that it can't be removed or moved. It is never `None`: the file's lock counts.
pub(crate) fn hold_directory(dir: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options
        // With a right to attributes alone, the sharing would not count.
        .access_mode(FILE_LIST_DIRECTORY | FILE_READ_ATTRIBUTES)
        .share_mode(SHARED)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    options.open(dir).map(Some)
}

/// Returns false: a directory has no lock.
pub(crate) fn is_directory_held(_dir: &Path) -> bool {
    false
}

/// Locks the byte, exclusively or shared. The lock ends when the file is closed.
fn lock(file: &File, kind: u32) -> io::Result<bool> {
    let mut place = OVERLAPPED {
        Anonymous: OVERLAPPED_0 {
            Anonymous: OVERLAPPED_0_0 {
                Offset: 0,
                OffsetHigh: LOCKED_AT_HIGH,
            },
        },
        ..OVERLAPPED::default()
    };
    let flags = kind | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open while `file` lives. It was opened for synchronous use, so that the call is done with
    // `place` when it returns.
    let is_locked = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut place) };
    if is_locked != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Ok(false),
        _ => Err(error),
    }
}
