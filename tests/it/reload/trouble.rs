//! Reloads in trouble: daemons that crash or hang, and code that doesn't last.

use std::time::{Duration, Instant};

use dae_tests::{Guest, LIMIT, until};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, until_version, version};

#[test]
fn code_that_does_not_last_is_rolled_back_and_quarantined() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let mortal = json!({"version": 2, "run": "panic"});
        // The new code may be accepted before it ends or not; it is rolled back in either case.
        let _ = kitchen.replace(&mortal, &[]);
        let mut status = Value::Null;
        until(LIMIT, "its content is quarantined", || {
            status = kitchen.ecosystem.status(NAME);
            status["quarantined"]
                .as_object()
                .is_some_and(|all| all.len() == 1)
        });
        let reason = status["quarantined"].to_string();
        assert!(reason.contains("run was asked to panic"), "{reason}");
        until_version(&mut guest, 1);
        assert_eq!(guest.ask("count", &json!([])), 5);
        let output = kitchen.replace(&mortal, &[]).code(1);
        assert!(
            output.says(&["--force"]) && output.says(&["quarantined"]),
            "{output:#?}"
        );
        assert_eq!(version(&mut guest), 1);
        kitchen.ecosystem.stop();
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.until_state(NAME, "ready");
        let mut guest = kitchen.ecosystem.guest(NAME);
        assert_eq!(version(&mut guest), 1, "after a restart of the host");
        assert_eq!(guest.ask("count", &json!([])), 5);
        let output = kitchen.replace(&mortal, &["--force"]).ok();
        assert!(output.stdout.starts_with("accepted Recipe"), "{output:#?}");
    }
}

#[test]
fn code_that_fails_at_a_port_of_its_predecessor_is_rolled_back_with_the_cure() {
    for (step, told) in [
        ("start", "what was refused"),
        ("run", "what was quarantined"),
    ] {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(&[]);
        let output = kitchen.replace(&json!({"version": 2, step: "bind"}), &[]);
        let mut reason = output.stdout + &output.stderr;
        if step == "run" {
            until(LIMIT, "its content is quarantined", || {
                reason = kitchen.ecosystem.status(NAME)["quarantined"].to_string();
                reason.contains("address in use")
            });
            kitchen.ecosystem.until_logged(NAME, "rolled back to");
        }
        let cure = "#[daemon(exclusive)] cures it";
        assert!(reason.contains("address in use"), "{told}: {reason}");
        assert!(reason.contains(cure), "{told}: {reason}");
        until_version(&mut guest, 1);
    }
}

#[test]
fn a_crash_in_a_process_of_its_own_is_rolled_back_too() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&["--isolate"]);
    count_to(&mut guest, 5);
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    assert_eq!(guest.ask_in_vain("crash", &json!([])).code, "crashed");
    until_generation(&kitchen, 3);
    assert_eq!(version(&mut guest), 1);
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn after_the_rollback_window_code_is_restarted_and_not_rolled_back() {
    let kitchen = Kitchen::open();
    let settings = r#"{"rollback_window_ms": 0, "restart": {"backoff_first_ms": 1}}"#;
    let (_, mut guest) = kitchen.install(&["--isolate", "--settings", settings]);
    let _ = kitchen.replace(&json!({"version": 2}), &[]).ok();
    assert_eq!(guest.ask_in_vain("crash", &json!([])).code, "crashed");
    until_generation(&kitchen, 3);
    assert_eq!(version(&mut guest), 2);
}

/// Waits until that generation is ready. Until the host notices a crash, it answers commands with `crashed`.
#[track_caller]
fn until_generation(kitchen: &Kitchen, generation: u64) {
    until(LIMIT, "the next generation answers", || {
        let status = kitchen.ecosystem.status(NAME);
        status["state"] == "ready" && status["generation"] == generation
    });
}

#[test]
fn a_reload_cures_a_crash_loop_and_a_backoff() {
    let loops = json!({"burst_max": 1, "backoff_first_ms": 1});
    let waits =
        json!({"backoff_first_ms": 600_000, "backoff_max_ms": 600_000, "served_ms": 600_000});
    for flags in MODES {
        for (restart, state) in [(&loops, "crash-loop"), (&waits, "backoff")] {
            let kitchen = Kitchen::open();
            let settings = json!({"restart": restart}).to_string();
            let flags = [flags, &["--settings", &settings]].concat();
            let mortal = kitchen.file("source.so", &json!({"version": 1, "run": "panic"}));
            let _ = kitchen.install_file(&mortal, &flags);
            kitchen.ecosystem.until_state(NAME, state);
            let output = kitchen.replace(&json!({"version": 2}), &[]).ok();
            assert!(output.stdout.starts_with("accepted"), "{output:#?}");
            kitchen.ecosystem.until_state(NAME, "ready");
            assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 2);
        }
    }
}

#[test]
fn a_bad_reload_of_a_crash_loop_leaves_it_there() {
    let kitchen = Kitchen::open();
    let settings = r#"{"restart": {"burst_max": 1, "backoff_first_ms": 1}}"#;
    let mortal = kitchen.file("source.so", &json!({"version": 1, "run": "panic"}));
    let _ = kitchen.install_file(&mortal, &["--settings", settings]);
    kitchen.ecosystem.until_state(NAME, "crash-loop");
    let output = kitchen
        .replace(&json!({"version": 2, "start": "fail"}), &[])
        .code(1);
    assert!(output.says(&["nothing of it runs"]), "{output:#?}");
    assert_eq!(kitchen.ecosystem.status(NAME)["state"], "crash-loop");
}

/// Reloads while a guest's command hangs in the drain and another guest sends a command.
#[track_caller]
fn reload_past(kitchen: &Kitchen, flags: &[&str], hanging: &str) {
    let (_, mut guest) = kitchen.install(flags);
    let mut other = kitchen.ecosystem.guest(NAME);
    count_to(&mut other, 5);
    guest.send(format!("{hanging}\n"));
    // The same instance answers this, so the command before it runs by now.
    assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 1);
    until(LIMIT, "it runs", || {
        kitchen.ecosystem.status(NAME)["guests"].as_u64() >= Some(2)
    });
    let mut control = kitchen.ecosystem.control();
    let file = kitchen.file("new.so", &json!({"version": 2}));
    let began = Instant::now();
    control.send(
        "install",
        &json!({"name": NAME, "file": file, "replace": true}),
    );
    kitchen.ecosystem.until_state(NAME, "reloading");
    // This command may come before the gate closes or after that; it is answered in either case.
    other.send("increment [7]\n");
    let accepted = control.reply().expect("it goes through");
    println!(
        "{flags:?} {hanging}: {} ms, {:.1?}",
        accepted["ms"],
        began.elapsed()
    );
    let reply = other.message();
    assert_eq!(
        (&reply.name[..], &reply.arguments[0][0]),
        ("increment", &json!(7))
    );
    assert_eq!(reply.arguments[0][2], 6);
    assert_eq!(version(&mut other), 2);
    assert_eq!(other.ask("count", &json!([])), 6);
}

#[test]
fn commands_that_hang_in_the_drain_do_not_hold_up_a_reload() {
    for flags in MODES {
        for hanging in ["slow [1,3600000]", "hold [3600000]"] {
            let kitchen = Kitchen::configured(&json!({"stop_grace_ms": 300}));
            reload_past(&kitchen, flags, hanging);
        }
    }
}

#[test]
fn nobody_is_refused_over_a_drain_of_full_length() {
    for flags in MODES {
        reload_past(&Kitchen::open(), flags, "slow [1,3600000]");
    }
}

#[test]
fn nobody_is_refused_while_a_successor_hangs_in_its_start() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let mut control = kitchen.ecosystem.control();
        let file = kitchen.file("new.so", &json!({"version": 2, "start": "hang"}));
        control.send(
            "install",
            &json!({"name": NAME, "file": file, "replace": true}),
        );
        kitchen.ecosystem.until_state(NAME, "reloading");
        let longest = longest_wait(&mut guest, || {
            kitchen.ecosystem.status(NAME)["state"] == "ready"
        });
        let text = control.reply().expect_err("it hangs").message;
        println!("{flags:?}: the longest wait {longest:.1?}; {text}");
    }
}

/// Sends commands without a pause until `is_over`. Returns the longest time to an answer.
fn longest_wait(guest: &mut Guest, mut is_over: impl FnMut() -> bool) -> Duration {
    let (mut longest, mut mark) = (Duration::ZERO, 5);
    until(LIMIT, "it is over", || {
        mark += 1;
        let began = Instant::now();
        assert_eq!(
            guest.ask("increment", &json!([mark])),
            json!([mark, 1, mark])
        );
        longest = longest.max(began.elapsed());
        is_over()
    });
    longest
}

/// In-process the file never passes its preflight, if there is one; a subprocess has none. In each case the host loads
/// the file before it makes any guest wait.
#[test]
fn nobody_waits_for_a_successor_that_hangs_while_it_is_loaded() {
    const START: Duration = Duration::from_secs(3);
    let no_preflight = &["--settings", r#"{"preflight": false}"#][..];
    for flags in MODES.into_iter().chain([no_preflight]) {
        let kitchen = Kitchen::configured(&json!({"start_ms": START.as_millis() as u64}));
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let mut control = kitchen.ecosystem.control();
        let file = kitchen.file("new.so", &json!({"version": 2, "constructor": "hang"}));
        control.send(
            "install",
            &json!({"name": NAME, "file": file, "replace": true}),
        );
        kitchen.ecosystem.until_state(NAME, "reloading");
        // Guests that had to wait for the new file would be answered only once.
        let mut answered = 0;
        longest_wait(&mut guest, || {
            let status = kitchen.ecosystem.status(NAME);
            answered += u32::from(status["state"] == "reloading");
            status["state"] == "ready"
        });
        let text = control.reply().expect_err("it hangs").message;
        assert!(
            text.contains("loaded") || text.contains("preflight"),
            "{text}"
        );
        assert!(answered > 1, "{flags:?}: {answered} answers meanwhile");
    }
}
