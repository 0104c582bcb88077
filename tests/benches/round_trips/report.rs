//! The report of the bench: a table for people, and every round in JSON.
//!
//! Each cell is the median of its rounds. A ratio is the median of the rounds' ratios, each to the bare echo of the
//! same round. It is not the ratio of two medians, because the rounds are interleaved to be compared one by one.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Shape;
use super::figures::{self, median};
use super::idle::{self, Idle};
use super::load::Done;
use super::script::Workload;
use super::servers::RAW_LABEL;

/// The result of one server in one round of one shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    requests: u64,
    requests_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
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
            cpu_us: cpu_ns as f64 / 1e3 / requests.max(1) as f64,
        }
    }

    fn json(self) -> Value {
        json!({
            "requests": self.requests,
            "requests_per_s": self.requests_per_s,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "cpu_us": self.cpu_us,
        })
    }
}

/// The subject of a row: one server under one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) workload: Workload,
    pub(super) shape: Shape,
    pub(super) server: &'static str,
}

struct Row {
    subject: Subject,
    runs: Vec<Run>,
    /// The system calls per request.
    syscalls: Option<f64>,
}

impl Row {
    fn median(&self, figure: fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }
}

/// All rounds so far, in the order in which workloads, shapes and servers first appeared.
#[derive(Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    idle: Vec<(&'static str, Idle)>,
}

impl Report {
    pub(super) fn add(&mut self, subject: Subject, run: Run) {
        match self.rows.iter_mut().find(|row| row.subject == subject) {
            Some(row) => row.runs.push(run),
            None => self.rows.push(Row {
                subject,
                runs: vec![run],
                syscalls: None,
            }),
        }
    }

    pub(super) fn add_syscalls(&mut self, subject: Subject, a_request: f64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.subject == subject) {
            row.syscalls = Some(a_request);
        }
    }

    pub(super) fn add_idle(&mut self, server: &'static str, idle: Idle) {
        self.idle.push((server, idle));
    }

    /// Returns the tables, for a terminal of 80 columns.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        let mut before = None;
        for row in &self.rows {
            let Subject {
                workload,
                shape,
                server,
            } = row.subject;
            if before.replace((workload, shape)) != Some((workload, shape)) {
                let head = format!("{} {}", workload.name(), shape.name());
                let _ = writeln!(
                    table,
                    "\n{head:<14} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7} {:>8}",
                    "requests/s", "p50 us", "p99 us", "cpu us", "p50/raw", "cpu/raw", "syscalls"
                );
            }
            let syscalls = row
                .syscalls
                .map_or("-".to_owned(), |one| format!("{one:.3}"));
            let _ = writeln!(
                table,
                "{server:<14} {:>10.0} {:>8.1} {:>8.1} {:>7.2} {:>7.2} {:>7.2} {syscalls:>8}",
                row.median(|run| run.requests_per_s),
                row.median(|run| run.p50_us),
                row.median(|run| run.p99_us),
                row.median(|run| run.cpu_us),
                self.ratio_to_raw(row, |run| run.p50_us),
                self.ratio_to_raw(row, |run| run.cpu_us),
            );
        }
        table + &self.idle_table()
    }

    fn idle_table(&self) -> String {
        if self.idle.is_empty() {
            return String::new();
        }
        let head = format!("{} idle", idle::CONNECTIONS);
        let mut table = format!("\n{head:<14} {:>10} {:>10}\n", "bytes new", "bytes used");
        for (server, idle) in &self.idle {
            let (new, used) = (idle.new_bytes, idle.used_bytes);
            let _ = writeln!(table, "{server:<14} {new:>10.0} {used:>10.0}");
        }
        table
    }

    /// Stores the report in `target/bench/round_trips.json`.
    ///
    /// Returns an error if the file cannot be written.
    pub(super) fn keep(&self) -> Result<(), String> {
        let idle = |(server, idle): &(&str, Idle)| json!({"server": server, "new_bytes": idle.new_bytes, "used_bytes": idle.used_bytes});
        figures::keep(
            super::NAME,
            json!({
                "rows": self.rows.iter().map(|row| self.json(row)).collect::<Vec<_>>(),
                "idle": self.idle.iter().map(idle).collect::<Vec<_>>(),
            }),
        )
    }

    fn json(&self, row: &Row) -> Value {
        json!({
            "workload": row.subject.workload.name(),
            "shape": row.subject.shape.name(),
            "server": row.subject.server,
            "requests_per_s": row.median(|run| run.requests_per_s),
            "p50_us": row.median(|run| run.p50_us),
            "p99_us": row.median(|run| run.p99_us),
            "cpu_us": row.median(|run| run.cpu_us),
            "syscalls": row.syscalls,
            "to_raw": {
                "requests_per_s": self.ratio_to_raw(row, |run| run.requests_per_s),
                "p50_us": self.ratio_to_raw(row, |run| run.p50_us),
                "cpu_us": self.ratio_to_raw(row, |run| run.cpu_us),
            },
            "rounds": row.runs.iter().map(|run| run.json()).collect::<Vec<_>>(),
        })
    }

    fn ratio_to_raw(&self, row: &Row, figure: fn(&Run) -> f64) -> f64 {
        let raw = Subject {
            server: RAW_LABEL,
            ..row.subject
        };
        let raw = self.rows.iter().find(|other| other.subject == raw);
        let pairs = raw
            .into_iter()
            .flat_map(|raw| row.runs.iter().zip(&raw.runs));
        median(pairs.map(|(run, raw)| figure(run) / figure(raw)).collect())
    }
}
