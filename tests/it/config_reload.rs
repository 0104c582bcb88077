//! `dae-host config reload`: a changed config.json5 is taken up while the host runs.

use std::fs;

use dae_tests::{Ecosystem, Guest};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

fn with_probe(flags: &[&str]) -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start();
    let guest = ecosystem.install("Probe", "probe", flags);
    (ecosystem, guest)
}

#[track_caller]
fn reloaded(ecosystem: &Ecosystem) -> Value {
    ecosystem.cli(&["--json", "config", "reload"]).ok().json()
}

#[test]
fn what_needs_no_restart_is_taken_up_and_the_rest_is_named() {
    for flags in MODES {
        let (mut ecosystem, mut guest) = with_probe(flags);
        assert_eq!(reloaded(&ecosystem)["changed"], json!([]));
        ecosystem.configure(&json!({
            "start_ms": 9000,
            "command_ms": 7000,
            "daemons": {"Probe": {"panics_max": 3}},
        }));
        let done = reloaded(&ecosystem);
        let changed = json!([
            {"path": "daemons.Probe.panics_max", "from": null, "to": 3},
            {"path": "start_ms", "from": 10000, "to": 9000},
        ]);
        let waits = json!([{"path": "command_ms", "from": 30000, "to": 7000}]);
        let told = (&done["changed"], &done["needs_restart"]);
        assert_eq!(told, (&changed, &waits), "{done}");
        let of_probe = json!([{"path": "settings.panics_max", "from": 10, "to": 3}]);
        let taken_up = json!([{"name": "Probe", "changed": of_probe}]);
        assert_eq!(done["daemons"], taken_up, "{done}");
        assert_eq!(ecosystem.status("Probe")["generation"], 2);
        assert_eq!(guest.ask("echo", &json!([1])), 1, "its connection stays");
        let again = ecosystem.cli(&["config", "reload"]).ok().stdout;
        assert!(again.contains("command_ms: 30000 → 7000"), "{again}");
        assert_eq!(ecosystem.status("Probe")["generation"], 2);
        ecosystem.stop();
        ecosystem.wake(&[]);
        let after = reloaded(&ecosystem);
        assert_eq!(after["needs_restart"], json!([]));
        let _ = ecosystem.cli(&["config", "reload"]).ok();
    }
}

#[test]
fn a_file_with_a_fault_changes_nothing_and_is_named_with_its_line() {
    let (mut ecosystem, _guest) = with_probe(&[]);
    let file = ecosystem.home().join("config.json5");
    for (text, told) in [
        ("{\n start_ms: 9000,\n panics_max: 3,\n}", "line 3"),
        (
            "{\n start_ms: 9000,\n daemons: {Probe: {\n  panics_max: 0}}}",
            "line 4",
        ),
        ("{\n start_ms: 9000,\n", "line"),
        ("{daemons: {Probe: {after: ['Probe']}}}", "circle"),
    ] {
        fs::write(&file, text).expect("a home of our own");
        let output = ecosystem.cli(&["config", "reload"]).code(1);
        assert!(output.says(&[told]), "{text}: {output:?}");
        assert!(output.says(&["nothing was changed"]), "{output:?}");
        let is_named = output.stderr.contains("config.json5") || told == "circle";
        assert!(is_named, "{output:?}");
    }
    assert_eq!(ecosystem.status("Probe")["generation"], 1);
    ecosystem.configure(&json!({}));
    assert_eq!(
        reloaded(&ecosystem)["changed"],
        json!([]),
        "nothing was taken up"
    );
    ecosystem.stop();
    let _ = ecosystem.cli(&["config", "reload"]).code(7);
}

#[test]
fn a_daemon_that_does_not_start_by_its_settings_takes_all_back() {
    let ecosystem = Ecosystem::start();
    let _one = ecosystem.install("One", "probe", &[]);
    let mut two = ecosystem.install("Two", "probe", &["--isolate"]);
    ecosystem.configure(&json!({
        "defaults": {"panics_max": 3},
        "daemons": {"Two": {"bounds": {"memory_bytes": 1}}},
    }));
    let output = ecosystem.cli(&["config", "reload"]).code(1);
    assert!(
        output.says(&["Two"]) && output.says(&["nothing was changed"]),
        "{output:?}"
    );
    assert_eq!(two.ask("echo", &json!([1])), 1);
    for name in ["One", "Two"] {
        let config = ecosystem.cli(&["--json", "config", name]).ok().json();
        assert_eq!(config["settings"]["panics_max"], 10, "{config}");
        ecosystem.until_state(name, "ready");
    }
}
