//! Code that doesn't last: what is gone back to, from which state, and what is said of it.
//!
//! Each of these chains is made within one probation time: what was left behind in it has not shown that it lasts.

use std::path::{Path, PathBuf};

use dae_tests::{Guest, LIMIT, process, spoil, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::kept::history;
use super::{Kitchen, MODES, NAME, count_to, until_version, version};

/// A plugin of the workspace as a file of content of its own: a few bytes at its end make one.
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

/// Waits until the last file is quarantined, and nothing but it.
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
        // The one between did nothing wrong.
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
    // What the newer code has kept is there for who wants it.
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
    // The newer one is all there is.
    until_version(&mut guest, 2);
    let status = ecosystem.until_state(NAME, "ready");
    let told = status["last_end"]["cause"].as_str().unwrap_or_default();
    assert!(told.contains("was killed by signal 9"), "{status:#}");
    assert!(told.contains("can't take over again"), "{status:#}");
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn a_restart_and_a_move_do_not_end_a_probation() {
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
    // A good file is what runs, and there is nothing more to say.
    let good = kitchen.file("new.so", &json!({"version": 3}));
    std::fs::rename(good, &source).expect("a file of our own");
    until_version(&mut guest, 3);
    kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(kitchen.ecosystem.status(NAME)["source_note"], "");
    let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
    let note = kitchen.ecosystem.status(NAME)["source_note"].clone();
    assert_eq!(note, "newer: rolled back");
}

/// Longer than anything else here takes.
const GRACE_MS: u64 = 8_000;

/// Neither has a state, so that the old one is drained beside the new one.
#[test]
fn a_successor_that_dies_while_the_old_one_still_drains_is_noticed() {
    let kitchen = Kitchen::configured(&json!({"stop_grace_ms": GRACE_MS}));
    let first = kitchen.ecosystem.plugin("probe");
    let _ = kitchen.install_file(&first, &["--isolate"]).ok();
    let mut hanging = kitchen.ecosystem.guest(NAME);
    hanging.send("slow [3600000]\n");
    // Answered by the same instance as the one before, so that one runs when this is answered.
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
    // Whoever is told that it is stopped finds nothing of it, the one that drained included.
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    let old = u32::try_from(old.as_u64().expect("a process")).expect("its number");
    assert!(process::is_gone(old), "the oldest one is left over");
}
