//! By owner, mode and access list. Root counts as this user.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dae_store::write_access::{self, AclTarget};
use rustix::process::geteuid;

/// The owner of a system's files.
const ROOT: u32 = 0;

/// The bit of a directory in which users can't replace each other's entries, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Returns whether a file or directory belongs to the user or to the administrator, and nobody else can write it. A
/// symbolic link never counts, since the owner of its target says nothing about it. If `may_be_shared`, others may write
/// a directory in which they can't replace each other's entries.
///
/// # Errors
/// The system's error, such as `NotFound`.
pub fn is_written_by_us(path: &Path, may_be_shared: bool) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    let is_ours = [ROOT, geteuid().as_raw()].contains(&metadata.uid());
    if !is_ours || metadata.is_symlink() {
        return Ok(false);
    }
    let is_safe = may_be_shared && metadata.is_dir() && metadata.mode() & STICKY != 0;
    let others = || write_access::others_who_write(&metadata, AclTarget::Named(path));
    Ok(is_safe || others().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn others_may_write_a_shared_directory_alone_and_a_link_never_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let [inner, file, link] = ["inner", "file", "link"].map(|name| dir.path().join(name));
        fs::create_dir(&inner).expect("our own");
        fs::write(&file, "").expect("our own");
        symlink(&file, &link).expect("our own");
        let is_ours = |path: &Path, may_be_shared| is_written_by_us(path, may_be_shared).unwrap();
        for (path, mode, alone, shared) in [
            (&inner, 0o755, true, true),
            (&inner, 0o757, false, false),
            (&inner, 0o1777, false, true),
            (&file, 0o644, true, true),
            (&file, 0o646, false, false),
            (&file, 0o1646, false, false),
        ] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
            let found = (is_ours(path, false), is_ours(path, true));
            assert_eq!(found, (alone, shared), "{} {mode:o}", path.display());
        }
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("our own");
        assert!(!is_ours(&link, true));
        let error = is_written_by_us(&dir.path().join("nowhere"), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
