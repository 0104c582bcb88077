//! Tests of files that are no plugins, or that others may write.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::manifest::sample::{MANIFEST, assert_fault, file, library};
use crate::manifest::{FileFaultKind, read};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_waited_for() {
    let (dir, _path) = file(b"");
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    for path in [&pipe, Path::new("/dev/null")] {
        let fault = read(path).expect_err("no plugin");
        assert_fault(&fault, FileFaultKind::NotAFile, "a pipe");
    }
}

#[test]
fn a_file_that_others_may_write_is_not_run() {
    let (_dir, path) = file(&library(MANIFEST.as_bytes()));
    // Write access for the group depends on the group: see `write_access`.
    for mode in [0o666, 0o646] {
        set_mode(&path, mode);
        let fault = read(&path).expect_err("insecure");
        assert_fault(&fault, FileFaultKind::Insecure, "chmod go-w");
        assert_fault(&fault, FileFaultKind::Insecure, &format!("{mode:o}"));
    }
    set_mode(&path, 0o755);
    read(&path).unwrap();
}

#[test]
fn a_directory_that_others_may_write_makes_its_files_unsafe() {
    let (dir, path) = file(&library(MANIFEST.as_bytes()));
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.so");
    symlink(&path, &link).unwrap();
    set_mode(dir.path(), 0o777);
    for path in [&path, &link] {
        let fault = read(path).expect_err("insecure");
        assert_fault(&fault, FileFaultKind::Insecure, "777");
    }
    // Like /tmp: others may add files but can't change ours.
    set_mode(dir.path(), 0o1777);
    read(&path).unwrap();
    read(&link).unwrap();
    set_mode(elsewhere.path(), 0o777);
    assert_fault(
        &read(&link).expect_err("insecure"),
        FileFaultKind::Insecure,
        "777",
    );
}

/// Its length is that of an empty file, and it has some hundred bytes.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_longer_than_it_was_is_refused() {
    let path = Path::new("/proc/self/status");
    let mut file = File::open(path).unwrap();
    let fault = crate::manifest::read_whole(&mut file, path).unwrap_err();
    assert!(
        fault.to_string().contains("grew while it was read"),
        "{fault}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_libraries_of_a_program_are_read() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let needs = crate::manifest::needs(&program);
    assert!(
        needs.libraries.iter().any(|name| name.starts_with("libc.")),
        "{needs:?}"
    );
}
