//! What the bench tells: a table for people, and every round in JSON.
//!
//! Each cell is the median of its rounds. The ratio is the median of the rounds' ratios, each against the bare echo of
//! the same round, and not the ratio of two medians: that is what interleaving the rounds is for.

use std::fmt::Write as _;
use std::fs;

use dae_tests::artefacts::target_directory;
use serde_json::{Value, json};

use super::load::Done;
use super::servers::RAW_LABEL;

/// One server in one round of one shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    requests: u64,
    requests_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_request: f64,
}

impl Run {
    pub(super) fn of(done: &Done, cpu_ns: u64) -> Self {
        let requests = done.latency_ns.len();
        let us_at = |quantile| done.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        Run {
            requests,
            requests_per_s: requests as f64 / done.time.as_secs_f64(),
            p50_us: us_at(0.5),
            p99_us: us_at(0.99),
            cpu_us_per_request: cpu_ns as f64 / 1e3 / requests.max(1) as f64,
        }
    }

    fn json(self) -> Value {
        json!({
            "requests": self.requests,
            "requests_per_s": self.requests_per_s,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "cpu_us_per_request": self.cpu_us_per_request,
        })
    }
}

/// A row of the table: one server under one shape.
struct Row {
    server: &'static str,
    shape: String,
    runs: Vec<Run>,
}

/// All rounds so far, in the order in which shapes and servers came first.
#[derive(Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn add(&mut self, server: &'static str, shape: &str, run: Run) {
        let known = self
            .rows
            .iter_mut()
            .find(|row| row.server == server && row.shape == shape);
        match known {
            Some(row) => row.runs.push(run),
            None => self.rows.push(Row {
                server,
                shape: shape.to_owned(),
                runs: vec![run],
            }),
        }
    }

    /// The table, for a terminal of 80 columns.
    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "{:<7} {:<10} {:>11} {:>8} {:>9} {:>9} {:>11}",
            "shape", "server", "requests/s", "of raw", "p50 us", "p99 us", "cpu us/req"
        );
        for row in &self.rows {
            let (rate, p50) = (
                row.median(|run| run.requests_per_s),
                row.median(|run| run.p50_us),
            );
            let (p99, cpu) = (
                row.median(|run| run.p99_us),
                row.median(|run| run.cpu_us_per_request),
            );
            let ratio = self.ratio_to_raw(row);
            let (shape, server) = (&row.shape, row.server);
            let _ = write!(
                table,
                "\n{shape:<7} {server:<10} {rate:>11.0} {ratio:>8.2} {p50:>9.1} {p99:>9.1} {cpu:>11.2}"
            );
        }
        table
    }

    /// Writes `target/bench/round_trips.json`.
    pub(super) fn write(&self) -> Result<(), String> {
        let directory = target_directory().join("bench");
        let path = directory.join("round_trips.json");
        let text = format!("{:#}\n", self.json());
        let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        eprintln!("all rounds: {}", path.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "shape": row.shape,
                "server": row.server,
                "requests_per_s": row.median(|run| run.requests_per_s),
                "ratio_to_raw": self.ratio_to_raw(row),
                "p50_us": row.median(|run| run.p50_us),
                "p99_us": row.median(|run| run.p99_us),
                "cpu_us_per_request": row.median(|run| run.cpu_us_per_request),
                "rounds": row.runs.iter().map(|run| run.json()).collect::<Vec<_>>(),
            })
        };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }

    fn ratio_to_raw(&self, row: &Row) -> f64 {
        let raw = self
            .rows
            .iter()
            .find(|other| other.server == RAW_LABEL && other.shape == row.shape);
        let pairs = raw
            .into_iter()
            .flat_map(|raw| row.runs.iter().zip(&raw.runs));
        median(
            pairs
                .map(|(run, raw)| run.requests_per_s / raw.requests_per_s)
                .collect(),
        )
    }
}

impl Row {
    fn median(&self, figure: fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }
}

/// The middle value; of an even number, the mean of the two middle ones. Not a number where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
