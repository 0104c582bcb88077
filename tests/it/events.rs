//! `dae-host events` and `explain`: the history of a home, with a host, without one, and over its restarts.

use std::collections::HashSet;

use dae_tests::{Ecosystem, Guest, LIMIT, until, until_some};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// A time that is longer than any test (ms).
const FOR_EVER_MS: u64 = 3_600_000;

/// The states of a daemon that have an event of their own, by the event.
const STATES: [(&str, &str); 9] = [
    ("started", "starting"),
    ("ready", "ready"),
    ("degraded", "degraded"),
    ("restart-planned", "backoff"),
    ("crash-loop", "crash-loop"),
    ("failed", "failed"),
    ("finished", "finished"),
    ("stopped", "stopped"),
    ("asleep", "asleep"),
];

/// Returns the kept events of these daemons.
#[track_caller]
fn kept(ecosystem: &Ecosystem, names: &[&str]) -> Vec<Value> {
    let words = [&["events", "--json", "-n", "10000"], names].concat();
    ecosystem.cli(&words).ok().json_lines()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().filter_map(|event| event["event"].as_str());
    kinds.collect()
}

/// Waits for an event of that kind, and returns it.
#[track_caller]
fn until_event(ecosystem: &Ecosystem, name: &str, kind: &str) -> Value {
    until_some(LIMIT, kind, || {
        let mut events = kept(ecosystem, &[name]);
        events.retain(|event| event["event"] == kind);
        events.pop()
    })
}

#[track_caller]
fn install(ecosystem: &Ecosystem, flags: &[&str], config: &Value, settings: &Value) -> Guest {
    let (config, settings) = (config.to_string(), settings.to_string());
    let flags = [flags, &["--config", &config, "--settings", &settings]].concat();
    ecosystem.install("Probe", "probe", &flags)
}

/// Has the instance panic, and waits until another has taken its place or none will.
#[track_caller]
fn panic_and_wait(ecosystem: &Ecosystem, guest: &mut Guest) {
    let before = ecosystem.status("Probe")["generation"].clone();
    let _ = guest.ask_in_vain("panic", &json!([]));
    until(LIMIT, "the instance is gone", || {
        let status = ecosystem.status("Probe");
        let is_replaced = status["state"] == "ready" && status["generation"] != before;
        is_replaced || status["state"] == "crash-loop"
    });
}

/// Returns the states that the supervisor logged, each once in a row. A reload has an event for its outcome.
fn logged_states(ecosystem: &Ecosystem) -> Vec<String> {
    let states = || STATES.iter().map(|(_, state)| *state);
    let state = |text: &String| {
        let word = text.split(':').next()?;
        let is_whole = text.len() == word.len() || text[word.len()..].starts_with(": ");
        states().find(|state| is_whole && *state == word)
    };
    let mut found: Vec<String> = Vec::new();
    for text in ecosystem.logged("Probe") {
        let state = state(&text).map(str::to_owned);
        found.extend(state.filter(|state| found.last() != Some(state)));
    }
    found
}

/// Returns the states that the kept events show, each once in a row.
fn event_states(ecosystem: &Ecosystem) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for kind in kinds(&kept(ecosystem, &["Probe"])) {
        let state = STATES.iter().find(|(event, _)| *event == kind);
        let state = state.map(|(_, state)| (*state).to_owned());
        found.extend(state.filter(|state| found.last() != Some(state)));
    }
    found
}

/// Makes a file of the same plugin with other content: a byte behind its end that nobody reads.
fn other_content(ecosystem: &Ecosystem, file: &str) -> String {
    let mut bytes = std::fs::read(file).expect("the plugin");
    bytes.push(0);
    let other = ecosystem.scratch().join("other.so");
    std::fs::write(&other, bytes).expect("a file");
    other.display().to_string()
}

/// Leads the daemon through all states that it can be led through.
fn lead_a_life(ecosystem: &Ecosystem, guest: &mut Guest) {
    for _ in 0..3 {
        panic_and_wait(ecosystem, guest);
    }
    let _ = ecosystem.until_state("Probe", "crash-loop");
    let file = ecosystem.plugin("probe").display().to_string();
    let other = other_content(ecosystem, &file);
    let with = |file: &str, config: &str, settings: &str, code| {
        let words = ["install", "Probe", file, "--replace", "--config", config];
        let words = [&words[..], &["--settings", settings]].concat();
        let _ = ecosystem.cli(&words).code(code);
    };
    let replace = |config: &str, settings: &str, code| with(&file, config, settings, code);
    const NEVER: &str = r#"{"restart": {"restart": "never"}, "rollback_window_ms": 0}"#;
    const WRONG: &str = r#"{"wrong": 1}"#;
    // It stays in its crash loop, for the reason of before.
    with(&other, WRONG, "{}", 1);
    for command in ["restart", "reload", "stop", "start"] {
        let _ = ecosystem.cli(&[command, "Probe"]).ok();
    }
    replace(WRONG, "{}", 1);
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    replace(WRONG, "{}", 0);
    let _ = ecosystem.cli(&["start", "Probe"]).code(1);
    replace("{}", r#"{"idle_s": 1, "idle_ends_run": true}"#, 0);
    let _ = ecosystem.until_state("Probe", "asleep");
    let _ = ecosystem.cli(&["call", "Probe", "pid"]).ok();
    replace(r#"{"run": "return"}"#, NEVER, 0);
    let _ = ecosystem.cli(&["restart", "Probe"]);
    replace(r#"{"run": "fail"}"#, NEVER, 0);
    let _ = ecosystem.until_state("Probe", "finished");
}

#[test]
fn every_change_of_state_has_an_event() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let policy = json!({
            "on_panic": "restart", "rollback_window_ms": 0,
            "restart": {"burst_max": 2, "backoff_first_ms": 20, "served_ms": FOR_EVER_MS},
        });
        let mut guest = install(&ecosystem, flags, &json!({}), &policy);
        lead_a_life(&ecosystem, &mut guest);
        until(LIMIT, "the log and the events have the same states", || {
            logged_states(&ecosystem) == event_states(&ecosystem)
        });
        let states: HashSet<String> = event_states(&ecosystem).into_iter().collect();
        let expected = [
            "starting",
            "ready",
            "backoff",
            "crash-loop",
            "stopped",
            "failed",
            "asleep",
            "finished",
        ];
        for state in expected {
            assert!(states.contains(state), "{state}: {states:?}");
        }
        let events = kept(&ecosystem, &["Probe"]);
        let found: HashSet<&str> = kinds(&events).into_iter().collect();
        for kind in [
            "crashed",
            "reloaded",
            "refused",
            "settings-changed",
            "installed",
        ] {
            assert!(found.contains(kind), "{kind}: {found:?}");
        }
    }
}

#[test]
fn an_event_says_why_and_by_which_rule() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let policy = json!({
            "on_panic": "restart", "rollback_window_ms": 0,
            "restart": {"burst_max": 1, "backoff_first_ms": 20, "served_ms": FOR_EVER_MS},
        });
        let mut guest = install(&ecosystem, flags, &json!({}), &policy);
        for _ in 0..2 {
            panic_and_wait(&ecosystem, &mut guest);
        }
        for kind in ["crashed", "restart-planned", "crash-loop"] {
            let event = until_event(&ecosystem, "Probe", kind);
            assert_eq!(event["cause_kind"], "panicked", "{event}");
        }
        let event = until_event(&ecosystem, "Probe", "restart-planned");
        assert_eq!(
            event["rule"],
            json!({"kind": "backoff", "in_a_row": 0, "first_ms": 20, "max_ms": 30_000})
        );
        let event = until_event(&ecosystem, "Probe", "crash-loop");
        assert_eq!(
            event["rule"],
            json!({"limit": "burst", "restarts": 1, "max": 1, "window_ms": 30_000})
        );
        let told = ecosystem.cli(&["explain", "Probe"]).ok().stdout;
        for part in [
            "Probe is crash-loop",
            "restart Probe` tries again",
            "crashed: a handler panicked",
            "because it is restart 1 in a row; the wait is 20 ms at first",
            "because of 1 restart in 30 s, with at most 1 allowed (restart.burst_max in restart.burst_ms)",
        ] {
            assert!(told.contains(part), "{part:?} is missing:\n{told}");
        }
    }
}

#[test]
fn an_install_tells_what_it_changed_and_no_secret() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Probe", "probe", &[]);
    let file = ecosystem.plugin("probe");
    let file = file.to_str().expect("UTF-8");
    let words = [
        "install",
        "Probe",
        file,
        "--replace",
        "--config",
        r#"{"run_ms": 424242}"#,
    ];
    let words = [
        &words[..],
        &["--settings", r#"{"restart": {"burst_max": 9}}"#],
    ]
    .concat();
    let _ = ecosystem.cli(&words).ok();
    let event = until_event(&ecosystem, "Probe", "settings-changed");
    let change = |setting: &str, before: Value, after: Value, hidden: bool| {
        json!({
            "setting": setting, "before": before, "after": after, "hidden": hidden, "temporary": false,
        })
    };
    assert_eq!(
        event["changed"],
        json!([
            change("config.run_ms", json!(null), json!(null), true),
            change("restart.burst_max", json!(5), json!(9), false),
        ])
    );
    let _ = ecosystem.cli(&["isolate", "Probe"]).ok();
    let _ = until_event(&ecosystem, "Probe", "isolated");
    let _ = ecosystem.cli(&["embed", "Probe"]).ok();
    let _ = until_event(&ecosystem, "Probe", "embedded");
    let text = ecosystem.cli(&["events"]).ok().stdout;
    assert!(!text.contains("424242"), "{text}");
    assert!(text.contains("moved to a subprocess"), "{text}");
}

#[test]
fn the_history_outlives_the_host_and_tells_how_it_ended() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Probe", "probe", &[]);
    ecosystem.kill();
    let told = ecosystem.cli(&["explain", "Probe"]).ok().stdout;
    assert!(told.contains("Probe: no host runs it now"), "{told}");
    assert!(told.contains("generation 1: ready"), "{told}");
    ecosystem.wake(&[]);
    ecosystem.stop();
    ecosystem.wake(&[]);
    let starts: Vec<Value> = kept(&ecosystem, &["Dae"])
        .into_iter()
        .filter(|event| event["event"] == "host-started")
        .map(|event| event["after_crash"].clone())
        .collect();
    assert_eq!(starts, [json!(false), json!(true), json!(false)]);
    let events = kept(&ecosystem, &[]);
    let ids: Vec<u64> = events
        .iter()
        .filter_map(|event| event["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), events.len());
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[test]
fn followers_see_everything_once_over_a_restart_of_the_host() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Probe", "probe", &[]);
    let mut following = ecosystem.cli_running(&["events", "-f", "--json", "Probe"]);
    let _ = following.line_with(r#""event":"installed""#, LIMIT);
    ecosystem.kill();
    ecosystem.wake(&[]);
    let _ = following.line_with(r#""event":"ready""#, LIMIT);
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    let _ = following.line_with(r#""event":"stopped""#, LIMIT);
    // The host as it is stopped says nothing of a stopped daemon; its start is the next event.
    ecosystem.stop();
    ecosystem.wake(&[]);
    let _ = ecosystem.cli(&["start", "Probe"]).ok();
    let _ = following.line_with(r#""event":"started""#, LIMIT);
    let next = following.line(LIMIT);
    assert!(next.contains(r#""event":"ready""#), "{next}");
}

#[test]
fn events_are_chosen_by_time_number_and_name() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("One", "probe", &[]);
    let _ = ecosystem.install("Two", "probe", &[]);
    let all = kept(&ecosystem, &["One", "Two"]);
    assert_eq!(kinds(&all), ["started", "ready", "installed"].repeat(2));
    let last = ecosystem.cli(&["events", "One", "-n", "2", "--json"]).ok();
    assert_eq!(kinds(&last.json_lines()), ["ready", "installed"]);
    let until = all[2]["time"].as_str().expect("a time");
    let words = ["events", "One", "Two", "--until", until, "--json"];
    assert_eq!(ecosystem.cli(&words).ok().json_lines().len(), 3);
    let words = ["events", "--since", "2h", "--until", "1h"];
    let none = ecosystem.cli(&words).ok();
    assert!(
        none.stdout.is_empty() && none.says(&["no events"]),
        "{none:?}"
    );
    let line = ecosystem.cli(&["events", "One", "-n", "1"]).ok().stdout;
    assert!(line.contains("Z One#1: installed: version"), "{line}");
}

#[test]
fn a_wrong_name_time_or_home_is_one_clear_sentence() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Probe", "probe", &[]);
    for words in [
        &["events", "Prob"][..],
        &["events", "-f", "Prob"],
        &["explain", "Prob"],
    ] {
        let output = ecosystem.cli(words).code(4);
        assert!(output.says(&["did you mean", "Probe"]), "{output:?}");
    }
    let output = ecosystem.cli(&["events", "--since", "soon"]).code(2);
    assert!(output.says(&["17:30"]), "{output:?}");
    let _ = ecosystem.cli(&["events", "-f", "--until", "1h"]).code(2);
    ecosystem.stop();
    let _ = ecosystem.cli(&["events", "-f"]).code(7);
    assert!(!ecosystem.cli(&["events"]).ok().stdout.is_empty());
}

#[test]
fn a_home_that_takes_no_events_holds_nobody_up() {
    let mut ecosystem = Ecosystem::asleep();
    let events = ecosystem.home().join("logs/events");
    std::fs::create_dir_all(&events).expect("a directory");
    let file = events.join("events.log");
    std::os::unix::fs::symlink("/nowhere/at/all", &file).expect("a link that leads nowhere");
    ecosystem.wake(&[]);
    let mut following = ecosystem.cli_running(&["events", "-f"]);
    let mut guest = ecosystem.install("Probe", "probe", &[]);
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    let _ = following.line_with("Probe#1: ready", LIMIT);
    std::fs::remove_file(&file).expect("it is removed");
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    let _ = following.line_with("the disk works again", LIMIT);
    let _ = until_event(&ecosystem, "Probe", "stopped");
    ecosystem.leaves("the file of the events, which could not be opened before");
}

#[test]
fn events_that_somebody_moves_are_kept_anew_and_the_loss_is_told_once() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Probe", "probe", &[]);
    let events = ecosystem.home().join("logs/events");
    let moved = ecosystem.scratch().join("moved");
    std::fs::rename(&events, &moved).expect("a directory of our own");
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    let found = kept(&ecosystem, &[]);
    assert_eq!(kinds(&found), ["stopped", "history-lost"], "{found:?}");
    let path = events.join("events.log").display().to_string();
    assert_eq!(found[1]["path"], json!(path));
    let _ = ecosystem.cli(&["start", "Probe"]).ok();
    let told = ecosystem.stderr().matches("moved or removed").count();
    assert_eq!(told, 1, "{}", ecosystem.stderr());
    assert!(moved.join("events.log").exists());
    // The logs of the daemons, too.
    let logs = ecosystem.home().join("logs");
    std::fs::rename(&logs, ecosystem.scratch().join("logs")).expect("a directory of our own");
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    assert!(!ecosystem.logged("Probe").is_empty());
    assert_eq!(kinds(&kept(&ecosystem, &["Probe"])), ["stopped"]);
}

#[test]
fn a_purge_leaves_no_event_of_the_daemon_and_no_history() {
    for is_running in [true, false] {
        let mut ecosystem = Ecosystem::start();
        let _guest = ecosystem.install("Gone", "sample", &[]);
        let _other = ecosystem.install("Stays", "sample", &[]);
        let history = ecosystem.home().join("history/Gone");
        let made = std::fs::create_dir_all(history.parent().expect("a directory"));
        made.and_then(|()| std::fs::write(&history, "greet secret\n"))
            .expect("a file of the home");
        if !is_running {
            ecosystem.stop();
        }
        let _ = ecosystem.cli(&["uninstall", "Gone", "--purge"]).ok();
        let events = ecosystem.cli(&["events"]).ok().stdout;
        let of = |name: &str| events.lines().filter(|line| line.contains(name)).count();
        assert_eq!(of("Gone"), usize::from(is_running), "{events}");
        assert!(of("Stays") > 1, "{events}");
        assert!(!history.exists());
        if !is_running {
            ecosystem.wake(&[]);
        }
    }
}

#[test]
fn patterns_stand_for_daemons_and_a_time_of_two_words_wants_quotes() {
    let ecosystem = Ecosystem::start();
    for name in ["web-1", "web-2", "db"] {
        let _ = ecosystem.install(name, "lifecycle", &[]);
    }
    for command in ["events", "logs", "explain"] {
        let text = ecosystem.cli(&[command, "web-*"]).ok().stdout;
        let has = |name: &str| text.contains(name);
        assert!(
            has("web-1") && has("web-2") && !has("db"),
            "{command}: {text}"
        );
        let _ = ecosystem.cli(&[command, "mail-*"]).code(4);
    }
    let explained = ecosystem.cli(&["--json", "explain", "web-*"]).ok().json();
    assert_eq!(explained.as_array().map(Vec::len), Some(2), "{explained}");
    // The history knows a daemon that is uninstalled.
    let _ = ecosystem.cli(&["uninstall", "web-1"]).ok();
    for command in ["events", "logs", "explain"] {
        for word in ["web-*", "*-1", "web-1"] {
            let text = ecosystem.cli(&[command, word]).ok().stdout;
            assert!(text.contains("web-1"), "{command} {word}: {text}");
        }
        let _ = ecosystem.cli(&[command, "mail-*"]).code(4);
    }
    let _ = ecosystem
        .cli(&["logs", "web-1", "--since", "2030-01-01"])
        .ok();
    let all = ecosystem.cli(&["--json", "explain", "--all"]).ok().json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    let mut following = ecosystem.cli_running(&["events", "-f", "web-*"]);
    let _ = following.line_with("web-2", LIMIT);
    let _ = ecosystem.cli(&["events", "--since", "1d 2h"]).ok();
    let output = ecosystem.cli(&["events", "--since", "1d", "2h"]).code(2);
    assert!(output.says(&["quotes"]), "{output:?}");
    let _ = ecosystem.cli(&["logs", "--level", "WARN"]).ok();
    let output = ecosystem.cli(&["logs", "--level", "wran"]).code(2);
    assert!(output.says(&["did you mean warn?"]), "{output:?}");
}
