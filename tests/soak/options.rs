//! The command line: the test's own options, and those that cargo passes to every test program.

use std::time::Duration;

use clap::Parser;

/// The name of the test, for filters.
const NAME: &str = "soak";

/// Runs random histories of a host, and compares each step with a model.
#[derive(Debug, Parser)]
#[command(name = "soak")]
pub struct Options {
    /// Runs for this many seconds, unless --hours is given
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs for this many hours
    #[arg(long)]
    hours: Option<f64>,
    /// Sets the first history's seed; each further history has the next one [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Ends after this many histories
    #[arg(long, default_value_t = u64::MAX)]
    pub histories: u64,
    /// Shrinks a failing history for at most this many seconds
    #[arg(long, default_value_t = 300)]
    pub shrink_seconds: u32,
    /// Prints each step before it runs
    #[arg(long)]
    pub verbose: bool,
    #[command(flatten)]
    of_cargo: OfCargo,
}

/// The options of the standard test harness, which users pass to `cargo test`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "As every test program")]
struct OfCargo {
    /// Runs only if one of these is part of the test's name, `soak`
    filters: Vec<String>,
    /// Compares filters with the whole name
    #[arg(long)]
    exact: bool,
    /// Does not run if this is part of the name
    #[arg(long)]
    skip: Vec<String>,
    /// Prints the name, and runs nothing
    #[arg(long)]
    list: bool,
    /// Runs only ignored tests, of which there are none
    #[arg(long)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, visible_alias = "no-capture", hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    test_threads: Option<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    logfile: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1)]
    report_time: Option<Option<String>>,
    #[arg(long, hide = true)]
    shuffle: bool,
    #[arg(short = 'Z', hide = true)]
    unstable: Vec<String>,
}

impl Options {
    /// Returns the text to print instead of running the test, if it must not run.
    pub fn idle(&self) -> Option<String> {
        let of_cargo = &self.of_cargo;
        let is_meant = |filter: &String| match of_cargo.exact {
            true => filter == NAME,
            false => NAME.contains(filter.as_str()),
        };
        let filters = &of_cargo.filters;
        let is_filtered = !filters.is_empty() && !filters.iter().any(is_meant);
        let is_filtered = is_filtered || of_cargo.skip.iter().any(is_meant);
        match (of_cargo.list, is_filtered || of_cargo.ignored) {
            (true, true) => Some(String::new()),
            (true, false) => Some(format!("{NAME}: test")),
            (false, true) => Some(format!("{NAME}: filtered out, nothing is run")),
            (false, false) => None,
        }
    }

    /// Returns the time for which the test runs.
    pub fn time(&self) -> Duration {
        match self.hours {
            Some(hours) => Duration::from_secs_f64(hours.max(0.0) * 3600.0),
            None => Duration::from_secs(self.seconds),
        }
    }
}
