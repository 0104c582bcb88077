//! Tests of a home that somebody tries to remove or move while it is locked.

use crate::home::Home;

#[test]
fn neither_the_file_nor_the_directory_can_be_removed_while_it_is_held() {
    let above = tempfile::tempdir().unwrap();
    let home = Home::at(above.path().join("h"));
    home.create().unwrap();
    let lock = home.lock().unwrap();
    std::fs::remove_file(home.lock_file()).unwrap_err();
    std::fs::rename(&home.data, above.path().join("moved")).unwrap_err();
    assert!(!lock.renew(&home).unwrap());
    assert!(home.holder().is_some());
    drop(lock);
    std::fs::rename(&home.data, above.path().join("moved")).unwrap();
}
