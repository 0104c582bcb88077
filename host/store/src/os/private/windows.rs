//! The access list of the home's directories, which everything in them inherits.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use crate::os::security;
use crate::os::write_access::{AclTarget, are_others_allowed};

#[cfg(test)]
mod tests;

/// Closes a file to others if it has inherited rights for them. A user may have made the home's top directory, whose list
/// is left as it is.
pub(super) fn make_owners(file: &File) -> io::Result<()> {
    match are_others_allowed(AclTarget::Open(file))? {
        false => Ok(()),
        true => security::close_file(file),
    }
}

/// Does nothing: [`make_owners`] is enough where no umask interferes.
pub(super) fn set_owners_mode(_options: &mut OpenOptions) {}

pub(super) fn close_new_directory(dir: &Path) -> io::Result<()> {
    security::close_directory(dir)
}

/// Closes a directory of this user to others.
pub(crate) fn close_to_others(dir: &Path, metadata: &Metadata) -> io::Result<()> {
    match is_open_to_others(dir, metadata)? {
        false => Ok(()),
        true => security::close_directory(dir),
    }
}

/// Returns whether others may use a directory.
pub(crate) fn is_open_to_others(dir: &Path, _metadata: &Metadata) -> io::Result<bool> {
    are_others_allowed(AclTarget::Named(dir))
}
