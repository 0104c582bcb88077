//! Tests of log files that another program has open.

use std::fs::{self, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;

use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_READ, FILE_SHARE_WRITE};

use crate::log::file::LogFile;

/// The number of bytes of each line.
const LINE_BYTES: u64 = 10;

#[test]
fn a_rotation_that_somebody_prevents_is_tried_again_after_some_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("A.log");
    let lines =
        |name: &str| fs::read_to_string(dir.path().join(name)).map(|text| text.lines().count());
    let mut log = LogFile::of_size(path.clone(), 32 * LINE_BYTES);
    let mut append = |count: usize| {
        for _ in 0..count {
            log.append(b"123456789\n").unwrap();
        }
    };
    append(32);
    let mut reader = OpenOptions::new();
    reader
        .read(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE);
    let reader = reader.open(&path).unwrap();
    append(1);
    drop(reader);
    // Nobody prevents it any more, but the next try comes after a sixteenth of the size.
    append(1);
    assert_eq!(lines("A.log").unwrap(), 34);
    append(1);
    assert_eq!(
        (lines("A.log").unwrap(), lines("A.log.1").unwrap()),
        (1, 34)
    );
    append(31);
    assert_eq!(lines("A.log").unwrap(), 32);
    append(1);
    assert_eq!(
        (lines("A.log").unwrap(), lines("A.log.1").unwrap()),
        (1, 32)
    );
}
