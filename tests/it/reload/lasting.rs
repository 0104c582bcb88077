//! Rollbacks of code that doesn't last: the version and the state that are restored, and the reports.
//!
//! Each chain of reloads happens within one rollback window, so the versions in between have not shown that they last.

use std::path::{Path, PathBuf};

use dae_tests::{Guest, LIMIT, process, spoil, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::kept::history;
use super::{Kitchen, MODES, NAME, count_to, until_version, version};

/// Writes a plugin of the workspace as a file with distinct content: it has one more byte at its end.
fn distinct(kitchen: &Kitchen, library: &str, number: u8) -> PathBuf {
    let mut bytes = std::fs::read(kitchen.ecosystem.plugin(library)).expect("the plugin");
    bytes.push(number);
    let name = format!("{library}-{number}.so");
    spoil::write(&kitchen.ecosystem.scratch(), &name, &bytes)
}

fn replace_with(kitchen: &Kitchen, file: &Path) {
    let _ = kitchen.install_file(file, &["--replace"]).ok();
}

fn kill(kitchen: &Kitchen) {
    let pid = kitchen.ecosystem.status(NAME)["pid"].as_u64();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    process::signal(pid.expect("a process"), Signal::KILL);
}

fn quarantined(kitchen: &Kitchen) -> Vec<Value> {
    let status = kitchen.ecosystem.status(NAME);
    let all = status["quarantined"].as_object();
    all.expect("an object").values().cloned().collect()
}

/// Waits until one content is quarantined and the expected version answers.
#[track_caller]
fn until_rolled_back(kitchen: &Kitchen, guest: &mut Guest, expected: u64) {
    until(LIMIT, "one content is quarantined", || {
        quarantined(kitchen).len() == 1
    });
    kitchen.ecosystem.until_state(NAME, "ready");
    until_version(guest, expected);
}

#[test]
fn what_crashes_after_a_chain_of_reloads_goes_back_to_what_has_lasted() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
        assert_eq!(guest.ask("increment", &json!([6])), json!([6, 2, 6]));
        let _ = kitchen.replace(&json!({"version": 3, "run": "panic"}), &[]);
        until_rolled_back(&kitchen, &mut guest, 1);
        assert_eq!(guest.ask("count", &json!([])), 6, "the newest state");
        // The version in between is not quarantined.
        let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
        assert_eq!(version(&mut guest), 2);
    }
}

#[test]
fn code_that_cannot_read_the_newest_state_goes_back_to_its_own() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&["--isolate"]);
    count_to(&mut guest, 5);
    for number in [1, 2] {
        replace_with(&kitchen, &distinct(&kitchen, "migrating", number));
        assert_eq!(version(&mut guest), 1000);
        guest.ask("increment", &json!([5 + number]));
    }
    kill(&kitchen);
    until_rolled_back(&kitchen, &mut guest, 1);
    assert_eq!(guest.ask("count", &json!([])), 5, "its own state");
    kitchen.ecosystem.until_logged(NAME, "is of version 2");
    // The newer code's state stays available in the archive.
    let kept = history(&kitchen.ecosystem);
    assert_eq!(kept[0]["reason"], "rolled-back", "{kept:?}");
    assert_eq!(kept[0]["state"]["version"], 2, "{kept:?}");
}

#[test]
fn a_return_that_fails_is_told() {
    let kitchen = Kitchen::open();
    let ecosystem = &kitchen.ecosystem;
    let (_, mut guest) = kitchen.install(&["--isolate"]);
    count_to(&mut guest, 5);
    let hash = ecosystem.status(NAME)["hash"].clone();
    let stored = format!("store/{}.so", hash.as_str().expect("a hash"));
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    std::fs::remove_file(ecosystem.home().join(stored)).expect("the old code is stored");
    kill(&kitchen);
    ecosystem.until_logged(NAME, "what was before can't take over again from ");
    // Only the newer version is left.
    until_version(&mut guest, 2);
    let status = ecosystem.until_state(NAME, "ready");
    let told = status["last_end"]["cause"].as_str().unwrap_or_default();
    assert!(told.contains("was killed by signal 9"), "{status:#}");
    assert!(told.contains("can't take over again"), "{status:#}");
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn a_restart_and_a_move_do_not_end_a_rollback_window() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    let _ = kitchen.ecosystem.cli(&["restart", NAME]).ok();
    let _ = kitchen.ecosystem.cli(&["isolate", NAME]).ok();
    assert_eq!(version(&mut guest), 2);
    kill(&kitchen);
    until_rolled_back(&kitchen, &mut guest, 1);
    assert_eq!(kitchen.ecosystem.status(NAME)["mode"], "subprocess");
}

#[test]
fn the_file_that_was_rolled_back_from_is_not_shown_as_what_runs() {
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    let of_good = kitchen.ecosystem.status(NAME)["hash"].clone();
    let mortal = kitchen.file("new.so", &json!({"version": 2, "run": "panic"}));
    std::fs::rename(mortal, &source).expect("a file of our own");
    until_rolled_back(&kitchen, &mut guest, 1);
    let status = kitchen.ecosystem.status(NAME);
    assert_eq!(status["hash"], of_good);
    assert_eq!(status["source_note"], "newer: quarantined");
    let shown = kitchen.ecosystem.cli(&["status", NAME]).ok().stdout;
    assert!(shown.contains("source.so (newer: quarantined)"), "{shown}");
    let output = kitchen.ecosystem.cli(&["reload", NAME]).code(1);
    assert!(
        output.stderr.contains("refused Recipe: ") && output.stderr.contains(" runs on"),
        "{output:#?}"
    );
    // A good file runs, and the note disappears.
    let good = kitchen.file("new.so", &json!({"version": 3}));
    std::fs::rename(good, &source).expect("a file of our own");
    until_version(&mut guest, 3);
    kitchen.ecosystem.until_state(NAME, "ready");
    // The new code answers a moment before the change is recorded.
    let has_no_note = || kitchen.ecosystem.status(NAME)["source_note"].is_null();
    until(LIMIT, "the note disappears", has_no_note);
    let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
    let note = kitchen.ecosystem.status(NAME)["source_note"].clone();
    assert_eq!(note, "newer: rolled back");
}

/// A grace that is longer than anything else in its test (ms).
const GRACE_MS: u64 = 8_000;

/// Neither file has a state, so the old instance is drained beside the new one.
#[test]
fn a_successor_that_dies_while_the_old_one_still_drains_is_noticed() {
    let kitchen = Kitchen::configured(&json!({"stop_grace_ms": GRACE_MS}));
    let first = kitchen.ecosystem.plugin("probe");
    let _ = kitchen.install_file(&first, &["--isolate"]).ok();
    let mut hanging = kitchen.ecosystem.guest(NAME);
    hanging.send("slow [3600000]\n");
    // The same instance answers this, so the command before it runs by now.
    kitchen.ecosystem.guest(NAME).ask("pid", &json!([]));
    let old = kitchen.ecosystem.status(NAME)["pid"].clone();
    let began = std::time::Instant::now();
    replace_with(&kitchen, &distinct(&kitchen, "probe", 1));
    kill(&kitchen);
    until(LIMIT, "the one before answers again", || {
        let status = kitchen.ecosystem.status(NAME);
        status["state"] == "ready" && status["generation"] == 3
    });
    let took = began.elapsed();
    assert!(took.as_millis() < u128::from(GRACE_MS), "{took:?}");
    // Once `stop` returns, nothing of the daemon runs, not even the instance that was drained.
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    let old = u32::try_from(old.as_u64().expect("a process")).expect("its number");
    assert!(process::is_gone(old), "the oldest one is left over");
}

/// Waits until the host has looked at all its files once more, by two new ones in the drop-in directory: it looks at
/// the second one after it has handled everything it saw with the first.
fn until_looked(kitchen: &Kitchen) {
    let drop_in = kitchen.ecosystem.home().join("plugins");
    for (library, daemon) in [("counter", "Counter"), ("relay", "Relay")] {
        let file = distinct(kitchen, library, 1);
        std::fs::rename(file, drop_in.join(format!("{library}.so"))).expect("a file of our own");
        kitchen.ecosystem.until_state(daemon, "ready");
    }
}

#[test]
fn another_mode_of_the_file_that_was_rolled_back_from_is_no_new_content() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (source, mut guest) = kitchen.install(flags);
        let newer = kitchen.file("new.so", &json!({"version": 2}));
        std::fs::rename(newer, &source).expect("a file of our own");
        until_version(&mut guest, 2);
        kitchen.ecosystem.until_state(NAME, "ready");
        let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&source, mode).expect("a file of our own");
        until_looked(&kitchen);
        assert_eq!(version(&mut guest), 1);
        // The same content that is written again is meant to run.
        spoil::write(
            &kitchen.ecosystem.scratch(),
            "source.so",
            &kitchen.bytes(&json!({"version": 2})),
        );
        until_version(&mut guest, 2);
    }
}
