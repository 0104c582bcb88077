//! Traces: the id that a guest names follows its command through threads, tasks, daemons and processes, into the logs, and
//! to nothing else.

use std::collections::BTreeSet;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::discovery::scene::only;

/// The example of the W3C's page.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The commands that tell their trace, with what they are called by.
const WAYS: [&str; 4] = ["trace", "trace_late", "trace_aside", "trace_spawned"];

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

fn parent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// The line that names the trace of the next command.
fn named(parent: &str) -> String {
    format!("dae {}\n", json!([{"traceparent": parent}]))
}

/// Calls a command in the trace.
#[track_caller]
fn ask_traced(guest: &mut Guest, command: &str, arguments: &Value) -> Value {
    guest.send(named(&parent()));
    guest.ask(command, arguments)
}

/// Returns the spans in an answer. All of its texts must be of the trace, and there must be one at least.
#[track_caller]
fn spans(answer: &Value) -> Vec<String> {
    match answer {
        Value::Array(all) => all.iter().flat_map(spans).collect(),
        Value::String(text) => {
            let parts: Vec<&str> = text.split('-').collect();
            let [version, trace, span, flags] = parts[..] else {
                panic!("no traceparent: {text}");
            };
            assert_eq!((version, trace, flags), ("00", TRACE, "01"), "{text}");
            assert_ne!(span, CALLER, "a command has a span of its own");
            vec![span.to_owned()]
        }
        other => panic!("no trace: {other}"),
    }
}

#[test]
fn a_command_knows_its_trace_wherever_its_code_runs() {
    let ecosystem = Ecosystem::start();
    for (flags, name) in MODES.into_iter().zip(["In", "Out"]) {
        let mut guest = ecosystem.install(name, "traced", flags);
        for way in WAYS {
            let one = spans(&ask_traced(&mut guest, way, &json!([])));
            let same: BTreeSet<&String> = one.iter().collect();
            assert_eq!(
                same.len(),
                1,
                "{name}.{way}: one command is one span: {one:?}"
            );
            // The trace was that of one command alone.
            let after = guest.ask(way, &json!([]));
            assert!(!after.to_string().contains(TRACE), "{name}.{way}: {after}");
            let other = spans(&ask_traced(&mut guest, way, &json!([])));
            assert_ne!(one, other, "{name}.{way}");
        }
    }
}

#[test]
fn a_trace_follows_calls_from_daemon_to_daemon() {
    let elsewhere = Ecosystem::start();
    let far = format!("Far-{}", std::process::id());
    elsewhere.install(&far, "traced", &["--isolate"]);
    let here = Ecosystem::start_configured(&only(&[elsewhere.port_of(&far)]));
    let _ = here.cli(&["scan"]).ok();
    for (flags, name) in MODES.into_iter().zip(["In", "Out"]) {
        here.install(name, "traced", flags);
    }
    let names = ["In", "Out", far.as_str()];
    for from in ["In", "Out"] {
        let mut guest = here.guest(from);
        for to in names {
            for through in ["trace_through", "trace_connected"] {
                for way in WAYS {
                    let label = format!("{from}.{through} {to}.{way}");
                    let arguments = json!([to, way]);
                    let answer = ask_traced(&mut guest, through, &arguments);
                    assert_ne!(spans(&answer[0]), spans(&answer[1]), "{label}");
                    let after = guest.ask(through, &arguments).to_string();
                    assert!(!after.contains(TRACE), "{label}: {after}");
                }
            }
        }
        // Two steps: each command is another span.
        let answer = ask_traced(&mut guest, "trace_through", &json!(["Out", "trace_late"]));
        let all: BTreeSet<String> = spans(&answer).into_iter().collect();
        assert_eq!(all.len(), 2, "{answer}");
    }
}

/// The lines of a busy guest are answered by its daemon's own process, which leaves a traced one to the host.
#[test]
fn one_command_of_a_flood_belongs_to_the_trace() {
    const BEFORE: usize = 5_000;
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Busy", "traced", flags);
        for _ in 0..4 {
            let flood = "trace []\n".repeat(BEFORE);
            guest.send(format!("{flood}{}trace []\n{flood}", named(&parent())));
            let answers: Vec<Value> = (0..=2 * BEFORE)
                .map(|_| guest.message().result().expect("a reply"))
                .collect();
            let traced = answers.iter().position(|answer| !answer.is_null());
            assert_eq!(traced, Some(BEFORE), "the first that has a trace");
            assert_eq!(spans(&answers[BEFORE]).len(), 1);
            let others = answers.iter().filter(|answer| answer.is_null()).count();
            assert_eq!(others, 2 * BEFORE, "all others have none");
        }
    }
}

/// A guest is handed off at rest, which it also is between the line that names a trace and the command.
#[test]
fn a_trace_that_ends_a_batch_belongs_to_the_command_of_the_next() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Traced", "traced", flags);
        for round in 0..20 {
            let untraced = "trace []\n".repeat(10);
            guest.send(format!("{untraced}{}", named(&parent())));
            for _ in 0..10 {
                assert_eq!(guest.message().result().expect("a reply"), Value::Null);
            }
            let traced = guest.ask("trace", &json!([]));
            assert!(traced.is_string(), "round {round}: {traced}");
            assert_eq!(spans(&traced).len(), 1);
        }
    }
}

#[test]
fn a_command_keeps_its_trace_while_it_waits_for_its_daemon() {
    let on_demand = json!({"start": "on-demand"}).to_string();
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let flags = [flags, &["--settings", &on_demand]].concat();
        let mut guest = ecosystem.install("Sleeper", "traced", &flags);
        assert_eq!(ecosystem.status("Sleeper")["state"], "asleep");
        // Without a trace of its own, this is what the host answers; the trace goes with it.
        guest.send(named(&parent()));
        guest.ask("options", &json!([]));
        guest.send(format!("{}trace []\ntrace []\n", named(&parent())));
        assert_eq!(spans(&guest.message().result().expect("a reply")).len(), 1);
        assert_eq!(guest.message().result().expect("a reply"), Value::Null);
    }
}

#[test]
fn a_command_keeps_its_trace_while_its_daemon_starts_again() {
    let restart = json!({"restart": {"backoff_first_ms": 500}}).to_string();
    let ecosystem = Ecosystem::start();
    let flags = ["--isolate", "--settings", &restart];
    let mut guest = ecosystem.install("Traced", "traced", &flags);
    let pid = ecosystem.status("Traced")["pid"].as_u64();
    let pid = pid.and_then(|pid| pid.try_into().ok()).expect("a process");
    process::signal(pid, Signal::KILL);
    until(LIMIT, "it waits for its restart", || {
        ecosystem.status("Traced")["state"] == "backoff"
    });
    guest.send(format!("{}trace []\ntrace []\n", named(&parent())));
    assert_eq!(spans(&guest.message().result().expect("a reply")).len(), 1);
    assert_eq!(guest.message().result().expect("a reply"), Value::Null);
}

#[test]
fn a_value_that_breaks_a_rule_begins_no_trace_and_gets_no_answer() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Traced", "traced", flags);
        let zeros = format!("00-{}-{CALLER}-01", "0".repeat(32));
        let upper = parent().to_uppercase();
        for bad in [zeros.as_str(), &upper, "", "00", &"x".repeat(1 << 16)] {
            guest.send(named(bad));
            assert_eq!(guest.ask("trace", &json!([])), Value::Null, "{bad:.60}");
        }
        // A credential names no trace, whatever else it has.
        let credential = json!([{"name": "A", "pid": 1, "port": 1, "traceparent": parent()}]);
        guest.send(format!("dae {credential}\n"));
        assert_eq!(guest.ask("trace", &json!([])), Value::Null);
        // JSON5, as everywhere.
        guest.send(format!("dae {{traceparent: '{}',}}\n", parent()));
        assert_eq!(spans(&guest.ask("trace", &json!([]))).len(), 1);
    }
}

#[test]
fn records_of_a_traced_command_have_its_ids() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Traced", "traced", flags);
        let _ = guest.ask("note", &json!(["untraced"]));
        let _ = ask_traced(&mut guest, "note", &json!(["traced"]));
        let records = || {
            let logged = ecosystem.cli(&["logs", "Traced", "--json"]).ok();
            let all = logged.stdout.lines();
            let all = all.map(|line| serde_json::from_str(line).expect("JSON"));
            all.filter(|record: &Value| record["message"] == "noted")
                .collect::<Vec<Value>>()
        };
        until(LIMIT, "both records are in the log", || {
            records().len() == 2
        });
        let [untraced, traced] = &records()[..] else {
            panic!("two records");
        };
        assert_eq!(untraced["fields"], json!({"text": "untraced"}));
        assert_eq!(traced["fields"]["trace_id"], TRACE, "{traced}");
        let span = traced["fields"]["span_id"].as_str().expect("a span");
        assert!(span.len() == 16 && span != CALLER, "{span}");
        let found = ecosystem.cli(&["logs", "Traced", "--grep", TRACE]).ok();
        assert_eq!(found.stdout.lines().count(), 1, "{}", found.stdout);
    }
}

#[test]
fn call_names_a_new_trace_or_that_of_the_environment() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Traced", "traced", &["--isolate"]);
    let called = ecosystem.cli(&["call", "--trace", "Traced", "trace"]).ok();
    let answer: String = serde_json::from_str(called.stdout.trim()).expect("a text");
    let trace = answer.split('-').nth(1).expect("an id").to_owned();
    assert!(
        called.stderr.contains(&format!("trace {trace}")),
        "{}",
        called.stderr
    );
    let untraced = ecosystem.cli(&["call", "Traced", "trace"]).ok();
    assert_eq!(untraced.stdout.trim(), "null");
    for (value, is_traced) in [(parent(), true), ("nonsense".to_owned(), false)] {
        let mut command = ecosystem.command();
        command.args(["call", "Traced", "trace"]);
        let output = command
            .env("TRACEPARENT", &value)
            .output()
            .expect("it runs");
        let answer = String::from_utf8(output.stdout).expect("text");
        assert_eq!(answer.contains(TRACE), is_traced, "{value}: {answer}");
        assert!(output.stderr.is_empty());
    }
    let wrong = ecosystem.cli(&["call", "--trace", "--repeat", "3", "Traced", "trace"]);
    assert_eq!(wrong.status, 2, "{}", wrong.stderr);
}

/// The example of the page on operating.
#[test]
fn what_all_daemons_wrote_about_one_call_is_found_by_its_trace() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _ = ecosystem.install("Relay", "relay", flags);
        let _ = ecosystem.install("Sample", "sample", flags);
        let call = ["call", "--trace", "Relay", "ask", "Sample", "greet", "Ada"];
        let called = ecosystem.cli(&call).ok();
        assert_eq!(called.stdout.trim(), "\"Hello, Ada! You are number 1.\"");
        let (_, trace) = called.stderr.trim().split_once("trace ").expect("an id");
        let found = || ecosystem.cli(&["logs", "--grep", trace]).ok().stdout;
        until(LIMIT, "the record is in the log", || {
            found().contains("Sample#1: greeted")
        });
    }
}
