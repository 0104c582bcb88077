//! The smallest plugin, for tests: a manifest, a library that has it, its file, and the check of a file's fault.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{FileFault, FileFaultKind};
use crate::os::private;

pub(crate) use crate::os::sample_library::{
    MACHINE_AT, MANIFEST_AT, OTHER_MACHINE, OTHER_TYPES, SECTION, TYPE_AT, library,
};

/// A manifest that every host accepts.
pub(crate) const MANIFEST: &str = r#"{"name":"Sample","version":"1.2.3","abi":1,"api_version":"0.1.0","rustc":"rustc 1.95.0",
"target":"any","panic":"unwind","about":"A sample.","commands":[
{"name":"greet","doc":"Greets.","kind":"sync","arguments":[{"name":"who","type":"string","optional":false,"rest":false}]},
{"name":"sum","doc":"","kind":"async","arguments":[{"name":"first","type":"number","optional":false,"rest":false},
{"name":"second","type":"number","optional":true,"rest":false},{"name":"more","type":"number","optional":false,"rest":true}]}]}"#;

/// Asserts the kind of a fault, and a part of its text.
#[track_caller]
pub(crate) fn assert_fault(fault: &FileFault, kind: FileFaultKind, part: &str) {
    let text = fault.to_string();
    assert_eq!(fault.kind(), kind, "{text}");
    assert!(text.contains(part), "{text}");
}

/// Writes a file in a directory that others can't write to.
pub(crate) fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libsample.so");
    fs::write(&path, bytes).unwrap();
    private::make_owners(&fs::File::open(&path).unwrap()).unwrap();
    (dir, path)
}
