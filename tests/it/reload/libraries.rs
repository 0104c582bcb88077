//! Remains of reloads: libraries, which a process never unloads, and the measures against having too many.

use dae_tests::{LIMIT, process, spoil, until};
use serde_json::json;

use super::traffic::Traffic;
use super::{Kitchen, NAME, count_to, version};

/// The number of reloads of distinct contents between two measurements of memory.
const STEP: u64 = 10;

/// The number of measurements in each mode.
const STEPS: u64 = 12;

/// The most memory that an in-process reload may leave behind in a debug build (bytes), mostly the pages of the file.
const IN_PROCESS_BYTES_MAX: u64 = 4 << 20;

/// The same limit for a subprocess (bytes). The old process frees its memory; this covers the host's tables and noise.
const SUBPROCESS_BYTES_MAX: u64 = 32 << 10;

/// Returns the resident bytes that a reload adds to the host, by the lower quartile of the steps: a real leak shows in
/// every step. The mean would include buffers for reading files, of which the allocator may keep a few megabytes.
fn growth(kitchen: &Kitchen, flags: &[&str]) -> u64 {
    let (_, mut guest) = kitchen.install(flags);
    count_to(&mut guest, 5);
    let mut control = kitchen.ecosystem.control();
    let mut reload = |number: u64| {
        let bytes = kitchen.bytes(&json!({"version": number}));
        let file = spoil::write(&kitchen.ecosystem.scratch(), "new.so", &bytes);
        let request = json!({"name": NAME, "file": file, "replace": true});
        control.ask("install", &request).expect("a good file");
        assert_eq!(version(&mut guest), number);
    };
    let mut before = 0;
    let mut steps: Vec<u64> = (0..STEPS)
        .map(|step| {
            (2 + step * STEP..)
                .take(STEP as usize)
                .for_each(&mut reload);
            let after = process::resident_bytes(kitchen.ecosystem.pid());
            after.saturating_sub(std::mem::replace(&mut before, after)) / STEP
        })
        .collect();
    assert_eq!(guest.ask("count", &json!([])), 5);
    steps.sort_unstable();
    steps[steps.len() / 4]
}

#[test]
fn memory_that_a_reload_leaves_behind_is_bounded() {
    // There is no preflight: it takes time and leaves nothing in the host.
    let config = json!({"defaults": {"preflight": false, "rollback_window_ms": 0}});
    for (flags, bytes_max) in [
        (&[][..], IN_PROCESS_BYTES_MAX),
        (&["--isolate"][..], SUBPROCESS_BYTES_MAX),
    ] {
        let bytes = growth(&Kitchen::configured(&config), flags);
        println!(
            "{flags:?}: {:.1} KiB for each reload",
            bytes as f64 / 1024.0
        );
        assert!(
            bytes < bytes_max,
            "{flags:?}: {bytes} bytes for each reload"
        );
    }
}

#[test]
fn a_file_too_many_runs_in_a_process_of_its_own_and_nobody_notices() {
    const LIBRARIES_MAX: u64 = 3;
    let kitchen =
        Kitchen::configured(&json!({"libraries_max": LIBRARIES_MAX, "libraries_warn": 2}));
    let (_, mut guest) = kitchen.install(&[]);
    let host = u64::from(kitchen.ecosystem.pid());
    let traffic = Traffic::start(kitchen.ecosystem.port_of(NAME));
    for number in 2..=6 {
        let output = kitchen.replace(&json!({"version": number}), &[]).ok();
        assert!(output.stdout.starts_with("accepted"), "{output:#?}");
        assert_eq!(version(&mut guest), number);
        let is_in_host = kitchen.ecosystem.status(NAME)["pid"] == host;
        assert_eq!(is_in_host, number <= LIBRARIES_MAX, "version {number}");
    }
    // A file that is already loaded costs nothing more.
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

/// Returns the number of private copies of files in the home.
fn copies(kitchen: &Kitchen) -> usize {
    let copies = kitchen.ecosystem.home().join("images");
    std::fs::read_dir(copies).expect("a directory").count()
}

#[test]
fn what_was_retired_is_counted_and_its_copies_are_removed() {
    const RELOADS: u64 = 6;
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&[]);
    for number in 2..2 + RELOADS {
        // An overwritten file would be noticed, too, and could be reloaded once more than is counted here.
        let file = kitchen.file(&format!("{number}.so"), &json!({"version": number}));
        let _ = kitchen.install_file(&file, &["--replace"]).ok();
        assert_eq!(version(&mut guest), number);
    }
    until(LIMIT, "the copy of what runs is left", || {
        copies(&kitchen) == 1
    });
    let status = kitchen.ecosystem.status(NAME);
    assert_eq!(status["retired"]["generations"], RELOADS);
    let bytes = status["retired"]["bytes"].as_u64().expect("a number");
    assert!(bytes > RELOADS * (64 << 10), "{status:#}");
    let shown = kitchen.ecosystem.cli(&["status", NAME]).ok().stdout;
    let mut lines = shown.lines().map(str::trim_start);
    let line = lines.find(|line| line.starts_with("retired"));
    let line = line.expect("a line");
    assert!(
        line.contains("6 generations, ") && line.ends_with(" MiB"),
        "{shown}"
    );
    let of_dae = kitchen.ecosystem.status("Dae");
    assert_eq!(of_dae["libraries"]["loaded"], RELOADS + 1);
    assert_eq!(of_dae["libraries"]["max"], 900);
    assert!(
        of_dae["libraries"]["bytes"].as_u64() > Some(bytes),
        "{of_dae:#}"
    );
    // One of them runs again and is no longer retired; the one that it replaces is.
    let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
    assert_eq!(version(&mut guest), RELOADS);
    until(LIMIT, "the seventh is retired", || {
        kitchen.ecosystem.status(NAME)["retired"]["generations"] == RELOADS + 1
    });
    assert_eq!(kitchen.ecosystem.status(NAME)["retired"]["bytes"], bytes);
}

/// The file is mapped nevertheless, and ready for the next request.
#[test]
fn a_file_that_loads_after_its_limit_is_counted() {
    let kitchen = Kitchen::configured(&json!({"start_ms": 500, "defaults": {"preflight": false}}));
    let (_, mut guest) = kitchen.install(&[]);
    let loaded = || kitchen.ecosystem.status("Dae")["libraries"]["loaded"].clone();
    assert_eq!(loaded(), 1);
    let late = json!({"version": 2, "constructor": "late"});
    let output = kitchen.replace(&late, &[]).code(1);
    assert!(output.says(&["not loaded within"]), "{output:?}");
    assert_eq!(version(&mut guest), 1);
    until(LIMIT, "it is loaded and counted", || loaded() == 2);
    let _ = kitchen.replace(&late, &[]).ok();
    assert_eq!(version(&mut guest), 2);
    assert_eq!(loaded(), 2);
}

#[test]
fn a_thread_that_outlives_its_instance_is_counted() {
    let kitchen = Kitchen::configured(&json!({"stop_grace_ms": 200}));
    let (_, mut guest) = kitchen.install(&[]);
    guest.send("hold [3600000]\n");
    // The same instance answers this, so the command before it runs by now.
    assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 1);
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    until(LIMIT, "it is left behind", || {
        kitchen.ecosystem.status(NAME)["retired"]["left_behind"] == 1
    });
    // Its thread runs on, and a debugger may need the file.
    assert_eq!(copies(&kitchen), 2);
}

#[test]
fn a_subprocess_leaves_nothing_retired() {
    let kitchen = Kitchen::open();
    let (_, _guest) = kitchen.install(&["--isolate"]);
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    assert_eq!(kitchen.ecosystem.status(NAME)["retired"], json!(null));
    assert_eq!(copies(&kitchen), 0);
}
