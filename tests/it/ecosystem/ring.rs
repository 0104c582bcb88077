//! Fifty daemons in a ring, each of which calls the next: every lap is answered, through a reload and a kill.

use std::time::Duration;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const DAEMONS: u64 = 50;
/// The distance between subprocesses in the ring, so that a lap crosses every kind of boundary.
const APART_EVERY: u64 = 10;
const LAPS: u64 = 10_000;
/// The number of laps under way at a time.
const ABREAST: u64 = 8;
/// The longest lap, which may wait for a daemon to start again.
const LAP_MAX: Duration = Duration::from_secs(30);

fn name(number: u64) -> String {
    format!("R{}", number % DAEMONS)
}

fn ring() -> Ecosystem {
    let host = Ecosystem::start();
    for number in 0..DAEMONS {
        let config = json!({"next": name(number + 1)}).to_string();
        let mut flags = vec!["--config", &config];
        if number % APART_EVERY == 1 {
            flags.extend([
                "--isolate",
                "--settings",
                r#"{"restart":{"backoff_first_ms":1}}"#,
            ]);
        }
        let _ = host.install(&name(number), "relay", &flags);
    }
    host
}

/// Returns a lap's result: the number of daemons passed, or the text of its failure.
fn lap(guest: &mut Guest) -> Result<Value, String> {
    let line = guest.line_within(LAP_MAX).expect("an answer");
    let message = dae_tests::Message::read(&line);
    message.result().map_err(|fault| fault.message)
}

#[test]
fn every_lap_is_answered_though_one_is_reloaded_and_one_is_killed() {
    let host = ring();
    let mut guest = host.guest("R0");
    let send = |guest: &mut Guest| guest.send(format!("pass [{DAEMONS}]\n"));
    (0..ABREAST).for_each(|_| send(&mut guest));
    let mut failures = Vec::new();
    for done in 1..=LAPS {
        match done {
            _ if done == LAPS / 3 => {
                let _ = host.cli(&["reload", "R25"]).ok();
                assert!(failures.is_empty(), "a reload fails nobody: {failures:?}");
            }
            _ if done == 2 * LAPS / 3 => {
                let pid = host.status("R31")["pid"].as_u64().expect("a process");
                let pid = u32::try_from(pid).expect("a process's number");
                process::signal(pid, Signal::KILL);
            }
            _ => {}
        }
        match lap(&mut guest) {
            Ok(passed) => assert_eq!(passed, DAEMONS, "lap {done}"),
            Err(text) => failures.push(text),
        }
        if done + ABREAST <= LAPS {
            send(&mut guest);
        }
    }
    let was_killed = |text: &String| text.contains("killed by signal 9");
    assert!(failures.iter().all(was_killed), "{failures:?}");
    assert!(
        failures.len() as u64 <= ABREAST,
        "only what was in its hands failed: {failures:?}"
    );
    assert_eq!(host.status("R25")["generation"], 2);
    until(LIMIT, "the killed one is there again", || {
        host.status("R31")["generation"] == 2 && host.status("R31")["state"] == "ready"
    });
}
