//! Modes of Unix, and who may write with them.

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
