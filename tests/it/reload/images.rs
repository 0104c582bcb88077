//! What reloads leave behind: the loaded files that a process keeps for ever, and what is done when they become many.

use dae_tests::{process, spoil};
use serde_json::json;

use super::traffic::Traffic;
use super::{Kitchen, NAME, count_to, version};

/// Reloads of distinct contents, in each mode. What one costs shows after some dozens; the README has the figures of
/// 1,500.
const DISTINCT: u64 = 150;

/// What one in-process reload may leave behind in a debug build (bytes): the file's own pages, nearly all of it.
const IN_PROCESS_BYTES_MAX: u64 = 4 << 20;

/// And in a subprocess, where the old one's memory goes with its process. Not nothing: the host's own tables, and noise.
const SUBPROCESS_BYTES_MAX: u64 = 64 << 10;

/// Resident bytes that each of so many reloads adds to the host.
fn growth(kitchen: &Kitchen, flags: &[&str]) -> u64 {
    let (_, mut guest) = kitchen.install(flags);
    count_to(&mut guest, 5);
    let mut control = kitchen.ecosystem.control();
    let mut reload = |number: u64| {
        let mut bytes = kitchen.bytes(&json!({"version": number}));
        bytes.extend(number.to_le_bytes());
        let file = spoil::write(&kitchen.ecosystem.scratch(), "new.so", &bytes);
        let request = json!({"name": NAME, "file": file, "replace": true});
        control.ask("install", &request).expect("a good file");
        assert_eq!(version(&mut guest), number);
    };
    // What is there once, is there after these.
    (2..12).for_each(&mut reload);
    let before = process::resident_bytes(kitchen.ecosystem.pid());
    (12..12 + DISTINCT).for_each(&mut reload);
    let after = process::resident_bytes(kitchen.ecosystem.pid());
    assert_eq!(guest.ask("count", &json!([])), 5);
    after.saturating_sub(before) / DISTINCT
}

#[test]
fn memory_that_a_reload_leaves_behind_is_bounded() {
    // No trial: it costs time, and leaves nothing in the host.
    let config = json!({"defaults": {"trial": false, "probation_ms": 0}});
    for (flags, bytes_max) in [
        (&[][..], IN_PROCESS_BYTES_MAX),
        (&["--isolate"][..], SUBPROCESS_BYTES_MAX),
    ] {
        let bytes = growth(&Kitchen::configured(&config), flags);
        println!(
            "{flags:?}: {} KiB for each of {DISTINCT} reloads",
            bytes >> 10
        );
        assert!(
            bytes < bytes_max,
            "{flags:?}: {bytes} bytes for each reload"
        );
    }
}

#[test]
fn a_file_too_many_runs_in_a_process_of_its_own_and_nobody_notices() {
    const IMAGES_MAX: u64 = 3;
    let kitchen = Kitchen::configured(&json!({"images_max": IMAGES_MAX, "images_warn": 2}));
    let (_, mut guest) = kitchen.install(&[]);
    let host = u64::from(kitchen.ecosystem.pid());
    let traffic = Traffic::start(kitchen.ecosystem.port_of(NAME));
    for number in 2..=6 {
        let output = kitchen.replace(&json!({"version": number}), &[]).ok();
        assert!(output.stdout.starts_with("accepted"), "{output:#?}");
        assert_eq!(version(&mut guest), number);
        let is_in_host = kitchen.ecosystem.status(NAME)["pid"] == host;
        assert_eq!(is_in_host, number <= IMAGES_MAX, "version {number}");
    }
    // One that is loaded already costs nothing more.
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    assert_eq!(kitchen.ecosystem.status(NAME)["pid"], host);
    let told = traffic.end();
    assert_eq!(guest.ask("count", &json!([])), told.counts.len() as u64);
    kitchen
        .ecosystem
        .until_logged(NAME, "files are loaded into the host's process; from 3 on");
    kitchen
        .ecosystem
        .until_logged(NAME, "this one runs in a process of its own");
}
