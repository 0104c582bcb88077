//! Tests of the store's own files while another program has them open.

use std::fs::{self, File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::atomic_file;
use crate::registry::Registry;

/// Holds a file as a scanner does.
fn hold(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).share_mode(0).open(path).unwrap()
}

/// Lets go of a file while another thread waits for it, and returns what that thread gets.
fn released<T: Send + 'static>(held: File, work: impl FnOnce() -> T + Send + 'static) -> T {
    let began = Instant::now();
    let waiting = thread::spawn(work);
    while began.elapsed() < Duration::from_millis(200) {
        thread::yield_now();
    }
    assert!(!waiting.is_finished(), "it waits");
    drop(held);
    waiting.join().unwrap()
}

#[test]
fn the_stores_files_are_read_and_removed_when_a_scanner_lets_go_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    fs::write(&path, Registry::default().text().unwrap()).unwrap();
    let there = path.clone();
    let read = released(hold(&path), move || Registry::load(&there));
    assert_eq!(read.unwrap(), Registry::default());
    let there = path.clone();
    released(hold(&path), move || atomic_file::remove(&there)).unwrap();
    assert!(!path.exists());
}
