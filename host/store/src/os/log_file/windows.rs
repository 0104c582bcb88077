//! An open file may be renamed and removed only if all who have it open share that. Our own readers do, but an editor
//! or a scanner may not.

use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::DELETE;

use crate::os::advice::is_in_use;
use crate::os::handle;

#[cfg(test)]
mod tests;

/// Returns whether the path still leads to an open file. Somebody may have removed it; a directory with an open file in it
/// can't be moved.
pub(crate) fn is_at(file: &File, _path: &Path) -> bool {
    !handle::is_removed(file).is_ok_and(|is_removed| is_removed)
}

/// Returns whether nobody keeps the file from being renamed or replaced. Missing files count as such.
pub(crate) fn can_be_renamed(path: &Path) -> bool {
    let opened = OpenOptions::new().access_mode(DELETE).open(path);
    !opened.is_err_and(|error| is_in_use(&error))
}
