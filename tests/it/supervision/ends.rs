//! Ends of instances and what follows: the backoff, the next instance, the crash loop, and the guests' view of them.

use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, Guest, LIMIT, Message, until};
use serde_json::json;

use super::{FOR_EVER_MS, MODES, probe, text};

/// A backoff that only a person ends (ms).
const NO_RETRY: u64 = FOR_EVER_MS;

#[test]
fn a_run_that_fails_again_and_again_is_a_crash_loop_until_somebody_sees_to_it() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let settings =
            json!({"restart": {"burst_max": 3, "backoff_first_ms": 20, "served_ms": FOR_EVER_MS}});
        let mut guest = probe(&ecosystem, flags, &json!({"run": "fail"}), &settings);
        let status = ecosystem.until_state("Probe", "crash-loop");
        assert_eq!(status["restarts"], 3, "{status}");
        assert_eq!(status["generation"], 4, "{status}");
        assert_eq!(text(&status, "recent"), "3 of 3 in 30 s");
        assert!(
            text(&status["last_end"], "cause").contains("run was asked to fail"),
            "{status}"
        );
        assert_eq!(status["last_end"]["generation"], 4, "{status}");
        let reason = text(&status, "reason");
        assert!(
            reason.contains("run was asked to fail") && reason.contains("until it is restarted"),
            "{reason}"
        );
        every_guest_is_told_why(&ecosystem, &mut guest, "run was asked to fail");
        // A person's restart gives the daemon all its tries again. The command fails if the daemon is down again by
        // then.
        let restarted = ecosystem.cli(&["restart", "Probe"]);
        assert!([0, 1].contains(&restarted.status), "{restarted:?}");
        until(LIMIT, "it has had its tries again", || {
            let status = ecosystem.status("Probe");
            status["state"] == "crash-loop" && status["generation"] == 8
        });
        // Another file or another config does so, too.
        let file = ecosystem.plugin("probe");
        let file = file.to_str().expect("UTF-8");
        let _ = ecosystem
            .cli(&["install", "Probe", file, "--replace", "--config", "{}"])
            .ok();
        assert_eq!(ecosystem.status("Probe")["state"], "ready");
        assert_eq!(guest.ask("echo", &json!([2])), 2);
    }
}

/// Asserts that the daemon still listens, and that old and new guests get the reason why it does not answer.
#[track_caller]
fn every_guest_is_told_why(ecosystem: &Ecosystem, guest: &mut Guest, why: &str) {
    for guest in [guest, &mut ecosystem.guest("Probe")] {
        let fault = guest.ask_in_vain("echo", &json!([1]));
        assert_eq!(fault.code, "unavailable");
        assert!(fault.message.contains(why), "{fault:?}");
    }
}

#[test]
fn status_tells_what_happened_and_what_comes_next() {
    let ecosystem = Ecosystem::start();
    let settings = json!({"on_panic": "restart", "restart": {"backoff_first_ms": 60_000, "backoff_max_ms": 60_000, "served_ms": FOR_EVER_MS}});
    let mut guest = probe(&ecosystem, &[], &json!({}), &settings);
    panic_once(&mut guest);
    let status = ecosystem.until_state("Probe", "backoff");
    assert_eq!(text(&status, "recent"), "1 of 5 in 30 s");
    let told = ecosystem.cli(&["status", "Probe"]).ok().stdout;
    for part in [
        "a handler panicked",
        "1 of 5 in 30 s",
        "next try in",
        "backoff",
    ] {
        assert!(told.contains(part), "{part:?} is missing:\n{told}");
    }
    let _ = ecosystem.cli(&["start", "Probe"]).ok();
    let status = ecosystem.status("Probe");
    assert_eq!(
        (&status["state"], &status["generation"]),
        (&json!("ready"), &json!(2)),
        "{status}"
    );
    assert_eq!(guest.ask("echo", &json!([1])), 1);
}

#[test]
fn commands_wait_for_the_next_instance() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let settings = json!({"on_panic": "restart", "restart": {"backoff_first_ms": 600, "served_ms": FOR_EVER_MS}});
        let mut guest = probe(&ecosystem, flags, &json!({}), &settings);
        panic_once(&mut guest);
        let _ = ecosystem.until_state("Probe", "backoff");
        // The tagged reply may come at any time; the others come in order.
        guest.send("echo [1]\necho#two [2]\ndae\n");
        let came: Vec<Message> = (0..3).map(|_| guest.message()).collect();
        let (tagged, ordered): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|one| one.tag.is_some());
        assert_eq!(tagged, [Message::read("echo#two [2]")]);
        assert_eq!(ordered[0], Message::read("echo [1]"));
        let credential = &ordered[1].arguments[0];
        assert_eq!(credential["generation"], 2, "{credential}");
    }
}

#[test]
fn commands_that_waited_too_long_are_told_so_and_the_guest_stays() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"instance_wait_ms": 300}));
    ecosystem.wake(&[]);
    let settings = json!({"on_panic": "restart", "restart": {"backoff_first_ms": NO_RETRY, "backoff_max_ms": NO_RETRY, "served_ms": FOR_EVER_MS}});
    let mut guest = probe(&ecosystem, &[], &json!({}), &settings);
    panic_once(&mut guest);
    let _ = ecosystem.until_state("Probe", "backoff");
    for _ in 0..2 {
        let start = Instant::now();
        guest.send("echo [1]\necho#two [2]\n");
        for tag in [None, Some("two")] {
            let message = guest.message();
            assert_eq!(message.tag.as_deref(), tag);
            let fault = message.result().expect_err("there is no instance");
            assert_eq!(
                (fault.code.as_str(), fault.command.as_str()),
                ("unavailable", "echo")
            );
        }
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_millis(290),
            "they waited {waited:?} only"
        );
    }
    let _ = ecosystem.cli(&["start", "Probe"]).ok();
    assert_eq!(guest.ask("echo", &json!([3])), 3);
}

#[test]
fn the_policy_decides_what_follows_the_end_of_the_background_work() {
    // Each row: the end, the policy, the final state, and the number of instances by then.
    let table = [
        ("return", "always", "crash-loop", 3),
        ("return", "on-failure", "ready", 1),
        ("return", "never", "ready", 1),
        ("fail", "always", "crash-loop", 3),
        ("fail", "on-failure", "crash-loop", 3),
        ("fail", "never", "finished", 1),
        ("panic", "on-failure", "crash-loop", 3),
        ("panic", "never", "finished", 1),
    ];
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        for (end, policy, state, generation) in table {
            let case = format!("{end}, {policy}, {flags:?}");
            let settings =
                json!({"restart": {"restart": policy, "burst_max": 2, "backoff_first_ms": 1}});
            let mut guest = probe(&ecosystem, flags, &json!({"run": end}), &settings);
            until(LIMIT, &case, || {
                let status = ecosystem.status("Probe");
                // A daemon that should keep running gets some time to prove it.
                let is_settled = state != "ready" || status["uptime_ms"].as_u64() > Some(200);
                status["state"] == state && is_settled
            });
            let status = ecosystem.status("Probe");
            assert_eq!(status["generation"], generation, "{case}: {status}");
            match state {
                "ready" => assert_eq!(guest.ask("echo", &json!([1])), 1, "{case}"),
                _ => assert_eq!(
                    guest.ask_in_vain("echo", &json!([1])).code,
                    "unavailable",
                    "{case}"
                ),
            }
            let _ = ecosystem.cli(&["uninstall", "Probe"]).ok();
        }
    }
}

#[test]
fn a_daemon_without_background_work_is_not_restarted_for_want_of_it() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let settings = json!({"restart": {"restart": "always"}}).to_string();
        let flags = [flags, &["--settings", &settings]].concat();
        let mut guest = ecosystem.install("Sample", "sample", &flags);
        until(LIMIT, "it has lived for a while", || {
            ecosystem.status("Sample")["uptime_ms"].as_u64() > Some(200)
        });
        assert_eq!(guest.ask("add", &json!([1, 2])), 3);
        let status = ecosystem.status("Sample");
        assert_eq!(
            (&status["state"], &status["generation"]),
            (&json!("ready"), &json!(1)),
            "{status}"
        );
    }
}

/// Makes a handler panic, and asserts that the answer is `crashed`.
#[track_caller]
fn panic_once(guest: &mut Guest) {
    let fault = guest.ask_in_vain("panic", &json!([]));
    assert_eq!(fault.code, "crashed", "{fault:?}");
}

#[test]
fn panics_in_a_row_end_the_instance_and_an_answered_command_between_them_starts_the_count_again() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        for _ in 0..2 {
            (0..9).for_each(|_| panic_once(&mut guest));
            assert_eq!(guest.ask("echo", &json!([1])), 1);
        }
        assert_eq!(ecosystem.status("Probe")["generation"], 1);
        (0..10).for_each(|_| panic_once(&mut guest));
        until(LIMIT, "ten were too many", || {
            let status = ecosystem.status("Probe");
            status["generation"] == 2 && status["state"] == "ready"
        });
        let status = ecosystem.status("Probe");
        assert!(
            text(&status["last_end"], "cause").contains("panicked 10 times"),
            "{status}"
        );
        assert_eq!(guest.ask("echo", &json!([2])), 2);
    }
}

#[test]
fn where_a_panic_is_to_restart_one_is_enough() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = probe(
            &ecosystem,
            flags,
            &json!({}),
            &json!({"on_panic": "restart"}),
        );
        panic_once(&mut guest);
        until(LIMIT, "the next instance answers", || {
            let status = ecosystem.status("Probe");
            status["generation"] == 2 && status["state"] == "ready"
        });
        assert_eq!(guest.ask("echo", &json!([1])), 1);
    }
}
