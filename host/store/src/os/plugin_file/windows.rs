//! Devices and pipes have names like files, and their metadata looks like that of files.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::windows::fs::FileExt as _;
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER};

use crate::os::disk;
use crate::os::handle;

#[cfg(test)]
mod tests;

/// Opens the file for reading, as soon as a program that doesn't share it lets go of it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    disk::open_anything(path)
}

/// Returns whether the error is that of a device which has no metadata, such as `NUL`.
pub(crate) fn is_of_device(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(i32::cast_unsigned);
    matches!(
        number,
        Some(ERROR_INVALID_FUNCTION | ERROR_INVALID_PARAMETER)
    )
}

/// Returns whether an open file is one on a disk, and no pipe or device.
pub(crate) fn is_on_disk(file: &File) -> bool {
    handle::is_on_disk(file)
}

/// Reads the beginning of a file into `beginning` and returns the number of bytes. The file's position is set to the
/// start: a read at an offset moves it here.
pub(crate) fn read_beginning(mut file: &File, beginning: &mut [u8]) -> io::Result<usize> {
    let bytes = file.seek_read(beginning, 0)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}
