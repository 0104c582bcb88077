//! Tests of files that are none.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::config::Config;
use crate::log::sample::{journal, record};
use crate::registry::Registry;
use crate::text_file;

#[cfg(target_os = "linux")]
fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn neither_a_pipe_nor_a_device_nor_a_directory_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    pipe(&path);
    for (path, kind) in [
        (&*path, "a pipe"),
        (Path::new("/dev/zero"), "a device"),
        (dir.path(), "a directory"),
    ] {
        let errors = [
            super::read(path).map(drop).unwrap_err().to_string(),
            text_file::read(path, 9).map(drop).unwrap_err().to_string(),
            format!("{:#}", Config::load(path).map(drop).unwrap_err()),
            format!("{:#}", Registry::load(path).map(drop).unwrap_err()),
        ];
        for error in errors {
            let told = format!("expected a regular file, got {kind}");
            assert!(error.contains(&told), "{}: {error}", path.display());
        }
    }
}

/// A shell gives a program such a path for `<(command)`.
#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_of_this_process_is_read_though_it_is_a_pipe() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"{}").unwrap();
    drop(writer);
    let path = format!("/dev/fd/{}", reader.as_raw_fd());
    assert_eq!(text_file::read(Path::new(&path), 9).unwrap(), "{}");
}

/// A pipe in the place of a log holds some lines. Nobody reads them, and the host must not wait for a reader.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_is_a_full_pipe_holds_nobody_up() {
    let (dir, journal) = journal();
    pipe(&dir.path().join("A.log"));
    let long = "x".repeat(4096);
    for _ in 0..40 {
        journal.write(record("A", &long));
    }
    assert!(fs::metadata(dir.path().join("A.log")).is_ok());
}
