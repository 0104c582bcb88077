//! The table with the figures of the other benches, each with its peer or its limit beside it.

use serde_json::Value;

use super::cells::{amount, find, head, line, median, number, ratio, shown};
use crate::figures;

/// The aim for a reload: the time to the first reply and the longest pause, as ratios to a kill and a restart.
const RELOAD_RATIOS: &str = "2 / 0.5 times";

/// The aim for a recovery and a start, as a ratio to a bare spawn, and for a call as a ratio to two bare processes.
const RATIO: &str = "1.3 times";

/// Returns the whole table.
pub(super) fn table() -> String {
    let kept = |bench| figures::kept(bench).unwrap_or_default();
    let rows = [
        scale(&kept("scale")),
        many_guests(&kept("many_guests")),
        recovery(&kept("recovery")),
        reloads(&kept("reload")),
        states(&kept("reload_state")),
        calls(&kept("calls")),
    ];
    "\n".to_owned() + &head(&["figure", "here", "aimed at", "beside"]) + &rows.concat()
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn scale(kept: &Value) -> String {
    let row = |row: &Value| {
        let (what, unit) = (shown(&row["what"]), shown(&row["unit"]));
        let beside = &row["beside"];
        let beside = beside["value"].as_f64().map_or(String::new(), |value| {
            format!("{} {}", shown(&beside["what"]), amount(Some(value), unit))
        });
        let target = row["target"].as_f64();
        let target = target.map_or(String::new(), |target| format!("{target} {unit}"));
        let here = amount(row["value"].as_f64(), unit);
        line([what, &here, &target, &beside])
    };
    rows(&kept["rows"]).map(row).collect()
}

fn many_guests(kept: &Value) -> String {
    let (guests, rate) = (&kept["connections"], &kept["per_second"]);
    let raw = find(&kept["rows"], |row| row["server"] == "raw");
    let others = rows(&kept["rows"]).filter(|row| row["server"] != "raw");
    let figures = [("cpu_us", "CPU a command"), ("p99_us", "p99")];
    let row = |row: &Value| {
        let each = figures.map(|(figure, label)| {
            let us = |row: &Value| amount(median(&row[figure]), "µs");
            let server = shown(&row["server"]);
            line([
                format!("{guests} guests, {rate} command a second each, {server}: {label}"),
                format!("{}, {} times", us(row), ratio(&row["to_raw"][figure])),
                String::new(),
                format!("bare echo {}", us(raw)),
            ])
        });
        each.concat()
    };
    others.map(row).collect()
}

fn recovery(kept: &Value) -> String {
    let ways = [
        (
            "recovery",
            "SIGKILL of a subprocess to the first reply of its successor",
            "8 / 20 ms, ",
        ),
        ("in_a_row", "the same, each of ten kills in a row", ""),
        (
            "start",
            "start of a stopped subprocess to its first reply",
            "",
        ),
    ];
    let both = |times: &Value, digits| {
        let [p50, p99] = ["p50", "p99"].map(|quantile| number(times[quantile].as_f64(), digits));
        format!("{p50} / {p99}")
    };
    let row = |(name, label, aim): (&str, &str, &str)| {
        let times = &kept[format!("{name}_ms")];
        let ratio = both(&kept["ratio"][name], 1);
        let row = line([
            format!("{label}, p50 / p99"),
            format!("{} ms, {ratio} times", both(times, 1)),
            format!("{aim}{RATIO}"),
            format!("bare spawn {} ms", both(&kept["bare_ms"], 1)),
        ]);
        times.is_object().then_some(row)
    };
    ways.into_iter().filter_map(row).collect()
}

fn reloads(kept: &Value) -> String {
    let figures = [("new_ms", "p50"), ("pause_ms", "p99")];
    let ms = |way: &Value| figures.map(|(what, quantile)| way[what][quantile].as_f64());
    let both = |numbers: [Option<f64>; 2]| numbers.map(|one| number(one, 1)).join(" / ");
    let bare = find(&kept["rows"], |way| way["label"] == "kill and restart");
    let [bare_new, bare_pause] = ms(bare);
    let row = |way: &Value| {
        let label = shown(&way["label"]);
        let aim = match label {
            "in-process" => "15 / 2 ms, ",
            "without its preflight" => "5 / 2 ms, ",
            _ => "",
        };
        let [new, pause] = ms(way);
        let times = |here: Option<f64>, bare: Option<f64>| Some(here? / bare?);
        let ratios = both([times(new, bare_new), times(pause, bare_pause)]);
        line([
            format!(
                "reload, {label}: file to first reply of the new code, p50 / longest pause of a guest, p99"
            ),
            format!("{} ms, {ratios} times", both([new, pause])),
            format!("{aim}{RELOAD_RATIOS}"),
            format!(
                "a process killed and started {} ms",
                both([bare_new, bare_pause])
            ),
        ])
    };
    let others = rows(&kept["rows"]).filter(|way| way["label"] != "kill and restart");
    others.map(row).collect()
}

fn states(kept: &Value) -> String {
    let mb = kept["json_bytes"].as_f64().map(|bytes| bytes / 1e6);
    let row = |row: &Value| {
        let ms = |member: &str| number(row[member].as_f64(), 0);
        let mode = shown(&row["mode"]);
        let (mb, ratio) = (number(mb, 0), number(row["ratio"].as_f64(), 2));
        let memory = number(row["memory_to_json"].as_f64(), 2);
        let pause = [
            format!(
                "reload with a state of {mb} MB of JSON, {mode}: longest pause of a guest, p50"
            ),
            format!("{} ms, {ratio} times", ms("pause_ms")),
            String::new(),
            format!(
                "serde_json alone, to write and read it {} ms",
                ms("serde_ms")
            ),
        ];
        let memory = [
            format!("the same, {mode}: most memory beyond the author's values"),
            format!("{memory} times the JSON"),
            String::new(),
            format!("the JSON {mb} MB"),
        ];
        line(pause) + &line(memory)
    };
    rows(&kept["rows"]).map(row).collect()
}

fn calls(kept: &Value) -> String {
    let us = |row: &Value| number(row["p50"].as_f64().map(|ns| ns / 1e3), 1);
    let row = |route: &Value| {
        let label = format!(
            "call from daemon to daemon, {}, p50",
            shown(&route["route"])
        );
        match route["to_bare"].is_object() {
            true => line([
                label,
                format!("{} µs, {} times", us(route), ratio(&route["to_bare"])),
                RATIO.to_owned(),
                format!("two bare processes {} µs", us(&kept["bare"])),
            ]),
            false => line([
                label,
                format!("{} µs", us(route)),
                String::new(),
                String::new(),
            ]),
        }
    };
    rows(&kept["routes"]).map(row).collect()
}
