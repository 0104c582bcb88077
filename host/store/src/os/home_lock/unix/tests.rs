//! Tests of a home whose lock file or directory somebody removes or moves while it is locked.

use crate::home::{Home, HomeBusy};

#[test]
fn a_lock_file_that_is_removed_lets_nobody_in_and_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let lock = home.lock().unwrap();
    assert!(!lock.renew(&home).unwrap());
    std::fs::remove_file(home.lock_file()).unwrap();
    assert!(home.lock().unwrap_err().is::<HomeBusy>());
    assert!(home.holder().is_some());
    assert!(lock.renew(&home).unwrap());
    assert_eq!(home.holder().unwrap().pid, Some(std::process::id()));
    assert!(!lock.renew(&home).unwrap());
}

#[test]
fn a_directory_keeps_its_identity_and_another_in_its_place_has_another() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("h"));
    home.create().unwrap();
    let lock = home.lock().unwrap();
    assert_eq!(home.id().unwrap(), lock.id());
    std::fs::rename(&home.data, dir.path().join("moved")).unwrap();
    assert!(home.id().is_err());
    std::fs::remove_dir_all(dir.path().join("moved")).unwrap();
    home.create().unwrap();
    assert_ne!(home.id().unwrap(), lock.id());
}
