//! Tests of the stamps of files that lie on a disk.

use std::os::unix::fs::PermissionsExt as _;

use crate::reconcile::look_at;

#[test]
fn what_preserves_times_and_what_changes_rights_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.so");
    let now = || {
        let seen = look_at(std::slice::from_ref(&file));
        seen.first().expect("it is there").stamp
    };
    std::fs::write(&file, "old").unwrap();
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let mut stamps = vec![now()];
    std::fs::write(&file, "new").unwrap();
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(time).unwrap();
    stamps.push(now());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    stamps.push(now());
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    stamps.push(now());
    assert!(stamps.windows(2).all(|two| two[0] != two[1]), "{stamps:#?}");
    assert_eq!(now(), now());
}
