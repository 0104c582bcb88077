//! The modes 0600 and 0700.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

#[cfg(test)]
mod tests;

pub(super) fn make_owners(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

pub(super) fn set_owners_mode(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Sets the mode again, because the process's umask limits the creation mode.
pub(super) fn close_new_directory(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

/// Closes a directory of this user to others.
pub(crate) fn close_to_others(dir: &Path, metadata: &Metadata) -> io::Result<()> {
    match is_open_to_others(dir, metadata)? {
        false => Ok(()),
        true => fs::set_permissions(dir, Permissions::from_mode(0o700)),
    }
}

/// Returns whether others may list, enter or write a directory.
pub(crate) fn is_open_to_others(_dir: &Path, metadata: &Metadata) -> io::Result<bool> {
    Ok(metadata.mode() & 0o077 != 0)
}
