//! Tests of files that are no plugins, that others have open or may write, or whose paths are unusual.

use std::fs::{self, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::home::Home;
use crate::manifest::sample::{MANIFEST, library};
use crate::manifest::{FileFault, FileFaultKind, read};
use crate::os::in_use::IN_USE_MAX;
use crate::os::security;
use crate::plugin_store::PluginStore;

fn plugin() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.dll");
    fs::write(&path, library(MANIFEST.as_bytes())).unwrap();
    (dir, path)
}

fn fault_of(path: &Path) -> FileFault {
    read(path).expect_err("no plugin to read")
}

/// Holds a file as a scanner does.
fn hold(path: &Path) -> fs::File {
    let mut options = OpenOptions::new();
    options.read(true).share_mode(0).open(path).unwrap()
}

#[test]
fn a_file_that_a_scanner_has_open_is_read_when_it_lets_go() {
    let (_dir, path) = plugin();
    let held = hold(&path);
    let began = Instant::now();
    let reader = thread::spawn(move || read(&path).map(|manifest| manifest.name));
    while began.elapsed() < Duration::from_millis(200) {
        thread::yield_now();
    }
    assert!(!reader.is_finished());
    drop(held);
    assert_eq!(reader.join().unwrap().unwrap(), "Sample");
}

#[test]
fn a_file_that_stays_open_elsewhere_is_refused_by_its_name() {
    let (_dir, path) = plugin();
    let _held = hold(&path);
    let began = Instant::now();
    let text = fault_of(&path).to_string();
    assert!(began.elapsed() >= IN_USE_MAX);
    assert!(
        text.contains("sample.dll cannot be read") && text.contains("another program has it open"),
        "{text}"
    );
}

#[test]
fn a_drive_that_is_gone_is_named_as_the_cause() {
    let fault = fault_of(Path::new(r"Q:\plugins\sample.dll"));
    assert_eq!(fault.kind(), FileFaultKind::Missing);
    let text = fault.to_string();
    assert!(text.contains(r"Q:\plugins\sample.dll"), "{text}");
    assert!(text.contains("connect it again"), "{text}");
}

#[test]
fn a_device_is_no_plugin() {
    let text = fault_of(Path::new(r"\\.\NUL")).to_string();
    assert!(text.contains("NUL"), "{text}");
}

#[test]
fn a_file_in_a_directory_that_everybody_may_write_is_not_run() {
    let (dir, path) = plugin();
    read(&path).unwrap();
    let user = security::own_user().unwrap();
    let list = format!("D:P(A;OICI;FA;;;{user})(A;OICI;FA;;;WD)");
    security::set_list(dir.path(), &list).unwrap();
    let fault = fault_of(&path);
    assert_eq!(fault.kind(), FileFaultKind::Insecure);
    let text = fault.to_string();
    assert!(
        text.contains("may be written by the group Everyone") && text.contains("icacls"),
        "{text}"
    );
    let text = Home::at(dir.path()).create().unwrap_err().to_string();
    assert!(text.contains("the group Everyone, who could"), "{text}");
    security::close_directory(dir.path()).unwrap();
    fs::write(&path, library(MANIFEST.as_bytes())).unwrap();
    Home::at(dir.path()).create().unwrap();
}

#[test]
fn a_path_that_is_long_and_has_blanks_and_umlauts_is_one_like_others() {
    let (dir, source) = plugin();
    let above = dir.path().join("Jörgs Rechner").join("ü ".repeat(60) + "x");
    let home = Home::at(above.join("é".repeat(120)).join("my home"));
    assert!(home.data.as_os_str().len() > 300);
    home.create().unwrap();
    let _lock = home.lock().unwrap();
    // The source's path is a short one: Wine can't resolve longer ones.
    let there = dir.path().join("sämple 1.dll");
    fs::rename(source, &there).unwrap();
    let store = PluginStore::open(&home).unwrap();
    let staged = store.stage(&there).unwrap();
    store.settle(&staged).unwrap();
    assert_eq!(store.find(&staged.hash).unwrap(), staged);
    assert!(store.copy_for_loading(&staged).unwrap().path.exists());
    crate::atomic_file::write(&home.registry_file(), b"{}").unwrap();
    crate::atomic_file::write(&home.registry_file(), b"{ }").unwrap();
    assert_eq!(fs::read(home.registry_file()).unwrap(), b"{ }");
}
