//! `dae-host listen`, the events beside a `call`, and the load test `call --repeat`.

use dae_tests::{Ecosystem, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

#[test]
fn events_of_a_daemon_are_printed_over_reloads_stops_and_hosts() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let flags = [flags, &["--config", r#"{"every_ms": 50}"#]].concat();
        let _ = ecosystem.install("Clock", "clock", &flags);
        let mut listening = ecosystem.cli_running(&["listen", "Clock", "subscribe"]);
        let line = listening.line(LIMIT);
        assert!(line.starts_with("tick ["), "{line}");
        let _ = ecosystem.cli(&["reload", "Clock"]).ok();
        let _ = listening.line(LIMIT);
        let _ = ecosystem.cli(&["stop", "Clock"]).ok();
        let _ = ecosystem.cli(&["start", "Clock"]).ok();
        next_tick(&ecosystem, &mut listening);
        ecosystem.kill();
        ecosystem.wake(&[]);
        next_tick(&ecosystem, &mut listening);
    }
}

/// Waits for a tick that was sent after now.
#[track_caller]
fn next_tick(ecosystem: &Ecosystem, listening: &mut dae_tests::Running) {
    let mut clock = ecosystem.guest("Clock");
    let now = clock.ask("now", &json!([])).as_u64().expect("a time");
    until_some(LIMIT, "a new tick", || {
        let line = listening.line(LIMIT);
        let arguments: Value = serde_json::from_str(line.strip_prefix("tick ")?).ok()?;
        (arguments[1].as_u64()? >= now).then_some(())
    });
}

#[test]
fn a_topic_is_what_no_daemon_is_named() {
    let ecosystem = Ecosystem::start();
    let mut by_name = ecosystem.cli_running(&["listen", "news"]);
    let mut by_option = ecosystem.cli_running(&["--json", "listen", "--topic", "news"]);
    let mut dae = ecosystem.guest("Dae");
    until_some(LIMIT, "both listen", || {
        let count = dae.ask("publish", &json!(["news", "early"]));
        (count == 2).then_some(())
    });
    dae.ask("publish", &json!(["news", {"a": 1}]));
    let _ = by_name.line_with(r#"news [{"a":1}]"#, LIMIT);
    let line = by_option.line_with(r#"{"a":1}"#, LIMIT);
    let document: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(document["event"], "news");
    assert_eq!(document["arguments"], json!([{"a": 1}]));
    assert!(document["time"].is_string(), "{document}");
}

#[test]
fn a_wrong_name_or_command_is_told_and_ends() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Clock", "clock", &[]);
    let output = ecosystem.cli(&["listen", "Clok", "subscribe"]).code(4);
    assert!(output.says(&["did you mean Clock"]), "{output:?}");
    let output = ecosystem.cli(&["listen", "Clock", "sing"]).code(1);
    assert!(output.says(&["sing"]), "{output:?}");
    let _ = ecosystem
        .cli(&["listen", "--topic", "news", "subscribe"])
        .code(2);
    let _ = ecosystem.cli(&["stop", "Clock"]).ok();
    let output = ecosystem.cli(&["listen", "Clock"]).code(3);
    assert!(output.says(&["start Clock"]), "{output:?}");
    ecosystem.stop();
    let _ = ecosystem.cli(&["listen", "Clock"]).code(7);
}

#[test]
fn a_call_shows_events_on_standard_error() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _ = ecosystem.install("Peer", "peer", flags);
        let words = ["call", "Peer", "tell_me", "hello", "[1, \"\\u001b[2J\"]"];
        let output = ecosystem.cli(&words).ok();
        assert_eq!(output.stdout, "null\n");
        assert!(output.says(&["hello [[1,"]), "{output:?}");
        assert!(!output.stderr.contains('\u{1b}'), "{output:?}");
        let quiet = ecosystem.cli(&[&["-q"], &words[..]].concat()).ok();
        assert_eq!(quiet.stderr, "");
    }
}

#[test]
fn a_load_test_counts_every_call_and_its_latency() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _ = ecosystem.install("Sample", "sample", flags);
        let words = [
            "--json",
            "call",
            "--repeat",
            "500",
            "--concurrency",
            "5",
            "Sample",
            "greet",
            "Ada",
        ];
        let report = ecosystem.cli(&words).ok().json();
        assert_eq!(
            (&report["calls"], &report["errors"], &report["connections"]),
            (&json!(500), &json!(0), &json!(5)),
            "{report}"
        );
        let quantiles = [
            "min_us", "p50_us", "p90_us", "p95_us", "p99_us", "p999_us", "max_us",
        ];
        let values: Vec<f64> = quantiles
            .iter()
            .filter_map(|name| report[name].as_f64())
            .collect();
        assert!(
            values.len() == 7 && values.is_sorted() && values[0] > 0.0,
            "{report}"
        );
        assert_eq!(ecosystem.status("Sample")["calls"], 500);
    }
}

#[test]
fn a_load_test_is_drawn_for_a_person() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Sample", "sample", &[]);
    let words = ["call", "--repeat", "20", "Sample", "greet", "Ada"];
    let text = ecosystem.cli(&words).ok().stdout;
    for part in ["20 calls over 1 connection in", "0 errors", "p99.9", "█"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn a_load_test_of_what_fails_says_so() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Sample", "sample", &[]);
    let words = ["call", "--repeat", "3", "Sample", "greet", "1", "2", "3"];
    let output = ecosystem.cli(&words).code(1);
    assert!(output.says(&["3 of 3 calls failed"]), "{output:?}");
    assert!(output.stdout.contains("3 errors"), "{output:?}");
    for wrong in [
        &["call", "--repeat", "0", "Sample", "greet"][..],
        &["call", "--concurrency", "2", "Sample", "greet"],
        &["call", "--repeat", "2", "--raw", "Sample", "greet"],
    ] {
        let _ = ecosystem.cli(wrong).code(2);
    }
}

#[test]
fn an_interrupted_load_test_prints_what_it_has() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Probe", "probe", &["--isolate"]);
    let words = [
        "call",
        "--repeat",
        "100000000",
        "--concurrency",
        "2",
        "Probe",
        "echo",
        "1",
    ];
    let mut running = ecosystem.cli_running(&words);
    until(LIMIT, "calls are made", || {
        ecosystem.status("Probe")["calls"].as_u64() > Some(100)
    });
    process::signal(running.pid(), Signal::INT);
    let line = running.line_with("calls over 2 connections", LIMIT);
    assert!(!line.starts_with("0 calls"), "{line}");
    let _ = running.line_with("p99.9", LIMIT);
    assert_eq!(running.end(LIMIT), Some(130));

    // Also while a call has no answer.
    let words = ["--json", "call", "--repeat", "2", "Probe", "slow", "25000"];
    let mut running = ecosystem.cli_running(&words);
    until(LIMIT, "it is connected", || {
        ecosystem.status("Probe")["guests"].as_u64() > Some(1)
    });
    process::signal(running.pid(), Signal::INT);
    let report: Value = serde_json::from_str(&running.line(LIMIT)).expect("a report");
    assert_eq!(report["calls"], 0, "{report}");
    assert_eq!(running.end(LIMIT), Some(130));
}
