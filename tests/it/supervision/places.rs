//! The mode and the start order of a daemon: moves to a subprocess and back, and starts after other daemons.

use dae_tests::{Ecosystem, LIMIT, Load, process, until};
use serde_json::json;

use super::{probe, text};

/// The number of moves under load.
const MOVES: usize = 10;

#[test]
fn a_daemon_moves_to_a_process_and_back_under_load() {
    let ecosystem = Ecosystem::start();
    let mut guest = probe(&ecosystem, &[], &json!({}), &json!({}));
    let port = ecosystem.port_of("Probe");
    let load = Load::on(port);
    for turn in 0..MOVES {
        let (command, mode) = match turn % 2 {
            0 => ("isolate", "subprocess"),
            _ => ("embed", "in-process"),
        };
        let _ = ecosystem.cli(&[command, "Probe"]).ok();
        let credential = guest.ask("dae", &json!([]));
        assert_eq!(credential["mode"], mode, "{credential}");
        assert_eq!(credential["generation"], turn + 2, "{credential}");
        let is_apart = credential["pid"] != ecosystem.pid();
        assert_eq!(is_apart, mode == "subprocess", "{credential}");
    }
    let seen = load.end();
    assert_eq!(seen.crashed, 0, "{seen:?}");
    assert_eq!(ecosystem.port_of("Probe"), port);
    assert_eq!(ecosystem.status("Probe")["restarts"], 0);
    until(LIMIT, "no process is left", || {
        process::daemons_of(ecosystem.pid()).is_empty()
    });
}

#[test]
fn a_mode_outlives_the_host() {
    let mut ecosystem = Ecosystem::start();
    let _guest = probe(&ecosystem, &[], &json!({}), &json!({}));
    let _ = ecosystem.cli(&["isolate", "Probe"]).ok();
    ecosystem.stop();
    ecosystem.wake(&[]);
    let status = ecosystem.until_state("Probe", "ready");
    assert_eq!(status["mode"], "subprocess", "{status}");
}

#[test]
fn a_daemon_that_is_moved_while_it_starts_runs_where_it_was_moved_to() {
    let mut ecosystem = Ecosystem::start();
    let slow = json!({"start_ms": 800});
    let _guest = probe(&ecosystem, &[], &slow, &json!({}));
    for (command, mode) in [("isolate", "subprocess"), ("embed", "in-process")] {
        ecosystem.stop();
        ecosystem.wake(&[]);
        let _ = ecosystem.until_state("Probe", "starting");
        let _ = ecosystem.cli(&[command, "Probe"]).ok();
        let status = ecosystem.until_state("Probe", "ready");
        assert_eq!(status["mode"], mode, "{status}");
        let credential = ecosystem.guest("Probe").ask("dae", &json!([]));
        let is_apart = credential["pid"] != ecosystem.pid();
        assert_eq!(is_apart, mode == "subprocess", "{credential}");
    }
}

#[test]
fn a_daemon_starts_after_those_it_names() {
    let mut ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("probe");
    let file = file.to_str().expect("UTF-8");
    let config = json!({"start_ms": 400}).to_string();
    let _ = ecosystem
        .cli(&["install", "Late", file, "--config", &config])
        .ok();
    let settings = json!({"after": ["Late"]}).to_string();
    let _ = ecosystem
        .cli(&["install", "Early", file, "--settings", &settings])
        .ok();
    ecosystem.stop();
    ecosystem.wake(&[]);
    let answers = |name: &str| {
        let _ = ecosystem.until_state(name, "ready");
        let records = ecosystem.cli(&["logs", name, "--json"]).ok().json_lines();
        let mut answers = records
            .iter()
            .filter(|record| text(record, "message").ends_with(" answers"));
        text(answers.next_back().expect("it answers"), "time").to_owned()
    };
    // RFC 3339 in UTC: the texts sort as the times do, except where trailing zeros are left out.
    let (late, early) = (answers("Late"), answers("Early"));
    assert!(late <= early, "Late answered at {late}, Early at {early}");
}

#[test]
fn a_circle_of_daemons_that_wait_for_each_other_is_refused() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("probe");
    let install = |name: &str, after: &str, flags: &[&str]| {
        let settings = json!({"after": [after]}).to_string();
        let arguments = [
            "install",
            name,
            file.to_str().expect("UTF-8"),
            "--settings",
            &settings,
        ];
        ecosystem.cli(&[&arguments, flags].concat())
    };
    let alone = install("A", "A", &[]).code(1);
    assert!(alone.says(&["circle"]), "{alone:?}");
    let _ = install("A", "B", &[]).ok();
    let _ = install("B", "C", &[]).ok();
    let closed = install("C", "A", &[]).code(1);
    assert!(closed.says(&["C after A after B after C"]), "{closed:?}");
    assert_eq!(ecosystem.names(), ["Dae", "A", "B"]);
}
