//! The report of the bench: a table for people, and every round in JSON.
//!
//! Each cell is the median of its rounds. A ratio is the median of the rounds' ratios, each to the bare echo of the
//! same round. It is not the ratio of two medians, because the rounds are interleaved to be compared one by one.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Shape;
use super::figures::spread::Spread;
use super::figures::{self, median};
use super::idle::{self, Idle};
use super::load::Done;
use super::script::Workload;
use super::servers::{IN_PROCESS_LABEL, RAW_LABEL};

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

    /// Returns the tables, for a terminal of 100 columns.
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
                    "\n{head:<14} {:>10} {:>8} {:>8} {:>7} {:>20} {:>20} {:>8}",
                    "requests/s", "p50 us", "p99 us", "cpu us", "p50/raw", "cpu/raw", "syscalls"
                );
            }
            let syscalls = row
                .syscalls
                .map_or("-".to_owned(), |one| format!("{one:.3}"));
            let _ = writeln!(
                table,
                "{server:<14} {:>10.0} {:>8.1} {:>8.1} {:>7.2} {:>20} {:>20} {syscalls:>8}",
                row.median(|run| run.requests_per_s),
                row.median(|run| run.p50_us),
                row.median(|run| run.p99_us),
                row.median(|run| run.cpu_us),
                self.ratio(row, RAW_LABEL, |run| run.p50_us).shown(2),
                self.ratio(row, RAW_LABEL, |run| run.cpu_us).shown(2),
            );
        }
        table + &self.modes_table() + &self.idle_table()
    }

    /// Returns the ratios of the subprocess to the daemon in the host's process.
    fn modes_table(&self) -> String {
        let heads = ["p50", "cpu"];
        let mut table = format!(
            "\n{:<24} {:>22} {:>22}   (~: no result)\n",
            "subprocess/in-process", heads[0], heads[1]
        );
        let rows = self.rows.iter();
        for row in rows.filter(|row| row.subject.server == "subprocess") {
            let load = format!(
                "{} {}",
                row.subject.workload.name(),
                row.subject.shape.name()
            );
            let p50 = self.ratio(row, IN_PROCESS_LABEL, |run| run.p50_us).ratio();
            let cpu = self.ratio(row, IN_PROCESS_LABEL, |run| run.cpu_us).ratio();
            let _ = writeln!(table, "{load:<24} {p50:>22} {cpu:>22}");
        }
        table
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

    /// Stores the report in `target/bench/round_trips.json`. The rows and the idle connections that this run has not
    /// measured stay there, each with the day of its own run, if they are of the same class of machine.
    ///
    /// Returns an error if the file cannot be written.
    pub(super) fn keep(&self) -> Result<(), String> {
        let idle = |(server, idle): &(&str, Idle)| json!({"date": figures::today(), "server": server, "new_bytes": idle.new_bytes, "used_bytes": idle.used_bytes});
        let mut kept = json!({
            "rows": self.rows.iter().map(|row| self.json(row)).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(idle).collect::<Vec<_>>(),
        });
        let before =
            figures::kept(super::NAME).filter(|before| before["machine"] == figures::machine());
        for (list, key) in [
            ("rows", &["workload", "shape", "server"][..]),
            ("idle", &["server"]),
        ] {
            add_others(
                &mut kept[list],
                before.as_ref().map(|before| &before[list]),
                key,
            );
        }
        figures::keep(super::NAME, kept)
    }

    fn json(&self, row: &Row) -> Value {
        let to = |other| {
            json!({
                "requests_per_s": self.ratio(row, other, |run| run.requests_per_s).json(),
                "p50_us": self.ratio(row, other, |run| run.p50_us).json(),
                "cpu_us": self.ratio(row, other, |run| run.cpu_us).json(),
            })
        };
        json!({
            "date": figures::today(),
            "workload": row.subject.workload.name(),
            "shape": row.subject.shape.name(),
            "server": row.subject.server,
            "requests_per_s": row.median(|run| run.requests_per_s),
            "p50_us": row.median(|run| run.p50_us),
            "p99_us": row.median(|run| run.p99_us),
            "cpu_us": row.median(|run| run.cpu_us),
            "syscalls": row.syscalls,
            "to_raw": to(RAW_LABEL),
            "to_in_process": to(IN_PROCESS_LABEL),
            "rounds": row.runs.iter().map(|run| run.json()).collect::<Vec<_>>(),
        })
    }

    /// Returns the ratio to another server under the same load, NaN if that one was not measured.
    fn ratio(&self, row: &Row, other: &'static str, figure: fn(&Run) -> f64) -> Spread {
        let other = Subject {
            server: other,
            ..row.subject
        };
        let other = self.rows.iter().find(|row| row.subject == other);
        let pairs = other
            .into_iter()
            .flat_map(|other| row.runs.iter().zip(&other.runs));
        Spread::of(
            pairs
                .map(|(run, other)| figure(run) / figure(other))
                .collect(),
        )
    }
}

/// Adds to a list those of another list that differ from each of it in one of the given members.
fn add_others(list: &mut Value, others: Option<&Value>, key: &[&str]) {
    let Some(list) = list.as_array_mut() else {
        return;
    };
    let others = others.and_then(Value::as_array).into_iter().flatten();
    // Rows of earlier versions of this bench have no day.
    for other in others.filter(|other| other["date"].is_string()) {
        let is_same = |one: &Value| key.iter().all(|member| one[*member] == other[*member]);
        if !list.iter().any(is_same) {
            list.push(other.clone());
        }
    }
}
