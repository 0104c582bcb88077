//! Time limits on commands and starts, handlers that hold a thread, and the reports about them.

use dae_tests::{Ecosystem, Guest, LIMIT, process, until};
use serde_json::json;

use super::{FOR_EVER_MS, MODES, probe, process_of, text};

#[test]
fn a_command_that_takes_too_long_is_cancelled() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::asleep();
        ecosystem.configure(&json!({"command_ms": 200}));
        ecosystem.wake(&[]);
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        guest.send(format!("slow [{FOR_EVER_MS}]\nslow [1]\n"));
        let fault = guest.message().result().expect_err("it takes too long");
        assert_eq!(
            (fault.code.as_str(), fault.command.as_str()),
            ("timeout", "slow"),
            "{fault:?}"
        );
        guest.expect("slow [1]");
        assert_eq!(ecosystem.status("Probe")["generation"], 1);
    }
}

/// Asserts that the next message is an error with this code about that command. Returns the error's text.
#[track_caller]
fn next_error(guest: &mut Guest, code: &str, command: &str) -> String {
    let fault = guest.message().result().expect_err("it is given up");
    assert_eq!(
        (&*fault.code, &*fault.command),
        (code, command),
        "{fault:?}"
    );
    fault.message
}

#[test]
fn a_command_may_have_a_shorter_limit_of_its_own() {
    for flags in MODES {
        let ecosystem = Ecosystem::start_configured(&json!({"command_ms": FOR_EVER_MS}));
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        for (command, expected) in [
            ("hold_limited", "goes on"),
            ("block_limited", "goes on"),
            ("slow_limited", "was cancelled"),
        ] {
            guest.send(format!("{command} [2000]\n{command} [1]\n"));
            let told = next_error(&mut guest, "timeout", command);
            let limit = told.contains("300ms") && told.contains(expected);
            assert!(limit, "{flags:?}: {told}");
            guest.expect(&format!("{command} [1]"));
        }
        // Another daemon or a program that calls it has the same limit.
        let output = ecosystem.cli(&["call", "Probe", "slow_limited", "2000"]);
        assert!(output.code(1).says(&["timeout"]), "{flags:?}");
        let mut peer = ecosystem.install("Peer", "peer", &[]);
        for command in ["hold_limited", "slow_limited"] {
            let fault = peer.ask_in_vain("call", &json!(["Probe", command, 2000]));
            assert!(
                fault.message.starts_with("timeout: "),
                "{flags:?}: {fault:?}"
            );
        }
        assert_eq!(ecosystem.status("Probe")["generation"], 1);
    }
}

#[test]
fn a_command_may_have_a_longer_limit_of_its_own() {
    for flags in MODES {
        let ecosystem = Ecosystem::start_configured(&json!({"command_ms": 200}));
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        guest.send(format!("slow_patient [600]\nslow [{FOR_EVER_MS}]\n"));
        guest.expect("slow_patient [600]");
        next_error(&mut guest, "timeout", "slow");
        let answer_ms = ecosystem.status("Probe")["answer_ms"].as_u64();
        assert!(answer_ms.is_some_and(|ms| ms > 60_000), "{answer_ms:?}");
        let help = guest.ask("help", &json!([]));
        let shown = ["slow_patient", "slow"].map(|name| help[name]["timeout_ms"].clone());
        assert_eq!(shown, [json!(60_000), json!(null)], "{help}");
    }
}

#[test]
fn a_limit_runs_from_a_commands_own_start() {
    const SLOW: usize = 12;
    const COUNTED: usize = 30;
    for flags in MODES {
        let ecosystem = Ecosystem::start_configured(&json!({"command_ms": 600}));
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        let mut other = ecosystem.guest("Probe");
        guest.send("hold [100]\n".repeat(SLOW) + &"allocate [0]\n".repeat(COUNTED));
        // A single command, and one of a kind that is never part of a batch.
        other.send("slow [1]\n");
        for _ in 0..SLOW {
            guest.expect("hold [100]");
        }
        for count in 1..=COUNTED {
            guest.expect(&format!("allocate [{count}]"));
        }
        other.expect("slow [1]");
    }
}

#[test]
fn what_waited_behind_a_command_past_its_limit_never_runs() {
    const BEHIND: usize = 20;
    let ecosystem =
        Ecosystem::start_configured(&json!({"command_ms": 300, "defaults": {"health_ms": 0}}));
    let mut guest = probe(&ecosystem, &["--isolate"], &json!({}), &json!({}));
    let mut other = ecosystem.guest("Probe");
    guest.send("echo [1]\nhold [2000]\n".to_owned() + &"allocate [0]\n".repeat(BEHIND));
    guest.expect("echo [1]");
    other.send("allocate [0]\nslow [1]\n");
    let told = next_error(&mut guest, "timeout", "hold");
    assert!(told.contains("ran past its limit and goes on"), "{told}");
    for _ in 0..BEHIND {
        let told = next_error(&mut guest, "timeout", "allocate");
        assert!(
            told.contains("had not begun") && told.contains("never runs"),
            "{told}"
        );
    }
    for command in ["allocate", "slow"] {
        let told = next_error(&mut other, "timeout", command);
        assert!(told.contains("never runs"), "{told}");
    }
    // Once `hold` has ended, the daemon counts the first command that was not given up.
    let mut counted = None;
    until(LIMIT, "the daemon has its thread back", || {
        counted = guest.try_ask("allocate", &json!([0])).ok();
        counted.is_some()
    });
    assert_eq!(counted, Some(json!(1)));
    assert_eq!(ecosystem.status("Probe")["generation"], 1);
}

#[test]
fn a_stop_lets_nothing_begin_that_it_has_cancelled() {
    let ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 600}));
    let mut guest = probe(&ecosystem, &["--isolate"], &json!({}), &json!({}));
    guest.send("echo [1]\n");
    guest.expect("echo [1]");
    // This is longer than one grace, after which commands are given up, and shorter than the two graces of a stop.
    guest.send("hold [900]\nprint [\"behind\"]\nprint#a [\"behind\"]\necho#b [1]\n");
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    let told_held = next_error(&mut guest, "unavailable", "hold");
    assert!(
        told_held.contains("may have been carried out"),
        "{told_held}"
    );
    for command in ["print", "print", "echo"] {
        let told = next_error(&mut guest, "unavailable", command);
        assert!(told.contains("never runs"), "{told}");
    }
    assert_eq!(told(&ecosystem, "behind"), 0);
}

#[test]
fn who_is_given_up_is_told_whether_the_command_goes_on() {
    for flags in MODES {
        let ecosystem = Ecosystem::start_configured(&json!({"command_ms": 200}));
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        for (command, expected) in [
            ("slow", "ran past its limit and was cancelled"),
            ("block", "ran past its limit and goes on"),
        ] {
            guest.send(format!("{command} [3000]\n"));
            let told = next_error(&mut guest, "timeout", command);
            assert!(told.contains(expected), "{flags:?}: {told}");
        }
    }
}

#[test]
fn a_start_that_takes_too_long_fails_and_leaves_no_process() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::asleep();
        ecosystem.configure(&json!({"start_ms": 300}));
        ecosystem.wake(&[]);
        let file = ecosystem.plugin("probe");
        let config = json!({"start_ms": FOR_EVER_MS}).to_string();
        let arguments = [
            "install",
            "Probe",
            file.to_str().expect("UTF-8"),
            "--config",
            &config,
        ];
        let output = ecosystem.cli(&[&arguments, flags].concat()).code(1);
        assert!(output.says(&["start took longer than 300ms"]), "{output:?}");
        until(LIMIT, "its process is gone", || {
            process::daemons_of(ecosystem.pid()).is_empty()
        });
        assert_eq!(ecosystem.names(), ["Dae"]);
    }
}

#[test]
fn a_subprocess_that_does_not_answer_is_killed_and_replaced() {
    let ecosystem = Ecosystem::start();
    let mut witness = ecosystem.install("Sample", "sample", &[]);
    let settings = json!({"health_ms": 100, "health_misses_max": 3});
    let mut guest = probe(&ecosystem, &["--isolate"], &json!({}), &settings);
    let mut other = ecosystem.guest("Probe");
    let stuck = process_of(&ecosystem, "Probe");
    guest.send(format!("hold [{FOR_EVER_MS}]\n"));
    witness.expect_alive();
    let fault = guest.message().result().expect_err("its process is killed");
    assert_eq!(
        (fault.code.as_str(), fault.command.as_str()),
        ("crashed", "hold"),
        "{fault:?}"
    );
    for guest in [&mut guest, &mut other] {
        assert_eq!(guest.ask("echo", &json!([1])), 1);
    }
    let status = ecosystem.status("Probe");
    assert_eq!(
        (&status["generation"], &status["state"]),
        (&json!(2), &json!("ready")),
        "{status}"
    );
    assert!(
        text(&status["last_end"], "cause").contains("did not answer 3 health checks"),
        "{status}"
    );
    assert_ne!(process_of(&ecosystem, "Probe"), stuck);
    let told = ecosystem.logged("Probe");
    assert!(
        told.iter().any(|line| line.starts_with("degraded")),
        "{told:?}"
    );
}

#[test]
fn a_handler_stuck_in_process_is_told_of_with_its_cure_and_harms_nobody() {
    let ecosystem = Ecosystem::start();
    let mut witness = ecosystem.install("Sample", "sample", &[]);
    let settings = json!({"health_ms": 100, "health_misses_max": 3});
    let mut guest = probe(&ecosystem, &[], &json!({}), &settings);
    let mut other = ecosystem.guest("Probe");
    guest.send("hold [3000]\n");
    let status = ecosystem.until_state("Probe", "degraded");
    let reason = text(&status, "reason");
    assert!(
        reason.contains("hold") && reason.contains("isolate Probe"),
        "{reason}"
    );
    for _ in 0..100 {
        assert_eq!(witness.ask("add", &json!([1, 2])), 3);
        assert_eq!(other.ask("echo", &json!([1])), 1);
    }
    guest.expect("hold [3000]");
    assert_eq!(ecosystem.until_state("Probe", "ready")["generation"], 1);
}

#[test]
fn a_slow_handler_is_named_once() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = probe(&ecosystem, flags, &json!({}), &json!({}));
        for _ in 0..3 {
            assert_eq!(guest.ask("hold", &json!([150])), 150);
        }
        let slow = "the command hold held a host thread for more than 100ms";
        ecosystem.until_logged("Probe", slow);
        assert_eq!(told(&ecosystem, slow), 1);
    }
}

#[test]
fn a_command_that_may_take_long_is_not_blamed_for_it() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let settings = json!({"health_ms": 100, "health_misses_max": 2});
        let mut guest = probe(&ecosystem, flags, &json!({}), &settings);
        for command in ["block", "slow"] {
            assert_eq!(guest.ask(command, &json!([1000])), 1000);
        }
        for blame in ["held a host thread", "degraded"] {
            assert_eq!(
                told(&ecosystem, blame),
                0,
                "{:?}",
                ecosystem.logged("Probe")
            );
        }
        assert_eq!(ecosystem.status("Probe")["generation"], 1);
    }
}

/// Returns the number of messages in its log that contain that text.
fn told(ecosystem: &Ecosystem, part: &str) -> usize {
    let logged = ecosystem.logged("Probe");
    logged.iter().filter(|line| line.contains(part)).count()
}
