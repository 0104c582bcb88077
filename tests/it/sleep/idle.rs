//! Falling asleep: when it happens, when not, and that no command and no state is lost by it.

use std::thread;
use std::time::{Duration, Instant};

use dae_tests::process::is_gone;
use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::{Value, json};

use super::{MODES, NAME, events, expect_state, install, until_event};

/// The shortest time without a command.
const IDLE_S: u64 = 1;

fn idle() -> Value {
    json!({"start": "on-demand", "idle_s": IDLE_S})
}

#[test]
fn it_falls_asleep_when_nobody_asks_and_keeps_its_state_and_guests() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, (NAME, "keeper"), flags, &idle());
        let began = Instant::now();
        assert_eq!(guest.ask("add", &json!([5])), 5);
        let pid = ecosystem.status(NAME)["pid"].as_u64().expect("it runs");
        let status = ecosystem.until_state(NAME, "asleep");
        assert!(began.elapsed() >= Duration::from_secs(IDLE_S));
        assert_eq!(
            (&status["pid"], &status["guests"]),
            (&Value::Null, &json!(1))
        );
        if !flags.is_empty() {
            let pid = u32::try_from(pid).expect("a pid");
            until(LIMIT, "its process is gone", || is_gone(pid));
        }
        // Questions that the host answers wake it no more than at first.
        assert_eq!(guest.ask("options", &json!([]))["add"], 1);
        assert_eq!(guest.ask("dae", &json!([]))["generation"], 1);
        expect_state(&ecosystem, NAME, "asleep", 1);
        let state = ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(state["data"]["total"], 5);
        assert_eq!(guest.ask("total", &json!([])), 5);
        expect_state(&ecosystem, NAME, "ready", 2);
        let asleep = until_event(&ecosystem, NAME, "asleep");
        assert_eq!(asleep["rule"], json!({"kind": "idle", "idle_s": IDLE_S}));
        let told = ecosystem.cli(&["explain", NAME]).ok().stdout;
        assert!(told.contains("no command came for 1 s (idle_s)"), "{told}");
    }
}

#[test]
fn what_the_host_answers_keeps_nobody_awake() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, (NAME, "keeper"), flags, &idle());
        assert_eq!(guest.ask("add", &json!([5])), 5);
        until(LIMIT, "it falls asleep", || {
            let _ = guest.ask("dae", &json!([]));
            let _ = guest.ask("options", &json!([]));
            ecosystem.status(NAME)["state"] == "asleep"
        });
    }
}

#[test]
fn a_command_that_comes_while_it_falls_asleep_is_answered_by_the_next_instance() {
    // With a slow `save`, it takes 300 ms to fall asleep. Some of these pauses end within that time.
    let pauses: Vec<u64> = (0..10).map(|step| 950 + 60 * step).collect();
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        thread::scope(|scope| {
            for pause_ms in &pauses {
                let (ecosystem, name) = (&ecosystem, format!("{NAME}{pause_ms}"));
                scope.spawn(move || {
                    let mut guest = install(ecosystem, (&name, "keeper"), flags, &idle());
                    for round in 0..4 {
                        guest.ask("behave", &json!([true, false, 0]));
                        thread::sleep(Duration::from_millis(*pause_ms));
                        let before = 2 * round;
                        guest.send("add [1]\nadd [1]\n");
                        guest.expect(&format!("add [{}]", before + 1));
                        guest.expect(&format!("add [{}]", before + 2));
                    }
                });
            }
        });
        let slept = pauses.iter();
        let slept =
            slept.map(|pause_ms| events(&ecosystem, &format!("{NAME}{pause_ms}"), "woken").len());
        assert!(slept.sum::<usize>() > 2 * pauses.len(), "they have slept");
    }
}

#[test]
fn a_state_that_cannot_be_saved_keeps_it_awake() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = install(&ecosystem, (NAME, "keeper"), flags, &idle());
        assert_eq!(guest.ask("add", &json!([5])), 5);
        guest.ask("behave", &json!([false, true, 0]));
        let unsaved = until_event(&ecosystem, NAME, "state-unsaved");
        assert!(
            unsaved["cause"].to_string().contains("asked to fail"),
            "{unsaved}"
        );
        expect_state(&ecosystem, NAME, "ready", 1);
        assert_eq!(guest.ask("total", &json!([])), 5);
        guest.ask("behave", &json!([false, false, 0]));
        ecosystem.until_state(NAME, "asleep");
        assert_eq!(guest.ask("total", &json!([])), 5);
    }
}

#[test]
fn a_command_that_runs_keeps_it_awake_and_so_does_its_run() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let settings = json!({"idle_s": IDLE_S, "idle_ends_run": true});
        let mut busy = install(&ecosystem, ("Busy", "probe"), flags, &settings);
        let settings = json!({"idle_s": IDLE_S});
        let mut runs = install(&ecosystem, ("Runs", "probe"), flags, &settings);
        let mut sleeps = install(&ecosystem, (NAME, "keeper"), flags, &settings);
        for kind in ["slow", "block"] {
            assert_eq!(runs.ask("echo", &json!([1])), 1);
            assert_eq!(busy.ask(kind, &json!([3_000])), 3_000, "{kind}");
        }
        // It starts at once, and then sleeps like the others.
        assert_eq!(events(&ecosystem, NAME, "woken").len(), 0);
        assert_eq!(sleeps.ask("total", &json!([])), 0);
        expect_state(&ecosystem, NAME, "ready", 2);
        ecosystem.until_state("Busy", "asleep");
        expect_state(&ecosystem, "Runs", "ready", 1);
        assert_eq!(busy.ask("echo", &json!([2])), 2);
    }
}

#[test]
fn one_whose_run_has_returned_may_sleep() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let config = json!({"run": "return"}).to_string();
        let flags = [flags, &["--config", &config]].concat();
        let mut guest = install(&ecosystem, ("Probe", "probe"), &flags, &idle());
        assert_eq!(guest.ask("echo", &json!([1])), 1);
        ecosystem.until_state("Probe", "asleep");
    }
}

#[test]
fn a_handed_off_guest_keeps_no_daemon_awake_once_it_is_quiet() {
    let ecosystem = Ecosystem::start();
    let settings = json!({"idle_s": IDLE_S, "idle_ends_run": true});
    let mut guest = install(&ecosystem, ("Probe", "probe"), &["--isolate"], &settings);
    let lines: String = (0..20_000)
        .map(|number| format!("echo [{number}]\n"))
        .collect();
    for _ in 0..5 {
        super::super::supervision::expect_echoes(&mut guest, &lines);
    }
    ecosystem.until_state("Probe", "asleep");
    super::super::supervision::expect_echoes(&mut guest, "echo [1]\necho [2]\n");
}
