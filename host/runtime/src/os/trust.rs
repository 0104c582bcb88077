//! The check that nobody else can change a file or a directory whose content will be compiled and run.

use std::fs;
use std::io;
use std::path::Path;

use dae_store::write_access::{self, AclTarget};

/// Returns whether a file or directory belongs to the user or to the administrator, and nobody else can write it. A
/// symbolic link or junction never counts, since the owner of its target says nothing about it. If `may_be_shared`,
/// others may write a directory in which they can't replace each other's entries.
///
/// # Errors
/// The system's error, such as `NotFound`.
pub fn is_written_by_us(path: &Path, may_be_shared: bool) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    let place = AclTarget::Named(path);
    if metadata.is_symlink() || write_access::other_owner(&metadata, place, true)?.is_some() {
        return Ok(false);
    }
    let is_safe = may_be_shared && write_access::is_sticky(&metadata, place);
    Ok(is_safe || write_access::others_who_write(&metadata, place).is_none())
}

#[cfg(all(test, unix))]
mod tests;
