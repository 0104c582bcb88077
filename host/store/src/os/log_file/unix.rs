//! An open file may be renamed and removed.

use std::fs::File;
use std::path::Path;

use crate::os::file_id::FileId;

#[cfg(test)]
mod tests;

/// Returns whether the path still leads to an open file. Somebody may have moved or removed it, or a directory above it.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let there = FileId::at(path).ok();
    there.is_some() && there == FileId::of_open(file).ok()
}

/// Returns true: whoever reads a file keeps nobody from renaming it or another file over it.
pub(crate) fn can_be_renamed(_path: &Path) -> bool {
    true
}
