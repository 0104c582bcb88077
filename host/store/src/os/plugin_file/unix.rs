//! Opens a plugin's file without waiting: it may have become a pipe that nobody writes to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::os::disk;

#[cfg(test)]
mod tests;

/// Opens the file for reading, without waiting.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    disk::open_anything(path)
}

/// Returns false: every file has metadata.
pub(crate) fn is_of_device(_error: &io::Error) -> bool {
    false
}

/// Returns true: the metadata of a pipe or device says that it is one.
pub(crate) fn is_on_disk(_file: &File) -> bool {
    true
}

/// Reads the beginning of a file into `beginning` and returns the number of bytes. The file's position stays.
pub(crate) fn read_beginning(file: &File, beginning: &mut [u8]) -> io::Result<usize> {
    file.read_at(beginning, 0)
}
