//! `call --repeat`: a load test in one line.
//!
//! Each connection sends its calls one after the other, so the latency of a call is what one guest waits for. Latencies are
//! counted in a histogram with three significant digits; the time for reading arguments and for connecting is no part of
//! them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use dae_runtime::os::interrupt::Interruptions;
use dae_store::lock::lock;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::value::RawValue;

use super::CallArgs;
use crate::Session;
use crate::exit::Fault;
use crate::guest::DaemonAddress;
use crate::interrupted::EndMessage;
use crate::progress::Progress;

/// The significant digits of a latency. Three keep the histogram at some 100 KB.
const DIGITS: u8 = 3;

/// The longest latency that is told from longer ones (ns): an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// The most rows of the drawn histogram; they fit on a screen of 24 lines with the summary.
const ROWS_MAX: usize = 16;

/// The longest bar of the drawn histogram (cells).
const BAR_CELLS: u64 = 40;

/// The quantiles that are printed, in percent.
const QUANTILES: [f64; 5] = [50.0, 90.0, 95.0, 99.0, 99.9];

/// The calls of a load test.
pub(super) struct Load<'a> {
    pub(super) daemon: &'a DaemonAddress,
    pub(super) command: &'a str,
    pub(super) arguments: &'a [Box<RawValue>],
    pub(super) args: &'a CallArgs,
}

/// The result of a load test.
#[derive(Debug, Serialize)]
struct LoadReport {
    /// The number of calls that were answered, errors included.
    calls: u64,
    /// The number of calls that were answered with an error, or not at all.
    errors: u64,
    /// The first error, a text.
    first_error: Option<String>,
    connections: u64,
    seconds: f64,
    calls_per_s: f64,
    /// The latencies (µs); `None` before the first call has its answer.
    min_us: Option<f64>,
    mean_us: Option<f64>,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p95_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
}

/// The results of one connection.
struct OneGuest {
    latencies: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Load<'_> {
    /// Makes the calls and prints the latencies, after an interruption those of the calls that were made.
    ///
    /// # Errors
    /// A connection can't be made, or at least one call failed.
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (calls, connections) = (self.args.repeat.unwrap_or(1), self.args.concurrency());
        let guests = (0..connections).map(|_| OneGuest::new().map(Mutex::new));
        let results = Arc::new(LoadResults {
            guests: guests.collect::<Result<_>>()?,
            calls,
            began: Instant::now(),
            progress: Progress::of(session, calls),
            printing: Mutex::new(()),
        });
        results.print_if_interrupted(session);
        self.make_calls(&results)?;
        let _turn = lock(&results.printing);
        let report = results.print(session)?;
        match &report.first_error {
            None => Ok(()),
            Some(error) => bail!(
                "{} of {calls} calls failed; the first: {error}",
                report.errors
            ),
        }
    }

    /// Makes the calls over all connections at once.
    fn make_calls(&self, results: &LoadResults) -> Result<()> {
        let (next, calls) = (&AtomicU64::new(0), results.calls);
        thread::scope(|scope| {
            let (running, ended) = mpsc::channel::<()>();
            let guests = results.guests.iter();
            let threads: Vec<_> = guests
                .map(|guest| {
                    let running = running.clone();
                    let one = move || {
                        let _running = running;
                        self.one_guest(guest, next, calls)
                    };
                    thread::Builder::new().spawn_scoped(scope, one)
                })
                .collect::<Result<_, _>>()
                .context(
                    "cannot start a thread for each connection; choose a smaller --concurrency",
                )?;
            drop(running);
            results
                .progress
                .follow("calls", &ended, || next.load(Ordering::Relaxed).min(calls));
            let joined = threads.into_iter().map(|thread| {
                let ended = thread.join();
                ended.unwrap_or_else(|_| {
                    Err(anyhow!("a connection ended by a fault of this program"))
                })
            });
            joined.collect()
        })
    }

    /// Makes calls over one connection while there are any left.
    fn one_guest(&self, guest: &Mutex<OneGuest>, next: &AtomicU64, calls: u64) -> Result<()> {
        let connect = || {
            let mut client = self.daemon.connect()?;
            if let Some(limit) = self.args.timeout {
                client.wait_at_most(limit);
            }
            // An early end cancels the calls that are under way.
            client.reset_at_close();
            anyhow::Ok(client)
        };
        let mut client = connect()?;
        while next.fetch_add(1, Ordering::Relaxed) < calls {
            let began = Instant::now();
            let answer = client.call(self.command, &self.arguments);
            let mut guest = lock(guest);
            guest
                .latencies
                .saturating_record(nanoseconds(began.elapsed()));
            let Err(error) = answer else { continue };
            guest.errors += 1;
            let is_answered = matches!(error.downcast_ref(), Some(Fault::Answered { .. }));
            guest
                .first_error
                .get_or_insert_with(|| format!("{error:#}"));
            drop(guest);
            if !is_answered {
                // After a lost connection or a late answer the next reply could belong to this call.
                client = connect()?;
            }
        }
        Ok(())
    }
}

impl OneGuest {
    fn new() -> Result<Self> {
        Ok(OneGuest {
            latencies: histogram()?,
            errors: 0,
            first_error: None,
        })
    }
}

/// The results of all connections, while they are made.
struct LoadResults {
    guests: Vec<Mutex<OneGuest>>,
    calls: u64,
    began: Instant,
    progress: Progress,
    /// Held while the results are printed, so that this happens once.
    printing: Mutex<()>,
}

impl LoadResults {
    /// Prints the results so far and ends the program, if a signal asks for the end.
    fn print_if_interrupted(self: &Arc<Self>, session: &Session) {
        let Ok(mut interruptions) = Interruptions::begin() else {
            return;
        };
        let (results, session) = (Arc::clone(self), session.clone());
        let wait = move || {
            let Some(interruption) = interruptions.wait() else {
                return;
            };
            let _turn = lock(&results.printing);
            // If nobody reads the figures, the end is all that is left to tell.
            let made = results.print(&session).map_or(0, |report| report.calls);
            let message = EndMessage {
                text: format!("after {made} of {} calls", results.calls),
                hint: None,
                has_code: true,
            };
            message.say(&session, interruption);
        };
        // Without the thread, the signal has no effect until the calls are made.
        let _ = thread::Builder::new()
            .name("interrupted".to_owned())
            .spawn(wait);
    }

    fn print(&self, session: &Session) -> Result<LoadReport> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.progress.end();
        let (latencies, report) = summary(&self.guests, seconds)?;
        match session.out.json {
            true => session.out.document(&report)?,
            false => session.out.line(&text(&latencies, &report))?,
        }
        Ok(report)
    }
}

/// Returns an empty histogram for latencies of up to an hour, in nanoseconds.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)?)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn summary(guests: &[Mutex<OneGuest>], seconds: f64) -> Result<(Histogram<u64>, LoadReport)> {
    let mut latencies = histogram()?;
    let (mut errors, mut first_error) = (0, None);
    for guest in guests {
        let guest = lock(guest);
        latencies.add(&guest.latencies)?;
        errors += guest.errors;
        first_error = first_error.or_else(|| guest.first_error.clone());
    }
    let calls = latencies.len();
    let known = |us: f64| (calls > 0).then_some(us);
    let quantile = |percent: f64| known(microseconds(latencies.value_at_percentile(percent)));
    let [p50_us, p90_us, p95_us, p99_us, p999_us] = QUANTILES.map(quantile);
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
    let calls_per_s = (calls as f64 / seconds).round();
    let report = LoadReport {
        calls,
        errors,
        first_error,
        connections: guests.len() as u64,
        seconds,
        calls_per_s,
        min_us: known(microseconds(latencies.min())),
        mean_us: known((latencies.mean() / 100.0).round() / 10.0),
        p50_us,
        p90_us,
        p95_us,
        p99_us,
        p999_us,
        max_us: known(microseconds(latencies.max())),
    };
    Ok((latencies, report))
}

/// Returns microseconds with one decimal.
#[expect(clippy::cast_precision_loss, reason = "the value has three digits")]
fn microseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

fn text(latencies: &Histogram<u64>, report: &LoadReport) -> String {
    let LoadReport {
        calls,
        errors,
        connections,
        seconds,
        calls_per_s,
        ..
    } = report;
    let plural = if *connections == 1 { "" } else { "s" };
    let mut text = format!(
        "{calls} calls over {connections} connection{plural} in {seconds:.2} s: {calls_per_s} a second, {errors} errors\n"
    );
    let facts = [
        ("min", report.min_us),
        ("p50", report.p50_us),
        ("p90", report.p90_us),
        ("p95", report.p95_us),
        ("p99", report.p99_us),
        ("p99.9", report.p999_us),
        ("max", report.max_us),
    ];
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
    let facts = facts.map(|(name, value)| format!("{name} {}", or_dash(value)));
    text.push_str(&facts.join("  "));
    text.push('\n');
    let rows = rows(latencies);
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (limit, count) in rows {
        let cells = (count * BAR_CELLS).div_ceil(most);
        let bar = "█".repeat(usize::try_from(cells).unwrap_or(0));
        let _ = write!(text, "\n{:>9} {count:>9} {bar}", time(limit));
    }
    text
}

/// Formats microseconds with the unit that people read best.
fn time(us: f64) -> String {
    match us {
        _ if us < 1_000.0 => format!("{us:.0} µs"),
        _ if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        _ => format!("{:.1} s", us / 1_000_000.0),
    }
}

/// Returns the upper limits of the histogram's rows (µs) with their counts. Each row is a fixed factor wider than the one
/// before.
fn rows(latencies: &Histogram<u64>) -> Vec<(f64, u64)> {
    let (min, max) = (latencies.min().max(1), latencies.max().max(1));
    let mut factor = 2.0_f64.powf(0.25);
    #[expect(clippy::cast_precision_loss, reason = "the value has three digits")]
    let (min, ratio) = (min as f64, max as f64 / min as f64);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rows_max = ROWS_MAX as f64;
    while ratio.ln() / factor.ln() > rows_max {
        factor = factor.powi(2);
    }
    let mut rows = Vec::new();
    let (mut limit, mut before) = (min * factor, 0);
    while before < latencies.len() && rows.len() <= ROWS_MAX + 1 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time in nanoseconds is far below the limit"
        )]
        let below = latencies.count_between(0, limit as u64);
        rows.push(((limit / 100.0).round() / 10.0, below - before));
        (limit, before) = (limit * factor, below);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(values_us: &[u64]) -> Histogram<u64> {
        let mut latencies = histogram().unwrap();
        for value in values_us {
            latencies.saturating_record(value * 1000);
        }
        latencies
    }

    #[test]
    fn each_latency_is_in_one_row() {
        for values in [&[5][..], &[10, 20, 30, 1000, 50_000], &[1, 10_000_000]] {
            let rows = rows(&latencies(values));
            let counted: u64 = rows.iter().map(|(_, count)| count).sum();
            assert_eq!(counted, values.len() as u64, "{rows:?}");
            assert!(rows.len() <= ROWS_MAX + 2, "{rows:?}");
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{rows:?}");
        }
    }

    #[test]
    fn before_the_first_answer_there_is_no_latency() {
        let guests = [Mutex::new(OneGuest::new().unwrap())];
        let (latencies, report) = summary(&guests, 1.0).unwrap();
        let text = text(&latencies, &report);
        assert!(text.contains("min -  p50 -"), "{text}");
        assert_eq!(text.trim_end().lines().count(), 2, "{text}");
        let report = serde_json::to_value(report).unwrap();
        assert_eq!(report["p99_us"], serde_json::Value::Null);
        lock(&guests[0]).latencies.saturating_record(5_000);
        let (_, report) = summary(&guests, 1.0).unwrap();
        assert_eq!(report.min_us, Some(5.0));
    }

    #[test]
    fn a_time_has_the_unit_that_people_read_best() {
        assert_eq!(
            [42.0, 1_234.0, 2_500_000.0].map(time),
            ["42 µs", "1.2 ms", "2.5 s"]
        );
    }
}
