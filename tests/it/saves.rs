//! Saves on demand: `eco.save()` and `#[command(saves)]` keep a state before the answer, in both modes.

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::{Value, json};

const NAME: &str = "Ledger";
/// The flags of `install` for each place where a daemon may run.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The commands that keep what they change, with the arguments that add 1.
const KEPT: [(&str, &str); 4] = [
    ("add_kept", "[1]"),
    ("add_kept_blocking", "[1]"),
    ("add_kept_later", r#"["rent", 1]"#),
    ("add_and_save", "[1]"),
];

fn arguments_of(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn install(ecosystem: &Ecosystem, flags: &[&str]) -> Guest {
    ecosystem.install(NAME, "keeper", flags)
}

fn behave(guest: &mut Guest, (is_slow, is_failing): (bool, bool), fat: u64) {
    guest.ask("behave", &json!([is_slow, is_failing, fat]));
}

#[test]
fn what_a_command_has_kept_outlives_a_killed_host() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        for (total, (command, arguments)) in (1..).zip(KEPT) {
            assert_eq!(
                guest.ask(command, &arguments_of(arguments)),
                total,
                "{command}"
            );
            // A change that no command keeps is lost.
            guest.ask("add", &json!([100]));
            ecosystem.kill();
            ecosystem.wake(&[]);
            ecosystem.until_state(NAME, "ready");
            guest = ecosystem.guest(NAME);
            assert_eq!(guest.ask("total", &json!([])), total, "{command}");
        }
    }
}

#[test]
fn saves_that_arrive_during_one_share_the_next() {
    const MANY: usize = 50;
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        behave(&mut guest, (true, false), 0);
        for number in 0..MANY {
            guest.send(format!("add_kept#{number} [1]\n"));
        }
        for _ in 0..MANY {
            let message = guest.message();
            assert_eq!(message.name, "add_kept", "{message:?}");
        }
        // The first one runs alone. All that wait for it share the second, and a straggler may need a third.
        let saves = guest.ask("saves", &json!([]));
        let is_shared = saves.as_u64().is_some_and(|saves| (1..=3).contains(&saves));
        assert!(is_shared, "{saves} runs of `save` for {MANY} commands");
        let state = ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(state["data"]["total"], MANY);
    }
}

#[test]
fn more_blocking_commands_than_a_process_has_threads_are_all_kept() {
    // tokio's pool has 512 threads for blocking work. Each command holds one while it waits for the save.
    const MANY: usize = 600;
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        for number in 0..MANY {
            guest.send(format!("add_kept_blocking#{number} [1]\n"));
        }
        for _ in 0..MANY {
            let message = guest.message();
            assert_eq!(message.name, "add_kept_blocking", "{message:?}");
        }
        assert_eq!(guest.ask("total", &json!([])), MANY);
    }
}

#[test]
fn a_save_that_fails_says_that_the_command_ran() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        behave(&mut guest, (false, true), 0);
        for (total, (command, arguments)) in (1..).zip(KEPT) {
            let fault = guest.ask_in_vain(command, &arguments_of(arguments));
            assert_eq!(fault.code, "failed", "{command}: {fault:?}");
            assert!(fault.message.contains("asked to fail"), "{fault:?}");
            let is_told = fault.message.contains("the command ran");
            assert_eq!(is_told, command != "add_and_save", "{fault:?}");
            assert_eq!(guest.ask("total", &json!([])), total, "{command} ran");
        }
        // A command that fails keeps nothing, and its own error is the answer.
        let before = guest.ask("saves", &json!([]));
        let fault = guest.ask_in_vain("add_kept_later", &json!(["none", 1]));
        assert_eq!(fault.message, "a reason is needed");
        assert_eq!(guest.ask("saves", &json!([])), before);
    }
}

#[test]
fn a_save_under_the_lock_that_it_needs_is_an_error_and_no_deadlock() {
    for flags in MODES {
        let ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 500}));
        let mut guest = install(&ecosystem, flags);
        // More than the host has threads: none of them may be lost.
        for _ in 0..4 {
            let fault = guest.ask_in_vain("save_under_lock", &json!([]));
            assert_eq!(fault.code, "failed", "{fault:?}");
            assert!(fault.message.contains("hold a lock"), "{fault:?}");
        }
        assert_eq!(guest.ask("add_kept", &json!([7])), 7);
        until(LIMIT, "the daemon is healthy", || {
            ecosystem.status(NAME)["state"] == "ready"
        });
        assert_eq!(ecosystem.status(NAME)["generation"], 1);
    }
}

#[test]
fn a_large_state_is_warned_of_once_for_each_instance() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        behave(&mut guest, (false, false), (1 << 20) + 1);
        for _ in 0..3 {
            guest.ask("add_kept", &json!([1]));
        }
        ecosystem.until_logged(NAME, "each save on demand writes all of it");
        let warned = |line: &&String| line.contains("each save on demand");
        assert_eq!(ecosystem.logged(NAME).iter().filter(warned).count(), 1);
    }
}

/// Sends commands that keep what they add, changes the daemon meanwhile, and returns the sum of those that were answered:
/// all of them.
fn kept_during(ecosystem: &Ecosystem, guest: &mut Guest, change: &str) -> u64 {
    const MANY: u64 = 20;
    for number in 0..MANY {
        guest.send(format!("add_kept#{number} [1]\n"));
    }
    let _ = ecosystem.cli(&[change, NAME]).ok();
    for _ in 0..MANY {
        let message = guest.message();
        assert_eq!(message.name, "add_kept", "{message:?}");
    }
    MANY
}

#[test]
fn a_host_that_is_killed_after_a_reload_has_what_was_answered() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        let mut total = 0;
        for _ in 0..4 {
            // Some run on the old instance, and some on the new one while the state that it has started from is written.
            total += kept_during(&ecosystem, &mut guest, "reload");
            ecosystem.kill();
            ecosystem.wake(&[]);
            ecosystem.until_state(NAME, "ready");
            guest = ecosystem.guest(NAME);
            assert_eq!(guest.ask("total", &json!([])), total);
        }
    }
}

#[test]
fn a_reload_under_saves_loses_nothing_that_was_answered() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, flags);
        let mut other = ecosystem.guest(NAME);
        let mut total = 0;
        for _ in 0..5 {
            total += kept_during(&ecosystem, &mut guest, "restart");
            assert_eq!(other.ask("total", &json!([])), total);
        }
        let _ = ecosystem.cli(&["stop", NAME]).ok();
        let state = ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(state["data"]["total"], total);
    }
}

#[test]
fn a_state_moves_by_export_and_import_and_goes_back() {
    for flags in [&[][..], &["--isolate"]] {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("One", "counter", flags);
        guest.ask("increment", &json!([5]));
        let _ = ecosystem.install("Two", "counter", flags);
        let file = ecosystem.scratch().join("state.json");
        let file = file.to_str().expect("UTF-8");
        let _ = ecosystem.cli(&["state", "One", "--export", file]).ok();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file).expect("it"));
        assert_eq!(mode & 0o777, 0o600);
        let refused = ecosystem.cli(&["state", "One", "--export", file]).code(1);
        assert!(refused.says(&["state.json"]), "{refused:?}");
        let mut two = ecosystem.guest("Two");
        two.ask("increment", &json!([1]));
        let _ = ecosystem.cli(&["state", "Two", "--import", file]).ok();
        assert_eq!(two.ask("count", &json!([])), 5);
        let _ = ecosystem.cli(&["rollback", "Two"]).ok();
        assert_eq!(
            two.ask("count", &json!([])),
            1,
            "the state of before is kept"
        );
        let printed = ecosystem
            .cli(&["state", "One", "--export", "-"])
            .ok()
            .json();
        assert_eq!(
            printed["data"],
            ecosystem.cli(&["state", "One"]).ok().json()["data"]
        );
    }
}

#[test]
fn a_state_that_cannot_be_read_changes_nothing() {
    for flags in [&[][..], &["--isolate"]] {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("One", "counter", flags);
        guest.ask("increment", &json!([5]));
        let _ = ecosystem.install("Sample", "sample", flags);
        let file = ecosystem.scratch().join("state.json");
        let path = file.to_str().expect("UTF-8");
        for (text, told) in [
            ("{", "not JSON"),
            ("[1]", "`version` and `data`"),
            (r#"{"version": 99, "data": {}}"#, "One"),
            (r#"{"version": 1, "data": "odd"}"#, "One"),
        ] {
            std::fs::write(&file, text).expect("a file");
            let output = ecosystem.cli(&["state", "One", "--import", path]).code(1);
            assert!(output.says(&[told]), "{text}: {output:?}");
            assert_eq!(guest.ask("count", &json!([])), 5);
        }
        let output = ecosystem
            .cli(&["state", "Sample", "--import", path])
            .code(1);
        assert!(output.says(&["keeps no state"]), "{output:?}");
        let _ = ecosystem
            .cli(&["state", "One", "--import", "/nowhere"])
            .code(1);
        let _ = ecosystem
            .cli(&["state", "One", "--history", "--import", path])
            .code(2);
    }
}
