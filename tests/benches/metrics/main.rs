//! The time to write the metrics of 10,000 daemons: `cargo bench -p dae-tests --bench metrics`.
//!
//! The text is written by the program's own file, and then, in turns, its lines from a plain table: a name, the labels as
//! they are in the text, and a number. The ratio of the two is the cost of types, labels and checks. More than 3 fails.
//! In one run the daemons have never been called, in the other each has a histogram.
//!
//! Flag after `--`: `--daemons N`. All figures go to `target/bench/metrics.json`.

#[path = "../../../host/cli/src/metrics/exposition.rs"]
mod exposition;
#[path = "../figures/mod.rs"]
mod figures;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_host::dae::{
    ChangeMeasures, CommandMeasures, DaemonMeasures, GuestMeasures, LatencyHistogram, Measures,
    OneCommandMeasures, OwnProcess, ReloadOutcome,
};
use dae_host::report::{EndKind, Mode};
use figures::command_line;
use serde_json::json;

const DAEMONS_DEFAULT: u64 = 10_000;

/// The highest allowed ratio.
const RATIO_MAX: f64 = 3.0;

/// The turns of both sides. The fastest of each counts: other programs can only add time.
const TURNS: usize = 10;

/// The bounds of a histogram, as many as the host has.
const BOUNDS: u32 = 28;

fn main() -> ExitCode {
    let Some(words) = command_line::words("metrics") else {
        return ExitCode::SUCCESS;
    };
    let daemons = command_line::numbers(&words, [("--daemons", DAEMONS_DEFAULT)]);
    command_line::end("metrics", daemons.and_then(|[daemons]| bench(daemons)))
}

fn bench(daemons: u64) -> Result<(), String> {
    println!(
        "{:<12} {:>9} {:>12} {:>12} {:>7}",
        "daemons are", "lines", "metrics ms", "table ms", "ratio"
    );
    let mut figures = json!({"daemons": daemons});
    let mut highest = 0.0_f64;
    for (name, is_called) in [("never called", false), ("called", true)] {
        let measures = measures(daemons, is_called);
        let text = exposition::text(measures.clone());
        let table: Vec<Row<'_>> = text.lines().filter_map(Row::of).collect();
        let (mut metrics, mut plain) = (Duration::MAX, Duration::MAX);
        for _ in 0..TURNS {
            let measures = measures.clone();
            metrics = metrics.min(timed(|| exposition::text(measures)));
            plain = plain.min(timed(|| write_plain(&table)));
        }
        let ratio = metrics.as_secs_f64() / plain.as_secs_f64();
        let (metrics, plain) = (ms(metrics), ms(plain));
        let lines = table.len();
        println!("{name:<12} {lines:>9} {metrics:>12.1} {plain:>12.1} {ratio:>7.2}");
        figures[name] = json!({
            "lines": lines, "bytes": text.len(), "metrics_ms": metrics, "table_ms": plain, "ratio": ratio,
        });
        highest = highest.max(ratio);
    }
    figures::keep("metrics", figures)?;
    match highest <= RATIO_MAX {
        true => Ok(()),
        false => Err(format!("the ratio {highest:.2} is above {RATIO_MAX}")),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn timed(write: impl FnOnce() -> String) -> Duration {
    let began = Instant::now();
    let text = write();
    let time = began.elapsed();
    // The text is used, so that it is written in full. It is freed after the time is taken.
    assert!(std::hint::black_box(text).ends_with('\n'));
    time
}

/// A line of the plain table.
struct Row<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok().filter(|_| !line.starts_with('#'))?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some(Row {
            name,
            labels,
            value,
        })
    }
}

fn write_plain(table: &[Row<'_>]) -> String {
    let mut text = String::new();
    for Row {
        name,
        labels,
        value,
    } in table
    {
        // Writing to a string doesn't fail.
        let _ = writeln!(text, "{name}{{{labels} {value}");
    }
    text
}

fn measures(daemons: u64, is_called: bool) -> Measures {
    let daemon = |number: u64| DaemonMeasures {
        name: format!("worker-{number}"),
        plugin: "Worker".to_owned(),
        version: "1.2.3".to_owned(),
        mode: Mode::InProcess,
        state: "ready",
        is_up: true,
        commands: CommandMeasures {
            calls: number * 17,
            by_name: commands(number, is_called),
        },
        guests: GuestMeasures {
            present: number % 7,
            ..GuestMeasures::default()
        },
        changes: Some(ChangeMeasures {
            restarts: EndKind::OF_RESTARTS.map(|reason| (reason, number % 3)),
            reloads: ReloadOutcome::ALL.map(|outcome| (outcome, number % 5)),
        }),
    };
    Measures {
        daemons: (0..daemons).map(daemon).collect(),
        process: OwnProcess::default(),
    }
}

/// Returns the row of lines that are no command, which every daemon has, and that of one command.
fn commands(number: u64, is_called: bool) -> Vec<OneCommandMeasures> {
    let command = is_called.then(|| OneCommandMeasures {
        name: "work".to_owned(),
        errors: number,
        latencies: Some(latencies(number)),
    });
    let other = OneCommandMeasures::default();
    std::iter::once(other).chain(command).collect()
}

fn latencies(number: u64) -> LatencyHistogram {
    let bound = |octave: u32| match octave < BOUNDS - 1 {
        true => (f64::from(1_u32 << octave) * 1.024e-6, number),
        false => (f64::INFINITY, number),
    };
    LatencyHistogram {
        buckets: (0..BOUNDS).map(bound).collect(),
        count: number * u64::from(BOUNDS),
        sum_s: 0.123_456_789 * 17.0,
    }
}
