//! The command line: this test's own options, and those that cargo passes to every test program.

use std::time::Duration;

use clap::Parser;

/// What the test is called, for filters.
const NAME: &str = "soak";

/// Makes random histories of a host, and compares each step with a model.
#[derive(Debug, Parser)]
#[command(name = "soak")]
pub struct Options {
    /// Runs so long, unless --hours says otherwise
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs so many hours
    #[arg(long)]
    hours: Option<f64>,
    /// The first history's seed; each further one has the next [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Ends after so many histories
    #[arg(long, default_value_t = u64::MAX)]
    pub histories: u64,
    /// How long a history that fails is made shorter
    #[arg(long, default_value_t = 300)]
    pub shrink_seconds: u32,
    /// Prints each step before it is made
    #[arg(long)]
    pub verbose: bool,
    #[command(flatten)]
    of_cargo: OfCargo,
}

/// What the standard test programs take, and people give to `cargo test`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "As every test program")]
struct OfCargo {
    /// Runs nothing unless one of these is in the test's name, `soak`
    filters: Vec<String>,
    /// Takes filters for whole names
    #[arg(long)]
    exact: bool,
    /// Runs nothing if this is in the name
    #[arg(long)]
    skip: Vec<String>,
    /// Prints the name, and runs nothing
    #[arg(long)]
    list: bool,
    /// Runs ignored tests alone: none
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
    /// Why nothing is to be run, if that is so; what to print then.
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

    /// How long it is to run.
    pub fn time(&self) -> Duration {
        match self.hours {
            Some(hours) => Duration::from_secs_f64(hours.max(0.0) * 3600.0),
            None => Duration::from_secs(self.seconds),
        }
    }
}
