//! `dae-host config`: the values that a daemon runs with, where they come from, and changes of them.

use dae_tests::{Ecosystem, Guest, free_port, program, taken_port};
use serde_json::{Value, json};

use crate::cli::at_terminal;

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

fn probe(flags: &[&str]) -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start_configured(&json!({
        "scan_ms": 0,
        "defaults": {"restart": {"slow_max": 8}},
        "daemons": {"Probe": {"panics_max": 7}},
    }));
    let flags = [flags, &["--settings", r#"{"restart": {"burst_max": 9}}"#]].concat();
    let guest = ecosystem.install("Probe", "probe", &flags);
    (ecosystem, guest)
}

#[track_caller]
fn shown(ecosystem: &Ecosystem) -> Value {
    ecosystem.cli(&["--json", "config", "Probe"]).ok().json()
}

/// Runs `config Probe` with these words, and returns its document.
#[track_caller]
fn configured(ecosystem: &Ecosystem, words: &[&str]) -> Value {
    let words = [&["--json", "config", "Probe"], words].concat();
    ecosystem.cli(&words).ok().json()
}

#[test]
fn each_value_names_its_origin_with_and_without_a_host() {
    let (mut ecosystem, _guest) = probe(&[]);
    for is_running in [true, false] {
        let found = shown(&ecosystem);
        for (path, origin) in [
            ("restart.burst_max", "installed"),
            ("panics_max", "daemons"),
            ("restart.slow_max", "defaults"),
            ("health_ms", "default"),
        ] {
            assert_eq!(found["origins"][path], origin, "{path}: {found}");
        }
        assert_eq!(found["settings"]["restart"]["burst_max"], 9);
        let text = ecosystem.cli(&["config", "Probe"]).ok().stdout;
        for line in [
            "restart.burst_max  9",
            "config.json5: daemons.Probe",
            "config.json5: defaults",
        ] {
            assert!(text.contains(line), "{line:?} is missing:\n{text}");
        }
        assert!(!text.contains("health_ms"), "{text}");
        let all = ecosystem.cli(&["config", "Probe", "--all"]).ok().stdout;
        assert!(all.contains("health_ms"), "{all}");
        if is_running {
            ecosystem.stop();
        }
    }
    let output = ecosystem.cli(&["config", "Prob"]).code(4);
    assert!(output.says(&["did you mean Probe"]), "{output:?}");
    let _ = ecosystem
        .cli(&["config", "Probe", "set", "panics_max=3"])
        .code(7);
    ecosystem.wake(&[]);
}

#[test]
fn a_change_takes_over_like_a_reload_and_stays() {
    for flags in MODES {
        let (mut ecosystem, mut guest) = probe(flags);
        let preview = configured(&ecosystem, &["set", "config.run_ms=5", "--dry-run"]);
        assert_eq!(
            preview["changed"],
            json!([{"path": "config.run_ms", "from": null, "to": 5}])
        );
        assert_eq!(
            (&preview["takes_effect"], &preview["dry_run"]),
            (&json!("reload"), &json!(true))
        );
        assert_eq!(ecosystem.status("Probe")["generation"], 1);
        let done = configured(
            &ecosystem,
            &["set", "config.run_ms=5", "restart.burst_max=3"],
        );
        assert_eq!(done["takes_effect"], "reload", "{done}");
        assert_eq!(ecosystem.status("Probe")["generation"], 2);
        assert_eq!(guest.ask("echo", &json!([1])), 1, "its connection stays");
        let again = configured(&ecosystem, &["set", "restart.burst_max=3"]);
        assert_eq!(again["takes_effect"], "unchanged");
        ecosystem.stop();
        ecosystem.wake(&[]);
        let found = shown(&ecosystem);
        assert_eq!(found["config"]["run_ms"], 5, "{found}");
        assert_eq!(found["settings"]["restart"]["burst_max"], 3);
        let _ = configured(&ecosystem, &["unset", "restart.burst_max", "config.run_ms"]);
        let found = shown(&ecosystem);
        assert_eq!(found["origins"]["restart.burst_max"], "default");
        assert_eq!(found["config"], json!({}));
    }
}

#[test]
fn a_change_with_which_it_does_not_start_is_undone() {
    for flags in MODES {
        let (ecosystem, mut guest) = probe(flags);
        let before = shown(&ecosystem);
        for (words, told) in [
            (&["set", "config.wrong=1"][..], "wrong"),
            (&["set", "restart.burst_maxx=1"], "burst_max"),
            (&["set", "panics_max=0"], "from 1 to 4294967295, got 0"),
            (&["set", "panics_max=-1"], "from 1 to 4294967295, got -1"),
            (&["set", "after=[\"Probe\"]"], "circle"),
        ] {
            let words = [&["config", "Probe"], words].concat();
            let output = ecosystem.cli(&words).code(1);
            assert!(output.says(&[told]), "{output:?}");
        }
        assert_eq!(shown(&ecosystem), before);
        let status = ecosystem.status("Probe");
        assert_eq!(
            (&status["state"], &status["generation"]),
            (&json!("ready"), &json!(1))
        );
        assert_eq!(guest.ask("echo", &json!([1])), 1);
    }
}

#[test]
fn another_port_is_a_restart_and_a_taken_one_changes_nothing() {
    for flags in MODES {
        let (ecosystem, mut guest) = probe(flags);
        let old = ecosystem.status("Probe")["port"].clone();
        let (taken, taken_port) = taken_port();
        let set = format!("port={taken_port}");
        let output = ecosystem.cli(&["config", "Probe", "set", &set]).code(1);
        assert!(output.says(&["pinned, but can't be had"]), "{output:?}");
        assert_eq!(ecosystem.status("Probe")["port"], old);
        assert_eq!(guest.ask("echo", &json!([1])), 1, "nothing was stopped");
        assert_eq!(shown(&ecosystem)["port"], old);
        drop(taken);
        let done = configured(&ecosystem, &["set", &set]);
        assert_eq!(done["takes_effect"], "restart", "{done}");
        assert_eq!(ecosystem.status("Probe")["port"], taken_port);
        assert_eq!(ecosystem.guest("Probe").ask("echo", &json!([2])), 2);
    }
}

#[test]
fn a_daemon_that_does_not_start_at_another_port_goes_back_to_its_own() {
    for flags in MODES {
        let (ecosystem, _guest) = probe(flags);
        let old = ecosystem.status("Probe")["port"].clone();
        let set = format!("port={}", free_port());
        let words = ["config", "Probe", "set", &set, "config.wrong=1"];
        let output = ecosystem.cli(&words).code(1);
        assert!(output.says(&["wrong"]), "{output:?}");
        assert_eq!(ecosystem.status("Probe")["port"], old, "{output:?}");
        assert_eq!(ecosystem.guest("Probe").ask("echo", &json!([1])), 1);
        assert_eq!(shown(&ecosystem)["port"], old);
    }
}

#[test]
fn a_stopped_daemon_has_the_values_from_its_next_start_on() {
    for flags in MODES {
        let (ecosystem, _guest) = probe(flags);
        let _ = ecosystem.cli(&["stop", "Probe"]).ok();
        let mode = match flags.is_empty() {
            true => "mode=subprocess",
            false => "mode=in-process",
        };
        let done = configured(&ecosystem, &["set", mode, "config.run_ms=7"]);
        assert_eq!(done["takes_effect"], "next-start", "{done}");
        let _ = ecosystem.cli(&["start", "Probe"]).ok();
        assert_eq!(
            format!(
                "mode={}",
                ecosystem.status("Probe")["mode"].as_str().expect("a mode")
            ),
            mode
        );
        assert_eq!(shown(&ecosystem)["config"]["run_ms"], 7);
    }
}

#[test]
fn an_editor_gets_the_values_and_a_refused_text_is_kept() {
    let (ecosystem, _guest) = probe(&[]);
    let editor = ecosystem.scratch().join("editor");
    let edit = |expression: &str, rest: &str| {
        let script = format!("#!/bin/sh\nsed -i '{expression}' \"$1\"\n");
        program::write_script(&editor, &script);
        let editor = editor.to_str().expect("UTF-8");
        let words = format!("config Probe --edit {rest}");
        at_terminal(&ecosystem, 100, &[("EDITOR", editor)], &words)
    };
    let Some(output) = edit(r#"s/"burst_max": 9/"burst_max": 4/"#, "--yes") else {
        return;
    };
    assert!(
        output.stdout.contains("settings.restart.burst_max: 9 → 4"),
        "{output:?}"
    );
    assert_eq!(shown(&ecosystem)["settings"]["restart"]["burst_max"], 4);
    let unchanged = edit("", "--yes").expect("a terminal");
    assert!(
        unchanged.stdout.contains("nothing was changed"),
        "{unchanged:?}"
    );
    let refused = edit(r#"s/"burst_max": 4/"burst_maxx": 4/"#, "--yes; true").expect("a terminal");
    let kept = refused
        .stdout
        .lines()
        .find_map(|line| line.split_once("text is kept in "));
    let kept = kept.expect("the file's name").1.trim();
    let text = std::fs::read_to_string(kept).expect("the kept file");
    assert!(text.contains("burst_maxx"), "{text}");
    std::fs::remove_file(kept).expect("it is removed");
    assert_eq!(shown(&ecosystem)["settings"]["restart"]["burst_max"], 4);
    let output = ecosystem.cli(&["config", "Probe", "--edit"]).code(2);
    assert!(output.says(&["needs a terminal"]), "{output:?}");
}

#[test]
fn wrong_words_are_wrong_usage() {
    let (ecosystem, _guest) = probe(&[]);
    for words in [
        &["set"][..],
        &["set", "port=0"],
        &["set", "restart"],
        &["unset", "mode"],
        &["--dry-run"],
        &["--edit", "set", "panics_max=3"],
    ] {
        let _ = ecosystem
            .cli(&[&["config", "Probe"], words].concat())
            .code(2);
    }
}

#[test]
fn a_pinned_port_is_unpinned_and_stays() {
    let (ecosystem, mut guest) = probe(&[]);
    let port = shown(&ecosystem)["port"].clone();
    let pin = format!("port={port}");
    let _ = configured(&ecosystem, &["set", &pin]);
    assert_eq!(shown(&ecosystem)["port_pinned"], true);
    let done = configured(&ecosystem, &["unset", "port"]);
    let change = json!({"path": "port_pinned", "from": true, "to": false});
    assert_eq!(done["changed"], json!([change]));
    let found = shown(&ecosystem);
    assert_eq!(
        (&found["port"], &found["port_pinned"]),
        (&port, &json!(false))
    );
    assert_eq!(guest.ask("echo", &json!([1])), 1);
}

#[test]
fn the_mode_is_one_wherever_it_is_set() {
    let ecosystem = Ecosystem::start_configured(&json!({
        "scan_ms": 0,
        "defaults": {"mode": "subprocess"},
    }));
    let _guest = ecosystem.install("Probe", "probe", &[]);
    let modes = || {
        let found = shown(&ecosystem);
        let mode = |value: &Value| value.as_str().expect("a mode").to_owned();
        (
            mode(&found["mode"]),
            mode(&found["settings"]["mode"]),
            mode(&found["origins"]["mode"]),
        )
    };
    let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(modes(), three("subprocess", "subprocess", "defaults"));
    let _ = configured(&ecosystem, &["set", "settings.mode=in-process"]);
    assert_eq!(modes(), three("in-process", "in-process", "default"));
    assert_eq!(ecosystem.status("Probe")["mode"], "in-process");
    let _ = ecosystem.cli(&["isolate", "Probe"]).ok();
    assert_eq!(modes(), three("subprocess", "subprocess", "defaults"));
}

#[test]
fn no_daemon_gets_a_word_of_the_command_line_as_its_name() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("probe").display().to_string();
    for name in ["set", "unset", "help", "reload"] {
        let output = ecosystem.cli(&["install", name, &file]).code(1);
        assert!(output.says(&["a word of the command line"]), "{output:?}");
    }
}

#[test]
fn the_settings_of_the_host_are_those_of_its_file() {
    let ecosystem = Ecosystem::start();
    for words in [
        &["config", "Dae"][..],
        &["config", "Dae", "--all"],
        &["config", "Dae", "set", "panics_max=3"],
        &["config", "Dae", "unset", "panics_max", "--dry-run"],
        &["config", "Dae", "--edit"],
    ] {
        let output = ecosystem.cli(words).code(1);
        let file = ecosystem.home().join("config.json5").display().to_string();
        for part in ["those of the host", &file, "config reload`", "status Dae`"] {
            assert!(output.stderr.contains(part), "{words:?}: {output:?}");
        }
    }
}

#[test]
fn the_values_fit_a_narrow_terminal() {
    let (ecosystem, _guest) = probe(&[]);
    let long = "x".repeat(200);
    let value = format!("config.run_ms=1 env.LONG={long}");
    let words: Vec<&str> = value.split(' ').collect();
    let _ = configured(&ecosystem, &[&["set"], &words[..]].concat());
    let Some(output) = at_terminal(&ecosystem, 40, &[], "config Probe --all") else {
        return;
    };
    let table = output.stdout.split("NAME").nth(1).expect("a table");
    let table = table.split("\r\n\r\n").next().expect("its rows");
    for line in table.lines() {
        assert!(line.trim_end().chars().count() <= 40, "{line:?}\n{table}");
    }
    let shown = ecosystem.cli(&["config", "Probe"]).ok().stdout;
    assert!(shown.contains("xxx…") && !shown.contains(&long), "{shown}");
    let whole = ecosystem.cli(&["--json", "config", "Probe"]).ok().json();
    assert_eq!(whole["settings"]["env"]["LONG"], long);
}

#[test]
fn a_port_that_was_not_to_be_had_is_forgotten_with_its_pin() {
    let (ecosystem, _guest) = probe(&[]);
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    let (other, taken) = taken_port();
    let _ = configured(&ecosystem, &["set", &format!("port={taken}")]);
    let _ = ecosystem.cli(&["start", "Probe"]).code(1);
    let _ = configured(&ecosystem, &["unset", "port"]);
    let port = ecosystem.until_state("Probe", "ready")["port"].clone();
    assert_ne!(port, taken);
    assert_eq!(shown(&ecosystem)["port"], port);
    drop(other);
    let done = configured(&ecosystem, &["set", "panics_max=3"]);
    assert_eq!(done["takes_effect"], "reload", "{done}");
    assert_eq!(ecosystem.status("Probe")["port"], port);
}
