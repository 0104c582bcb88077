//! The hand-over in two phases: what changes between the snapshot and the delta is there, and a failure at any step leaves
//! the old instance answering.

use std::path::Path;

use dae_tests::{Ecosystem, Guest, LIMIT, process, spoil, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::MODES;

const NAME: &str = "Phased";

fn install(flags: &[&str]) -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install(NAME, "phased", flags);
    guest.ask("fill", &json!([300_000]));
    (ecosystem, guest)
}

/// Kills the process of the daemon.
#[track_caller]
fn kill(ecosystem: &Ecosystem) {
    let pid = ecosystem.status(NAME)["pid"].as_u64();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    process::signal(pid.expect("a process"), Signal::KILL);
}

fn visits(guest: &mut Guest) -> Value {
    guest.ask("visits", &json!([7]))
}

/// Begins a hand-over whose new instance waits for that file, changes a value meanwhile, and lets it go on.
#[track_caller]
fn change_during(order: &str, (ecosystem, guest): (&Ecosystem, &mut Guest), file: &Path) -> Value {
    guest.ask("behave", &json!(["", file]));
    let mut reload = ecosystem.cli_running(&[order, NAME]);
    until(LIMIT, "the snapshot", || {
        guest.ask("is_noting", &json!([])) == true
    });
    // Guests are answered although the hand-over is under way.
    guest.ask("visit", &json!([7]));
    guest.ask("visit", &json!([9_000_000]));
    let visits = guest.ask("visit", &json!([7]));
    std::fs::write(file, "").expect("a directory of ours");
    assert_eq!(reload.end(LIMIT), Some(0));
    visits
}

#[test]
fn what_changes_between_snapshot_and_delta_is_there() {
    for flags in MODES {
        let (mut ecosystem, mut guest) = install(flags);
        for (number, order) in ["reload", "isolate", "reload", "embed"].iter().enumerate() {
            let count = guest.ask("count", &json!([])).as_u64();
            let file = ecosystem.scratch().join(format!("go-{number}"));
            let changed = change_during(order, (&ecosystem, &mut guest), &file);
            assert_eq!(visits(&mut guest), changed, "{order}");
            let new = u64::from(number == 0);
            let count = count.map(|count| count + new);
            assert_eq!(guest.ask("count", &json!([])).as_u64(), count, "{order}");
            assert_eq!(guest.ask("is_noting", &json!([])), false, "a new instance");
        }
        // The disk has the whole state, and not the snapshot alone.
        let last = visits(&mut guest);
        ecosystem.kill();
        ecosystem.wake(&[]);
        ecosystem.until_state(NAME, "ready");
        assert_eq!(visits(&mut ecosystem.guest(NAME)), last);
    }
}

#[test]
fn a_failure_at_any_step_leaves_the_old_instance_answering() {
    for flags in MODES {
        let (ecosystem, mut guest) = install(flags);
        for step in ["snapshot", "start", "delta", "apply"] {
            guest.ask("behave", &json!([step, null]));
            let before = guest.ask("visit", &json!([7]));
            let refused = ecosystem.cli(&["reload", NAME]).code(1);
            let asked = format!("asked to fail at {step}");
            assert!(refused.says(&[&asked]), "{step}: {refused:?}");
            assert_eq!(visits(&mut guest), before, "{step}");
            assert_eq!(ecosystem.status(NAME)["generation"], 1, "{step}");
            // A `delta` that fails may go on noting.
            if step != "delta" {
                assert_eq!(guest.ask("is_noting", &json!([])), false, "{step}");
            }
        }
        guest.ask("behave", &json!(["", null]));
        let last = guest.ask("visit", &json!([7]));
        let _ = ecosystem.cli(&["reload", NAME]).ok();
        assert_eq!(visits(&mut guest), last);
    }
}

#[test]
fn a_crash_of_the_new_process_leaves_the_old_one_answering() {
    let (ecosystem, mut guest) = install(&["--isolate"]);
    guest.ask("behave", &json!(["crash", null]));
    let before = guest.ask("visit", &json!([7]));
    let _ = ecosystem.cli(&["reload", NAME]).code(1);
    assert_eq!(visits(&mut guest), before);
    assert_eq!(ecosystem.status(NAME)["generation"], 1);
}

#[test]
fn a_crash_after_the_hand_over_starts_from_the_whole_state() {
    let (ecosystem, mut guest) = install(&["--isolate"]);
    let file = ecosystem.scratch().join("go");
    let changed = change_during("reload", (&ecosystem, &mut guest), &file);
    kill(&ecosystem);
    until(LIMIT, "the next generation answers", || {
        let status = ecosystem.status(NAME);
        status["state"] == "ready" && status["generation"] == 3
    });
    assert_eq!(visits(&mut guest), changed);
}

/// Once the old instance can't save, only the new one has everything. New code that crashes must not make the daemon empty.
#[test]
fn an_old_instance_that_cannot_save_leaves_no_daemon_empty() {
    let (ecosystem, mut guest) = install(&["--isolate"]);
    let before = guest.ask("visit", &json!([7]));
    guest.ask("behave", &json!(["save", null]));
    let mut plugin = std::fs::read(ecosystem.plugin("phased")).expect("a file");
    plugin.extend(b"another content");
    let file = spoil::write(&ecosystem.scratch(), "new.so", &plugin);
    let file = file.to_str().expect("UTF-8");
    let _ = ecosystem.cli(&["install", NAME, file, "--replace"]).ok();
    assert_eq!(visits(&mut guest), before);
    kill(&ecosystem);
    ecosystem.until_logged(NAME, "rolled back to");
    assert_eq!(visits(&mut guest), before);
    let _ = ecosystem.cli(&["restart", NAME]).ok();
    assert_eq!(visits(&mut ecosystem.guest(NAME)), before, "from the disk");
}
