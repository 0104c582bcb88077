//! How long a reload takes, and how long a guest feels it: `cargo bench -p dae-tests --bench reload`.
//!
//! What is timed begins with the `rename()` of a new file over a daemon's source, as a build or a deployment does it, and
//! ends with the first reply that the new code gives to a guest who asks all the time on one connection. The host hears
//! of the file from the kernel, as in life. The guest's longest wait for one reply in each reload is the pause that it
//! feels. Each file has content that was never there before, so that every reload loads one.
//!
//! Beside it a process of the same work, killed and started again, whose guest connects anew until it answers: what
//! deploying a program costs that has no host. It is this very program, and so starts as fast as one can.
//!
//! Flags after `--`: `--reloads N`. Figures are of the release build; the table goes to standard output.

mod plain;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Ecosystem, Guest, spoil};
use hdrhistogram::Histogram;
use serde_json::json;

/// Enough for a 99th percentile that is not the longest alone.
const RELOADS_DEFAULT: u64 = 200;

/// A reload that takes longer has failed.
const RELOAD_MAX: Duration = Duration::from_secs(10);

/// What the guest asks.
const COMMAND: &[u8] = b"version\n";

/// The ways that are measured: a label, flags of `install`, and whether a new file is tried out first. A subprocess is its
/// own trial, whatever the setting.
const WAYS: [(&str, &[&str], bool); 3] = [
    ("in-process", &[], true),
    ("without its trial", &[], false),
    ("subprocess", &["--isolate"], true),
];

/// Times in microseconds.
pub(crate) struct Times {
    /// From the file to the first reply of the new code.
    pub(crate) until_new: Histogram<u64>,
    /// The longest wait for one reply meanwhile.
    pub(crate) pauses: Histogram<u64>,
}

impl Times {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are possible");
        Times {
            until_new: histogram(),
            pauses: histogram(),
        }
    }

    pub(crate) fn add(&mut self, until_new: Duration, pause: Duration) {
        for (histogram, time) in [(&mut self.until_new, until_new), (&mut self.pauses, pause)] {
            let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            histogram.record(us).expect("it grows by itself");
        }
    }

    fn row(&self, label: &str) -> String {
        let ms = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1e3
        };
        format!(
            "{label:<18} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>9.2}",
            ms(&self.until_new, 0.5),
            ms(&self.until_new, 0.99),
            ms(&self.pauses, 0.5),
            ms(&self.pauses, 0.99),
            ms(&self.pauses, 1.0),
        )
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == plain::FLAG) {
        plain::serve(&arguments);
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` runs this file without the flag, in a debug build that measures nothing.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("reload measures under `cargo bench` alone");
        return ExitCode::SUCCESS;
    }
    let given = arguments
        .iter()
        .skip_while(|one| *one != "--reloads")
        .nth(1);
    let reloads = given.and_then(|number| number.parse().ok());
    let reloads = reloads.unwrap_or(RELOADS_DEFAULT);
    println!("{reloads} reloads each, ms");
    println!(
        "{:<18} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "new p50", "new p99", "pause p50", "pause p99", "pause max"
    );
    for (label, flags, has_trial) in WAYS {
        println!("{}", measure(flags, has_trial, reloads).row(label));
    }
    println!("{}", plain::measure(reloads).row("kill and restart"));
    ExitCode::SUCCESS
}

fn measure(flags: &[&str], has_trial: bool, reloads: u64) -> Times {
    let ecosystem = Ecosystem::start_with(Artefacts::released());
    let plain = fs::read(ecosystem.plugin("recipe")).expect("the plugin");
    let write = |name: &str, version: u64| {
        let bytes = spoil::of_recipe(plain.clone(), &json!({"version": version}));
        spoil::write(&ecosystem.scratch(), name, &bytes)
    };
    let source = write("source.so", 1);
    let settings = json!({"trial": has_trial, "probation_ms": 0}).to_string();
    let file = source.to_str().expect("a path in UTF-8");
    let install = ["install", "Recipe", file, "--settings", &settings];
    let _ = ecosystem.cli(&[&install, flags].concat()).ok();
    let mut guest = ecosystem.guest("Recipe");
    let mut times = Times::new();
    for version in 2..2 + reloads {
        let new = write("new.so", version);
        let began = Instant::now();
        fs::rename(new, &source).expect("a file of our own");
        let pause = until_version(&mut guest, version, began);
        times.add(began.elapsed(), pause);
    }
    times
}

/// Asks until that version answers; the longest wait for one reply.
fn until_version(guest: &mut Guest, version: u64, began: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        guest.send(COMMAND);
        let reply = guest.message();
        longest = longest.max(asked.elapsed());
        if reply.arguments == [json!(version)] {
            return longest;
        }
        assert!(
            began.elapsed() < RELOAD_MAX,
            "no version {version}: {reply:?}"
        );
    }
}
