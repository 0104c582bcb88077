//! Tests of the errors for each kind of file that a host may be given.

use super::sample::{self, MANIFEST, assert_fault, file, library};
use super::*;

fn fault_of(bytes: &[u8]) -> FileFault {
    parse(bytes).expect_err("this file is no plugin")
}

#[test]
fn a_plugin_tells_what_it_is() {
    let padded = [MANIFEST.as_bytes(), &[0; 40]].concat();
    let (_dir, path) = file(&library(&padded));
    let manifest = read(&path).unwrap();
    assert_eq!(
        (&*manifest.name, &*manifest.version, manifest.abi),
        ("Sample", "1.2.3", 1)
    );
    assert!(!manifest.exclusive && manifest.state_version.is_none());
    let calls = |c: &Command| (c.signature(), c.arity());
    let commands: Vec<_> = manifest.commands.iter().map(calls).collect();
    assert_eq!(commands[0], ("greet(who: string)".into(), 1));
    let sum = "sum(first: number, second?: number, ...more: number)";
    assert_eq!(commands[1], (sum.into(), 3));
}

/// Plugins built before the option had its name.
#[test]
fn an_earlier_name_in_a_manifest_is_read() {
    for name in ["trial", "preflight"] {
        let text = MANIFEST.trim_end().strip_suffix('}').unwrap();
        let text = format!("{text},\"{name}\":\"start\"}}");
        let manifest = parse(&library(text.as_bytes())).unwrap();
        assert_eq!(manifest.preflight.as_deref(), Some("start"), "{name}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_incomplete() {
    let whole = library(MANIFEST.as_bytes());
    assert!(parse(&whole).is_ok());
    for len in 1..whole.len() {
        let fault = fault_of(&whole[..len]);
        assert!(fault.is_incomplete(), "{len} bytes: {fault}");
    }
}

#[test]
fn what_a_linker_has_not_filled_in_yet_is_incomplete() {
    assert!(fault_of(&[0; 4096]).is_incomplete());
    assert!(fault_of(&library(&[0; 300])).is_incomplete());
}

#[test]
fn any_byte_may_be_wrong_and_nothing_breaks() {
    let whole = library(MANIFEST.as_bytes());
    let tables = (0..sample::MANIFEST_AT).chain(sample::MANIFEST_AT + MANIFEST.len()..whole.len());
    for at in tables {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = parse(&bytes);
        }
    }
}

#[test]
fn a_strange_file_is_called_what_it_is() {
    use FileFaultKind::{Empty, NotALibrary};
    assert_fault(&fault_of(b""), Empty, "is empty");
    for (bytes, part) in [
        (&b"[package]\nname = \"x\"\n"[..], "is text"),
        (b"#!/bin/sh\n", "is a script"),
        (b"!<arch>\n/       ", "rlib"),
        (b"\0asm\x01\0\0\0", "WebAssembly"),
        (b"PK\x03\x04....", "zip"),
        (b"\x01\x02\x03\x04", "nothing that is known"),
    ] {
        assert_fault(&fault_of(bytes), NotALibrary, part);
        assert_fault(&fault_of(bytes), NotALibrary, "cdylib");
        assert!(!fault_of(bytes).is_incomplete());
    }
}

#[test]
fn a_program_and_an_object_file_are_no_libraries() {
    for &(kind, part) in sample::OTHER_TYPES {
        let mut bytes = library(MANIFEST.as_bytes());
        bytes[sample::TYPE_AT] = kind;
        assert_fault(&fault_of(&bytes), FileFaultKind::NotALibrary, part);
    }
}

#[test]
fn another_machine_is_named() {
    let mut bytes = library(MANIFEST.as_bytes());
    let (machine, part) = sample::OTHER_MACHINE;
    bytes[sample::MACHINE_AT] = machine;
    assert_fault(&fault_of(&bytes), FileFaultKind::OtherPlatform, part);
    let universal = b"\xca\xfe\xba\xbe\0\0\0\x02";
    assert_fault(&fault_of(universal), FileFaultKind::OtherPlatform, "lipo");
}

#[test]
fn a_library_without_a_manifest_is_no_daemon() {
    let mut bytes = library(MANIFEST.as_bytes());
    let at = bytes
        .windows(sample::SECTION.len())
        .position(|w| w == sample::SECTION)
        .unwrap();
    bytes[at + 1] = b'x';
    assert_fault(&fault_of(&bytes), FileFaultKind::NotADaemon, "#[daemon]");
}

#[test]
fn the_abi_counts_before_the_shape_of_the_rest() {
    let of = |abi: u32| library(format!(r#"{{"abi":{abi}}}"#).as_bytes());
    let newer = fault_of(&of(ABI_VERSION_MAX + 1));
    assert_fault(&newer, FileFaultKind::Abi, "update dae-host");
    let older = fault_of(&of(ABI_VERSION_MIN - 1));
    assert_fault(&older, FileFaultKind::Abi, "build it anew");
    let same = fault_of(&of(ABI_VERSION_MAX));
    assert_fault(&same, FileFaultKind::BadManifest, "missing field `name`");
}

#[test]
fn two_manifests_in_a_file_are_none() {
    let fault = fault_of(&library(MANIFEST.repeat(2).as_bytes()));
    assert_fault(&fault, FileFaultKind::BadManifest, "trailing characters");
    let fault = fault_of(&library(b"\xff\xfe"));
    assert_fault(&fault, FileFaultKind::BadManifest, "cannot be read");
}

#[test]
fn a_plugin_that_aborts_may_not_run_in_the_host() {
    let mut manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
    check_in_process(&manifest).unwrap();
    manifest.panic = "abort".into();
    let fault = check_in_process(&manifest).unwrap_err();
    assert_fault(&fault, FileFaultKind::PanicAbort, "the plugin Sample was");
    assert_fault(&fault, FileFaultKind::PanicAbort, "subprocess");
}

#[test]
fn a_path_to_no_file_is_told_by_its_path() {
    let (dir, path) = file(b"text");
    let of = |path: &Path| read(path).expect_err("no plugin");
    assert_fault(&of(dir.path()), FileFaultKind::NotAFile, "is a directory");
    assert_fault(
        &of(&dir.path().join("x.so")),
        FileFaultKind::Missing,
        "x.so is not there",
    );
    assert_fault(
        &of(&path.join("x.so")),
        FileFaultKind::Missing,
        "is not there",
    );
    assert_fault(
        &of(&path),
        FileFaultKind::NotALibrary,
        "libsample.so is text",
    );
}

#[test]
fn a_command_has_a_name_of_its_own_that_can_be_called() {
    for (name, part) in [
        ("", "named \"\""),
        (" ", "without blanks"),
        ("a b", "without blanks"),
        ("a#b", "without blanks"),
        ("a\\nb", "without blanks"),
        ("dae", "every host answers itself"),
        ("options", "every host answers itself"),
        ("help", "every host answers itself"),
        ("stats", "every host answers itself"),
        ("error", "every host answers itself"),
        ("sum", "two commands named sum"),
    ] {
        let manifest = MANIFEST.replace(r#""name":"greet""#, &format!(r#""name":"{name}""#));
        let fault = parse(&library(manifest.as_bytes())).expect_err(name);
        assert_fault(&fault, FileFaultKind::BadManifest, part);
    }
}

#[test]
fn what_begins_like_no_library_is_not_read_any_further() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(900 << 20).unwrap();
    let fault = read(file.path()).expect_err("zeros");
    assert!(fault.is_incomplete(), "{fault}");
    file.as_file().set_len(1 << 40).unwrap();
    let fault = read(file.path()).expect_err("a giant");
    assert_fault(&fault, FileFaultKind::TooLarge, "bytes");
}
