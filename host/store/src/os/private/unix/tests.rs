//! Tests of the modes of a home and of its paths.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::home::Home;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn directories_are_made_private_and_made_so_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("a/b"));
    home.create().unwrap();
    set_mode(&home.runtime, 0o777);
    home.create().unwrap();
    for dir in [&home.data, &home.runtime, &home.logs, &home.drop_in_dir()] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
}

#[test]
fn a_home_that_others_may_write_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o757);
    let text = Home::at(dir.path()).create().unwrap_err().to_string();
    assert!(
        text.contains("757") && text.contains("chmod go-w"),
        "{text}"
    );
    assert_eq!(mode(dir.path()), 0o757);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    set_mode(dir.path(), 0o755);
    Home::at(dir.path()).create().unwrap();
    assert_eq!(mode(dir.path()), 0o755);
}

#[test]
fn a_file_in_the_home_is_known_by_whatever_path() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    home.create().unwrap();
    symlink(&home.data, dir.path().join("link")).unwrap();
    let file = home.drop_in_dir().join("a.so");
    assert_eq!(
        home.path_through(&dir.path().join("link/plugins/a.so")),
        file
    );
    assert_eq!(home.path_through(&file), file);
    let outside = dir.path().join("a.so");
    assert_eq!(home.path_through(&outside), outside);
}

#[test]
fn a_path_that_is_not_utf_8_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OsStr::from_bytes(b"j\xf6rg"));
    let text = Home::at(&path).create().unwrap_err().to_string();
    assert!(
        text.contains("UTF-8") && text.contains("another home"),
        "{text}"
    );
    assert!(!path.exists());
}
