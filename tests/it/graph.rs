//! `dae-host graph`: who calls whom, counted over reloads, in both modes.

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The calls that a test makes: more than one in sixteen, of which one is timed.
const CALLS: u64 = 40;

fn edges(ecosystem: &Ecosystem, words: &[&str]) -> Vec<Value> {
    let words = [&["graph", "--json"], words].concat();
    let edges = ecosystem.cli(&words).ok().json();
    edges.as_array().expect("an array").clone()
}

fn edge(ecosystem: &Ecosystem, caller: &Value, callee: &str) -> Option<Value> {
    let mut edges = edges(ecosystem, &[]);
    edges.retain(|edge| edge["caller"] == *caller && edge["callee"] == callee);
    edges.pop()
}

#[test]
fn calls_between_daemons_are_counted_over_reloads() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _counter = ecosystem.install("Counter", "counter", flags);
        let mut relay = ecosystem.install("Relay", "relay", flags);
        for number in 0..CALLS {
            let increment = json!(["Counter", "increment", 1]);
            assert_eq!(relay.ask("ask", &increment), number + 1, "{flags:?}");
            if number == CALLS / 2 {
                let _ = ecosystem.cli(&["reload", "Relay", "Counter"]).ok();
            }
        }
        let _ = relay.ask_in_vain("ask", &json!(["Counter", "increment", "x"]));
        let _ = relay.ask_in_vain("ask", &json!(["Nobody", "increment"]));

        let own = edge(&ecosystem, &json!("Relay"), "Counter").expect("an edge");
        assert_eq!(own["calls"], CALLS + 1, "{flags:?}: {own}");
        assert_eq!(
            (&own["errors"], &own["foreign"]),
            (&json!(1), &json!(false))
        );
        let (p50, p99) = (own["p50_us"].as_f64(), own["p99_us"].as_f64());
        assert!(p50.is_some_and(|us| us > 0.0) && p50 <= p99, "{own}");
        let nobody = edge(&ecosystem, &json!("Relay"), "Nobody").expect("an edge");
        assert_eq!(
            (&nobody["calls"], &nobody["errors"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(own["caller"], "Relay");
        // The relay's own guest, whose calls are counted once their batch is answered.
        until(LIMIT, "the guest's calls", || {
            let guests = edge(&ecosystem, &Value::Null, "Relay");
            guests.is_some_and(|edge| edge["calls"] == CALLS + 2 && edge["errors"].is_null())
        });
        assert_eq!(edge(&ecosystem, &Value::Null, "Counter"), None, "{flags:?}");
    }
}

/// Installs two daemons and one that calls them, which it does once each.
fn with_relay(ecosystem: &Ecosystem) -> Guest {
    for name in ["Counter", "Other"] {
        let _ = ecosystem.install(name, "counter", &[]);
    }
    let mut relay = ecosystem.install("Relay", "relay", &[]);
    for name in ["Counter", "Other"] {
        relay.ask("ask", &json!([name, "increment", 1]));
    }
    relay
}

#[test]
fn a_daemon_is_shown_by_name_and_forgotten_when_it_is_uninstalled() {
    let ecosystem = Ecosystem::start();
    let none = ecosystem.cli(&["graph"]).ok();
    assert!(none.says(&["nobody has called"]), "{none:?}");
    let _relay = with_relay(&ecosystem);
    let table = ecosystem.cli(&["graph", "Other"]).ok().stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["CALLER", "CALLED", "CALLS", "ERRORS", "P50", "P99"]
    );
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows[1][..4], ["Relay", "Other", "1", "0"], "{table}");
    assert_eq!(edges(&ecosystem, &["Count*", "Other"]).len(), 2);
    let dot = ecosystem.cli(&["graph", "--dot", "Other"]).ok().stdout;
    assert!(
        dot.starts_with("digraph dae {\n") && dot.contains("n0 -> n1"),
        "{dot}"
    );
    let svg = ecosystem.cli(&["graph", "--svg"]).ok().stdout;
    assert!(svg.contains("</svg>") && svg.contains(">Counter<"), "{svg}");
    let _ = ecosystem.cli(&["uninstall", "Relay"]).ok();
    assert_eq!(edge(&ecosystem, &json!("Relay"), "Counter"), None);
}

#[test]
fn texts_that_are_no_names_are_counted_together() {
    let ecosystem = Ecosystem::start();
    let mut relay = with_relay(&ecosystem);
    for name in ["", "no name", &"x".repeat(1000)] {
        let _ = relay.ask_in_vain("ask", &json!([name, "increment"]));
    }
    let others = edge(&ecosystem, &json!("Relay"), "(others)").expect("an edge");
    assert_eq!(
        (&others["calls"], &others["errors"]),
        (&json!(3), &json!(3))
    );
}

#[test]
fn wrong_words_are_told() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    let unknown = ecosystem.cli(&["graph", "Countr"]).code(4);
    assert!(unknown.says(&["Countr", "Counter"]), "{unknown:?}");
    assert_eq!(edges(&ecosystem, &["Counter"]), Vec::<Value>::new());
    let _ = ecosystem.cli(&["graph", "--dot", "--svg"]).code(2);
    let _ = ecosystem.cli(&["graph", "--dot", "--json"]).code(2);
    let empty = ecosystem.cli(&["graph", "--svg"]).code(2);
    assert!(empty.stdout.is_empty(), "{empty:?}");
    let pattern = ecosystem.cli(&["graph", "a[", "--json"]).code(2);
    assert!(pattern.says(&["no pattern"]), "{pattern:?}");
    let asleep = Ecosystem::asleep();
    let _ = asleep.cli(&["graph"]).code(7);
}
