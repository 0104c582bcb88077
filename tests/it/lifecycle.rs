//! A daemon's life: the order of its steps, commands of all three kinds, and panics at every step.

use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::json;

/// Returns the steps that the fixture has logged, in order.
fn steps(ecosystem: &Ecosystem, name: &str) -> Vec<String> {
    let messages = ecosystem.logged(name).into_iter();
    messages
        .filter_map(|message| message.strip_prefix("step: ").map(str::to_owned))
        .collect()
}

/// Installs the fixture with that config, and waits until it runs.
fn fated(ecosystem: &Ecosystem, config: &str) -> Guest {
    ecosystem.install("Lifecycle", "lifecycle", &["--config", config])
}

#[test]
fn start_run_stop_drop_in_this_order() {
    let ecosystem = Ecosystem::start();
    let mut guest = fated(&ecosystem, r#"{"greeting": "ahoj"}"#);
    assert_eq!(guest.ask("greeting", &json!([])), "ahoj");
    ecosystem.until_logged("Lifecycle", "step: run");
    assert_eq!(steps(&ecosystem, "Lifecycle"), ["start", "run"]);
    let _ = ecosystem.cli(&["stop", "Lifecycle"]).ok();
    ecosystem.until_logged("Lifecycle", "step: drop");
    assert_eq!(
        steps(&ecosystem, "Lifecycle"),
        ["start", "run", "stop", "drop"]
    );
}

#[test]
fn a_host_that_ends_stops_its_daemons_first() {
    let mut ecosystem = Ecosystem::start();
    let _guest = fated(&ecosystem, "{}");
    ecosystem.until_logged("Lifecycle", "step: run");
    ecosystem.stop();
    let steps = steps(&ecosystem, "Lifecycle");
    assert_eq!(steps[..3], ["start", "run", "stop"]);
}

#[test]
fn a_restart_is_a_whole_life_more() {
    let ecosystem = Ecosystem::start();
    let _guest = fated(&ecosystem, "{}");
    ecosystem.until_logged("Lifecycle", "step: run");
    let _ = ecosystem.cli(&["restart", "Lifecycle"]).ok();
    let count = |ecosystem: &Ecosystem, step: &str| {
        steps(ecosystem, "Lifecycle")
            .iter()
            .filter(|s| *s == step)
            .count()
    };
    until(LIMIT, "the second life runs and the first is over", || {
        count(&ecosystem, "run") == 2 && count(&ecosystem, "drop") == 1
    });
    assert_eq!(
        (count(&ecosystem, "start"), count(&ecosystem, "stop")),
        (2, 1)
    );
}

#[test]
fn a_daemon_knows_itself() {
    let ecosystem = Ecosystem::start();
    let mut guest = fated(&ecosystem, "{}");
    let itself = guest.ask("whoami", &json!([]));
    let told = guest.ask("dae", &json!([]));
    for key in ["name", "pid", "port"] {
        assert_eq!(itself[key], told[key], "{key}: {itself} against {told}");
    }
}

#[test]
fn blocking_and_waiting_commands_hold_up_nobody() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("block#thread [400]\nslow#future [200]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    guest.expect("slow#future [200]");
    guest.expect("block#thread [400]");
}

#[test]
fn commands_run_at_once_and_answer_in_order() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    let start = Instant::now();
    // Later commands finish first, and their replies wait for the earlier ones.
    let waits: Vec<u64> = (0..50).map(|i| 1000 - i * 5).collect();
    waits
        .iter()
        .for_each(|ms| guest.send(format!("slow [{ms}]\n")));
    waits
        .iter()
        .for_each(|ms| guest.expect(&format!("slow [{ms}]")));
    let one_by_one = Duration::from_millis(waits.iter().sum());
    assert!(
        one_by_one > LIMIT && start.elapsed() < LIMIT,
        "50 waits took {:?}",
        start.elapsed()
    );
}

#[test]
fn many_guests_wait_at_once() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let mut guests: Vec<Guest> = (0..20).map(|_| ecosystem.guest("Vectors")).collect();
    let start = Instant::now();
    guests
        .iter_mut()
        .for_each(|guest| guest.send("block [1500]\n"));
    guests
        .iter_mut()
        .for_each(|guest| guest.expect("block [1500]"));
    // One after the other they would take 30 s.
    assert!(
        start.elapsed() < LIMIT,
        "20 blocked for {:?}",
        start.elapsed()
    );
}

#[test]
fn a_guest_that_resets_its_connection_cancels_what_it_waited_for() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("slow#long [3600000]\necho#now [1]\n");
    // With an unread reply, closing makes the kernel reset the connection instead of half-closing it.
    guest.stream().peek(&mut [0]).expect("the reply comes");
    drop(guest);
    until(LIMIT, "the host lets the guest go", || {
        ecosystem.status("Vectors")["guests"] == 0
    });
}

#[test]
fn a_guest_that_left_holds_up_no_stop() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("slow#long [3600000]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    // The host sees a half-close: the guest might still read the reply.
    drop(guest);
    let _ = ecosystem.cli(&["stop", "Vectors"]).ok();
    assert_eq!(ecosystem.status("Vectors")["state"], "stopped");
}

#[test]
fn a_panicking_command_is_answered_and_logged_with_its_place() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    for (command, arguments, text) in [
        ("panic", json!([]), "asked to panic"),
        ("panic_later", json!([20]), "asked to panic later"),
    ] {
        let fault = guest.ask_in_vain(command, &arguments);
        assert_eq!(
            (fault.code.as_str(), fault.command.as_str()),
            ("crashed", command),
            "{fault:?}"
        );
        ecosystem.until_logged("Vectors", text);
    }
    let logged = ecosystem.logged("Vectors").join("\n");
    assert!(
        logged.contains("lib.rs:"),
        "the panic's place is missing: {logged}"
    );
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    assert_eq!(ecosystem.status("Vectors")["state"], "ready");
}

#[test]
fn an_untagged_panic_keeps_its_place_in_the_order() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("slow [100]\npanic\npanic_later [10]\necho [1]\n");
    guest.expect("slow [100]");
    for command in ["panic", "panic_later"] {
        let fault = guest
            .message()
            .result()
            .expect_err("a panic is answered with an error");
        assert_eq!(fault.command, command);
    }
    guest.expect("echo [1]");
}

#[test]
fn events_reach_the_guest_that_asked_and_no_other() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    let mut other = ecosystem.guest("Vectors");
    guest.send("push [3]\n");
    let mut lines: Vec<String> = (0..4).map(|_| guest.line()).collect();
    let reply = lines
        .iter()
        .position(|line| line == "push [3]")
        .expect("the reply is among them");
    lines.remove(reply);
    assert_eq!(lines, ["tick [0]", "tick [1]", "tick [2]"]);
    other.send("echo [1]\n");
    other.expect("echo [1]");
}

#[test]
fn a_panic_in_stop_or_drop_ends_the_daemon_and_not_the_host() {
    for (config, text) in [
        (r#"{"stop": "panic"}"#, "stop was asked to panic"),
        (r#"{"drop": "panic"}"#, "drop was asked to panic"),
    ] {
        let mut ecosystem = Ecosystem::start();
        let _guest = fated(&ecosystem, config);
        let _witness = ecosystem.install("Sample", "sample", &[]);
        let _ = ecosystem.cli(&["stop", "Lifecycle"]).ok();
        ecosystem.until_logged("Lifecycle", text);
        assert_eq!(
            ecosystem.status("Lifecycle")["state"],
            "stopped",
            "{config}"
        );
        ecosystem.guest("Sample").expect_alive();
        let _ = ecosystem.cli(&["start", "Lifecycle"]).ok();
        // The host's own end stops the daemon once more.
        ecosystem.stop();
    }
}

#[test]
fn a_run_that_fails_or_panics_is_logged_and_harms_nobody_else() {
    for (config, text) in [
        (r#"{"run": "fail"}"#, "run was asked to fail"),
        (r#"{"run": "panic"}"#, "run was asked to panic"),
    ] {
        let mut ecosystem = Ecosystem::start();
        let mut witness = ecosystem.install("Sample", "sample", &[]);
        let file = ecosystem.plugin("lifecycle");
        // The daemon's run may fail before or after the install has succeeded, so the result is ignored.
        let _ = ecosystem.cli(&[
            "install",
            "Lifecycle",
            file.to_str().expect("UTF-8"),
            "--config",
            config,
        ]);
        until(LIMIT, text, || {
            ecosystem.cli(&["logs"]).ok().stdout.contains(text)
        });
        witness.expect_alive();
        ecosystem.stop();
    }
}

#[test]
fn a_stop_that_holds_its_thread_does_not_hold_the_host() {
    let mut ecosystem = Ecosystem::start();
    let _guest = fated(&ecosystem, r#"{"stop": "block"}"#);
    let mut witness = ecosystem.install("Sample", "sample", &[]);
    witness.expect_alive();
    ecosystem.stop();
}

#[test]
fn a_run_that_holds_its_thread_does_not_hold_the_daemon() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = fated(&ecosystem, r#"{"run": "block", "greeting": "still here"}"#);
    ecosystem.until_logged("Lifecycle", "step: run");
    for _ in 0..20 {
        assert_eq!(guest.ask("greeting", &json!([])), "still here");
        assert_eq!(
            ecosystem.guest("Lifecycle").ask("greeting", &json!([])),
            "still here"
        );
    }
    ecosystem.stop();
}
