//! The figures of the page `host/docs/performance.md`, generated from the stored figures of the benches.
//!
//! They are between two comments, which are placed by hand once. Everything between the comments is rewritten. Ratios
//! are shown next to their targets, whether or not they are met. The rows of a bench that has not been run are left
//! out.

use std::fmt::Write as _;
use std::fs;

use dae_tests::artefacts::workspace;
use serde_json::Value;

use super::figures;

/// The page's path in the workspace.
const PAGE: &str = "host/docs/performance.md";

/// The line before the figures.
const BEGIN: &str = "<!-- figures: begin -->";

/// The line after the figures.
const END: &str = "<!-- figures: end -->";

/// The servers whose ratios are shown, with the headings of their columns.
const COLUMNS: [(&str, &str); 8] = [
    ("in-process", "in-process"),
    ("subprocess", "subprocess"),
    ("static", "static"),
    ("redis RESP", "Redis module, RESP"),
    ("redis inline", "inline"),
    ("node", "Node"),
    ("relay", "relay"),
    ("naive", "naive"),
];

/// The rows: the shape, the figure, the label, and the targets in-process and in a subprocess.
const ROWS: [(&str, &str, &str, [f64; 2]); 5] = [
    ("1x1", "p50_us", "1x1 p50", [1.05, 1.5]),
    ("1x1", "cpu_us", "1x1 CPU", [1.1, 2.0]),
    ("1x64", "cpu_us", "1x64 CPU", [1.7, 3.0]),
    ("50x16", "cpu_us", "50x16 CPU", [1.7, 2.0]),
    ("1000x1", "cpu_us", "1000x1 CPU", [1.05, 1.15]),
];

/// The target for idle connections: bytes per connection, with ten thousand of them.
const IDLE_TARGET_BYTES: f64 = 1_500.0;

/// Writes the figures into the page.
///
/// Returns an error if the two comments are missing, or no bench has been run.
pub(super) fn write() -> Result<(), String> {
    let path = workspace().join(PAGE);
    let failed = |error| format!("{}: {error}", path.display());
    let page = fs::read_to_string(&path).map_err(failed)?;
    let parts = page.split_once(BEGIN);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        format!("{PAGE} has no place for figures: a line `{BEGIN}` and, below it, a line `{END}`")
    })?;
    let round_trips = figures::kept(super::NAME);
    let round_trips =
        round_trips.ok_or("there are no figures yet: run the bench without --page")?;
    let text = ratios(&round_trips) + &others();
    fs::write(&path, format!("{before}{BEGIN}\n\n{text}\n{END}{after}")).map_err(failed)
}

/// Returns the round trips of every server as ratios to the bare echo.
fn ratios(kept: &Value) -> String {
    let (date, machine) = (shown(&kept["date"]), shown(&kept["machine"]));
    let mut text = format!(
        "Ratios to a bare tokio line echo in the same run (connections x commands in flight; an echo of 20 bytes; CPU is user and \
         system time a request of the server's processes; in brackets what was aimed at). {date}, {machine}.\n\n| figure |"
    );
    COLUMNS
        .iter()
        .for_each(|(_, head)| text += &format!(" {head} |"));
    text += " bare echo |\n|---|";
    text += &"---|".repeat(COLUMNS.len() + 1);
    for (shape, figure, label, targets) in ROWS {
        let of = |server: &str| {
            find(&kept["rows"], |row| {
                row["workload"] == "echo" && row["shape"] == shape && row["server"] == server
            })
        };
        let _ = write!(text, "\n| {label} |");
        for (number, (server, _)) in COLUMNS.iter().enumerate() {
            let ratio = of(server)["to_raw"][figure].as_f64();
            text += &cell(ratio, targets.get(number).copied(), 2);
        }
        let raw = of("raw")[figure].as_f64();
        let _ = write!(text, " {} µs |", number(raw, 2));
    }
    text + &idle(&kept["idle"]) + "\n"
}

fn idle(kept: &Value) -> String {
    let mut text = "\n| bytes a connection, 10,000 idle, new / used |".to_owned();
    let of = |server: &str| {
        let idle = find(kept, |row| row["server"] == server);
        (idle["new_bytes"].as_f64(), idle["used_bytes"].as_f64())
    };
    for (index, (server, _)) in COLUMNS.iter().enumerate() {
        let (new, used) = of(server);
        let target = (index < 2).then(|| format!(" ({IDLE_TARGET_BYTES:.0})"));
        let target = target.unwrap_or_default();
        let _ = write!(text, " {} / {}{target} |", number(new, 0), number(used, 0));
    }
    let (new, used) = of("raw");
    text + &format!(" {} / {} |", number(new, 0), number(used, 0))
}

/// Returns the figures of the other benches.
fn others() -> String {
    let mut text = "\n| figure | here | aimed at | beside |\n|---|---|---|---|\n".to_owned();
    let scale = figures::kept("scale").unwrap_or_default();
    for row in scale["rows"].as_array().into_iter().flatten() {
        let (what, unit) = (shown(&row["what"]), shown(&row["unit"]));
        let beside = &row["beside"];
        let beside = beside["value"].as_f64().map_or(String::new(), |value| {
            format!("{} {}", shown(&beside["what"]), amount(Some(value), unit))
        });
        let target = row["target"].as_f64();
        let target = target.map_or(String::new(), |target| format!("{target} {unit}"));
        let here = amount(row["value"].as_f64(), unit);
        let _ = writeln!(text, "| {what} | {here} | {target} | {beside} |");
    }
    if let Some(kept) = figures::kept("recovery") {
        let ms = |whose: &str, quantile: &str| number(kept[whose][quantile].as_f64(), 1);
        let (p50, p99) = (ms("recovery_ms", "p50"), ms("recovery_ms", "p99"));
        let bare = ms("bare_ms", "p50");
        let _ = writeln!(
            text,
            "| SIGKILL of a subprocess to the first reply of its successor, p50 / p99 | {p50} / {p99} ms | 8 / 20 ms | bare spawn {bare} ms |"
        );
    }
    text + &reloads() + &calls()
}

fn reloads() -> String {
    let kept = figures::kept("reload").unwrap_or_default();
    let mut text = String::new();
    for way in kept["rows"].as_array().into_iter().flatten() {
        let ms = |what: &str, quantile: &str| number(way[what][quantile].as_f64(), 1);
        let label = shown(&way["label"]);
        let target = match label {
            "in-process" => "15 / 2 ms",
            "without its preflight" => "5 / 2 ms",
            _ => "",
        };
        let (new, pause) = (ms("new_ms", "p50"), ms("pause_ms", "p99"));
        let _ = writeln!(
            text,
            "| reload, {label}: file to first reply of the new code, p50 / longest pause of a guest, p99 | {new} / {pause} ms | {target} | |"
        );
    }
    text
}

fn calls() -> String {
    let kept = figures::kept("calls").unwrap_or_default();
    let mut text = String::new();
    for route in kept["routes"].as_array().into_iter().flatten() {
        let us = route["p50"].as_f64().map(|ns| ns / 1e3);
        let (label, us) = (shown(&route["route"]), number(us, 1));
        let _ = writeln!(
            text,
            "| call from daemon to daemon, {label}, p50 | {us} µs | | |"
        );
    }
    text
}

fn find(rows: &Value, is_it: impl Fn(&Value) -> bool) -> &Value {
    let mut rows = rows.as_array().into_iter().flatten();
    rows.find(|row| is_it(row)).unwrap_or(&Value::Null)
}

fn cell(value: Option<f64>, target: Option<f64>, digits: usize) -> String {
    let target = target.map_or(String::new(), |target| format!(" ({target})"));
    format!(" {}{target} |", number(value, digits))
}

fn amount(value: Option<f64>, unit: &str) -> String {
    format!("{} {unit}", number(value, 1)).trim_end().to_owned()
}

/// Returns a dash if there is no value, as for a peer that was not installed.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn shown(text: &Value) -> &str {
    text.as_str().unwrap_or_default()
}
