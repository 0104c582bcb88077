//! The short table of the README: a line for each question that a reader asks first.

use serde_json::Value;

use super::cells::{find, head, line, median, number, row};
use crate::figures;

/// Returns the table. A line whose bench has not been run has dashes.
pub(super) fn table(kept: &Value) -> String {
    let rows = [
        round_trips(kept),
        many_guests(),
        reload(),
        recovery(),
        calls(),
    ];
    head(&["", "in-process", "subprocess", "beside"]) + &rows.concat()
}

fn times(value: Option<f64>) -> String {
    format!("{} times", number(value, 2))
}

fn ms(value: &Value) -> String {
    format!("{} ms", number(value.as_f64(), 1))
}

fn us(ns: &Value) -> String {
    format!("{} µs", number(ns.as_f64().map(|ns| ns / 1e3), 1))
}

fn round_trips(kept: &Value) -> String {
    let loads = [
        ("a round trip, p50", "1x1", "p50_us"),
        ("CPU time a command, 64 in flight", "1x64", "cpu_us"),
    ];
    let each = loads.map(|(label, shape, figure)| {
        let of = |server| times(median(&row(kept, "echo", shape, server)["to_raw"][figure]));
        let raw = row(kept, "echo", shape, "raw")[figure].as_f64();
        let raw = format!("bare tokio echo {} µs", number(raw, 2));
        line([label.to_owned(), of("in-process"), of("subprocess"), raw])
    });
    each.concat()
}

fn many_guests() -> String {
    let kept = figures::kept("many_guests").unwrap_or_default();
    let of = |server: &str| find(&kept["rows"], |row| row["server"] == server);
    let ratio = |server| times(median(&of(server)["to_raw"]["cpu_us"]));
    line([
        "CPU time a command, 10,000 guests with one a second each".to_owned(),
        ratio("in-process"),
        ratio("subprocess"),
        format!(
            "bare tokio echo {} µs",
            number(median(&of("raw")["cpu_us"]), 2)
        ),
    ])
}

fn reload() -> String {
    let kept = figures::kept("reload").unwrap_or_default();
    let of = |label: &str| ms(&find(&kept["rows"], |way| way["label"] == label)["new_ms"]["p50"]);
    line([
        "a new file to the first reply of its code".to_owned(),
        of("in-process"),
        of("subprocess"),
        format!("a process killed and started {}", of("kill and restart")),
    ])
}

fn recovery() -> String {
    let kept = figures::kept("recovery").unwrap_or_default();
    line([
        "SIGKILL to the next reply".to_owned(),
        String::new(),
        ms(&kept["recovery_ms"]["p50"]),
        format!("bare spawn {}", ms(&kept["bare_ms"]["p50"])),
    ])
}

fn calls() -> String {
    let kept = figures::kept("calls").unwrap_or_default();
    let of = |label: &str| us(&find(&kept["routes"], |route| route["route"] == label)["p50"]);
    line([
        "a call from an in-process daemon to one".to_owned(),
        of("in-process to in-process, fn"),
        of("in-process to subprocess"),
        format!("two bare processes {}", us(&kept["bare"]["p50"])),
    ])
}
