//! Facts about an open file that the standard library doesn't give on Windows.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_INFO_BY_HANDLE_CLASS, FILE_READ_ATTRIBUTES, FILE_STANDARD_INFO, FILE_TYPE_DISK,
    FileBasicInfo, FileStandardInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType, READ_CONTROL,
};

/// The identity of a file.
pub(super) struct Information {
    /// The serial number of its volume.
    pub(super) volume: u32,
    /// Its index on the volume.
    pub(super) index: u64,
}

/// Opens a file or a directory to look at its attributes and its access list. It may be in use by others in any way.
pub(super) fn open_to_look(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .access_mode(FILE_READ_ATTRIBUTES | READ_CONTROL)
        // Without this, a directory can't be opened.
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path)
}

/// Returns the identity of an open file or directory.
pub(super) fn information(file: &File) -> io::Result<Information> {
    let mut found = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::uninit();
    // SAFETY: the handle is open while `file` lives, and the pointer is to memory of the struct's size that only this
    // call writes.
    let is_known = unsafe { GetFileInformationByHandle(file.as_raw_handle(), found.as_mut_ptr()) };
    if is_known == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and then it has filled the struct.
    let found = unsafe { found.assume_init() };
    Ok(Information {
        volume: found.dwVolumeSerialNumber,
        index: u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow),
    })
}

/// Returns the time of the last change of a file's content, names or rights (100 ns since 1601). No program sets it
/// when it copies times.
pub(super) fn change_time(file: &File) -> io::Result<i64> {
    // SAFETY: `FILE_BASIC_INFO` is the struct of `FileBasicInfo`, and is made of integers.
    let found: FILE_BASIC_INFO = unsafe { information_of_class(file, FileBasicInfo)? };
    Ok(found.ChangeTime)
}

/// Returns whether an open file has no name any more, or will have none when it is closed.
pub(super) fn is_removed(file: &File) -> io::Result<bool> {
    // SAFETY: `FILE_STANDARD_INFO` is the struct of `FileStandardInfo`. It is made of integers and of two booleans, which
    // Windows documents to be 0 or 1.
    let found: FILE_STANDARD_INFO = unsafe { information_of_class(file, FileStandardInfo)? };
    Ok(found.DeletePending || found.NumberOfLinks == 0)
}

/// Returns whether an open file is one on a disk, and no pipe or device.
pub(super) fn is_on_disk(file: &File) -> bool {
    // SAFETY: the handle is open while `file` lives.
    let kind = unsafe { GetFileType(file.as_raw_handle()) };
    kind == FILE_TYPE_DISK
}

/// Returns the information of one class about an open file.
///
/// # Safety
/// `T` must be the struct of `class`, and what Windows writes there must be a valid value of it.
unsafe fn information_of_class<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut found = MaybeUninit::<T>::zeroed();
    let bytes = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
    // SAFETY: the handle is open while `file` lives, and the pointer is to memory of `bytes` bytes that only this call
    // writes.
    let is_known = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            found.as_mut_ptr().cast(),
            bytes,
        )
    };
    match is_known {
        0 => Err(io::Error::last_os_error()),
        // SAFETY: by the contract of this function the struct is the one that the call has filled.
        _ => Ok(unsafe { found.assume_init() }),
    }
}
