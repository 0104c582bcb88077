//! Commands that wait while another guest's first run of the same command is under way, and for an instance after that.
//!
//! The replies of a command's first run are made one at a time, since their size is not known yet.

use dae_tests::{Guest, LIMIT, until};
use serde_json::json;

use super::{Kitchen, MODES, NAME, version};

/// The time that the first run takes (ms); within the grace of a reload.
const HOLD_MS: u64 = 1_000;

/// Has one guest run a slow command for the first time, and returns it with another whose command waits for that.
fn one_runs_and_one_waits(kitchen: &Kitchen) -> (Guest, Guest) {
    let (mut runs, mut waits) = (kitchen.ecosystem.guest(NAME), kitchen.ecosystem.guest(NAME));
    // Both have been served once, so that nothing but the command is left to do.
    let _ = (version(&mut runs), version(&mut waits));
    runs.send(format!("hold [{HOLD_MS}]\n"));
    let _ = version(&mut kitchen.ecosystem.guest(NAME));
    waits.send("hold [1]\n");
    let _ = version(&mut kitchen.ecosystem.guest(NAME));
    (runs, waits)
}

#[test]
fn a_command_that_waits_for_another_is_answered_after_a_reload() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let _ = kitchen.install(flags);
        let (mut runs, mut waits) = one_runs_and_one_waits(&kitchen);
        let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
        assert_eq!(runs.line(), "hold []", "{flags:?}");
        assert_eq!(waits.line(), "hold []", "{flags:?}");
        assert_eq!(version(&mut waits), 2, "{flags:?}");
    }
}

#[test]
fn a_command_that_waits_for_another_waits_no_longer_for_an_instance_than_it_may() {
    for flags in MODES {
        let kitchen = Kitchen::configured(&json!({
            "instance_wait_ms": 300,
            "stop_grace_ms": 200,
            "defaults": {
                "on_panic": "restart",
                "panics_max": 1,
                "restart": {"served_ms": 600_000, "backoff_first_ms": 60_000, "backoff_max_ms": 60_000},
            },
        }));
        let _ = kitchen.install(flags);
        let (_runs, mut waits) = one_runs_and_one_waits(&kitchen);
        let mut other = kitchen.ecosystem.guest(NAME);
        other.send("panic\n");
        until(LIMIT, "the instance has ended", || {
            kitchen.ecosystem.status(NAME)["state"] == "backoff"
        });
        let line = waits.line();
        // A process of its own had the command already, and was withdrawn together with the running one.
        let expected = if flags.is_empty() {
            "unavailable"
        } else {
            "hold"
        };
        assert!(line.contains(expected), "{flags:?}: {line}");
    }
}

#[test]
fn a_command_that_waits_for_another_is_refused_when_its_daemon_is_stopped() {
    let kitchen = Kitchen::open();
    let _ = kitchen.install(&[]);
    let (_runs, mut waits) = one_runs_and_one_waits(&kitchen);
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    let line = waits.line();
    assert!(line.contains("unavailable"), "{line}");
}
