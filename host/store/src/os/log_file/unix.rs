//! An open file may be renamed and removed.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Returns whether somebody has removed an open file.
pub(crate) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Returns true: whoever reads a file keeps nobody from renaming it or another file over it.
pub(crate) fn can_be_renamed(_path: &Path) -> bool {
    true
}
