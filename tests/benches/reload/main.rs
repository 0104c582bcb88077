//! The time of a reload, and the pause that a guest notices: `cargo bench -p dae-tests --bench reload`.
//!
//! The time starts with the `rename()` of a new file over a daemon's source, as builds and deployments do it. It ends
//! with the new code's first reply to a guest that sends commands all the time on one connection. The kernel notifies
//! the host of the file, as in production. The guest's longest wait for one reply during a reload is the pause. Each
//! file has new content, so that every reload loads a library, and has the size of a plugin built by cargo with default
//! settings.
//!
//! For comparison, a process with the same work is killed and started again, and its guest reconnects until it gets an
//! answer. This is the cost of deploying a program without a host. The process is this program itself, so it starts as
//! fast as possible.
//!
//! Flags after `--`: `--reloads N`; `--growth` measures the memory growth instead, and `--state 100MB` the pause and the
//! memory with a state of that size. The figures are for the release build. The table goes to standard output, all
//! figures to `target/bench/reload.json` (`reload_growth.json`, `reload_state.json`).

#[path = "../figures/mod.rs"]
mod figures;
mod growth;
mod plain;
#[path = "../../fixtures/bulky/src/records.rs"]
mod records;
mod states;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Ecosystem, Guest, spoil};
use figures::command_line;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The number of reloads: enough that the 99th percentile is not just the maximum.
const RELOADS_DEFAULT: u64 = 200;

/// The limit after which a reload has failed.
const RELOAD_MAX: Duration = Duration::from_secs(10);

/// The time between two reloads. After a swap the host stores what runs and removes what is unused. That work must not
/// count towards the next reload.
const REST: Duration = Duration::from_millis(50);

/// The command that the guest sends.
const COMMAND: &[u8] = b"version\n";

/// The measured ways: a label, flags of `install`, and whether a new file gets a preflight. A subprocess is its own
/// preflight, whatever the setting.
const WAYS: [(&str, &[&str], bool); 3] = [
    ("in-process", &[], true),
    ("without its preflight", &[], false),
    ("subprocess", &["--isolate"], true),
];

/// The measured times, in microseconds.
pub(crate) struct Times {
    /// The time from the new file to the first reply of the new code.
    until_new: Histogram<u64>,
    /// The longest wait for one reply during the reload.
    pauses: Histogram<u64>,
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
        let [new, pause] = [&self.until_new, &self.pauses];
        format!(
            "{label:<18} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>9.2}",
            ms(new, 0.5),
            ms(new, 0.99),
            ms(pause, 0.5),
            ms(pause, 0.99),
            ms(pause, 1.0),
        )
    }

    fn json(&self, label: &str) -> Value {
        let figures = |histogram| json!({"p50": ms(histogram, 0.5), "p99": ms(histogram, 0.99), "max": ms(histogram, 1.0)});
        json!({"label": label, "new_ms": figures(&self.until_new), "pause_ms": figures(&self.pauses)})
    }
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == plain::FLAG) {
        plain::serve(&arguments);
        return ExitCode::SUCCESS;
    }
    let Some(mut words) = command_line::words("reload") else {
        return ExitCode::SUCCESS;
    };
    let measured = Subject::taken_from(&mut words).and_then(|subject| subject.measure(&words));
    command_line::end(
        "reload",
        measured.and_then(|(name, figures)| figures::keep(name, figures)),
    )
}

/// The subject of the measurement.
enum Subject {
    /// The time of reloads, and their pause.
    Times,
    /// The memory that they leave behind.
    Growth,
    /// The pause and the memory with a state of so many bytes.
    State(u64),
}

impl Subject {
    /// Takes the flag that chooses the subject from the command line.
    fn taken_from(words: &mut Vec<String>) -> Result<Self, String> {
        if let Some(at) = words.iter().position(|word| word == "--growth") {
            words.remove(at);
            return Ok(Subject::Growth);
        }
        let Some(at) = words.iter().position(|word| word == "--state") else {
            return Ok(Subject::Times);
        };
        let taken: Vec<_> = words.drain(at..words.len().min(at + 2)).collect();
        let size = taken.get(1).ok_or("--state takes a size, such as 100MB")?;
        states::size(size).map(Subject::State)
    }

    /// Measures it. Returns the name of the file with the figures, and the figures.
    fn measure(self, words: &[String]) -> Result<(&'static str, Value), String> {
        let reloads = |default| {
            let numbers = command_line::numbers(words, [("--reloads", default)]);
            numbers.map(|[reloads]| reloads)
        };
        Ok(match self {
            Subject::Times => ("reload", all_ways(reloads(RELOADS_DEFAULT)?)),
            Subject::Growth => (
                "reload_growth",
                growth::measure(reloads(growth::RELOADS_DEFAULT)?),
            ),
            Subject::State(bytes) => (
                "reload_state",
                states::measure(bytes, reloads(states::RELOADS_DEFAULT)?),
            ),
        })
    }
}

fn all_ways(reloads: u64) -> Value {
    println!("{reloads} reloads each, ms");
    println!(
        "{:<18} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "new p50", "new p99", "pause p50", "pause p99", "pause max"
    );
    let mut rows = Vec::new();
    let mut tell = |label: &str, times: &Times| {
        println!("{}", times.row(label));
        rows.push(times.json(label));
    };
    for (label, flags, has_preflight) in WAYS {
        tell(label, &measure(flags, has_preflight, reloads));
    }
    tell("kill and restart", &plain::measure(reloads));
    json!({"reloads": reloads, "rows": rows})
}

fn measure(flags: &[&str], has_preflight: bool, reloads: u64) -> Times {
    let bakery = Bakery::open();
    let settings = json!({"preflight": has_preflight, "rollback_window_ms": 0});
    let (source, mut guest) = bakery.install(&settings, flags);
    let mut times = Times::new();
    for version in 2..2 + reloads {
        let new = bakery.bake("new.so", version);
        std::thread::sleep(REST);
        let began = Instant::now();
        fs::rename(new, &source).expect("a file of our own");
        let pause = until_version(&mut guest, version, began);
        times.add(began.elapsed(), pause);
    }
    times
}

/// An ecosystem, and a plugin from which any number of versions can be made.
pub(crate) struct Bakery {
    pub(crate) ecosystem: Ecosystem,
    plain: Vec<u8>,
}

impl Bakery {
    pub(crate) fn open() -> Self {
        let ecosystem = Ecosystem::start_with(Artefacts::released());
        let plain = fs::read(ecosystem.plugin("recipe")).expect("the plugin");
        Bakery { ecosystem, plain }
    }

    pub(crate) fn bake(&self, name: &str, version: u64) -> PathBuf {
        let bytes = spoil::of_recipe(self.plain.clone(), &json!({"version": version}));
        spoil::write(&self.ecosystem.scratch(), name, &bytes)
    }

    /// Installs version 1 as `Recipe`. Returns its file and a guest.
    pub(crate) fn install(&self, settings: &Value, flags: &[&str]) -> (PathBuf, Guest) {
        let source = self.bake("source.so", 1);
        let settings = settings.to_string();
        let install = ["install", "Recipe", text(&source), "--settings", &settings];
        let _ = self.ecosystem.cli(&[&install, flags].concat()).ok();
        let guest = self.ecosystem.guest("Recipe");
        (source, guest)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Sends commands until the given version answers. Returns the longest wait for one reply.
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
