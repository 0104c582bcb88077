//! The time from a save to the answer of the new code under `dev`: `cargo bench -p dae-tests --bench save_to_answer`.
//!
//! A crate of about 600 lines with serde, tokio and 40 commands is saved again and again, as an editor saves: a body, a
//! signature and a struct's fields in turn. `dev` watches one copy. The time starts with the `rename()` of the source,
//! and ends with the first answer of the new code on a connection that stays. After each save, a copy that nobody watches
//! gets the same one and is built by `cargo build` in the dev profile, for comparison; a third one with `--release`, for
//! a few of the saves.
//!
//! Flags after `--`: `--edits N` of each kind; `--growth N` saves in a row, with the host's resident memory instead of
//! times. The host is a release build. The table goes to standard output, all figures to
//! `target/bench/save_to_answer.json`.

mod crate_600;
#[path = "../figures/mod.rs"]
mod figures;

use std::fs::{self, File};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate_600::{Copy, Edit, Source};
use dae_tests::{Artefacts, Ecosystem, Guest, Running, process};
use figures::command_line;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The number of edits of each kind.
const EDITS_DEFAULT: u64 = 30;

/// One save in so many is built with `--release`, too: each takes seconds.
const RELEASE_EVERY: u64 = 10;

/// The longest build, the first of all dependencies included.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// The time between two questions for the new code. More would take time from the compiler.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// The saves between two looks at the memory.
const GROWTH_STEP: u64 = 50;

fn main() -> ExitCode {
    let Some(words) = command_line::words("save_to_answer") else {
        return ExitCode::SUCCESS;
    };
    let flags = [("--growth", 0), ("--edits", EDITS_DEFAULT)];
    let measured = command_line::numbers(&words, flags);
    let measured = measured.and_then(|[saves, edits]| match saves {
        0 => figures::keep("save_to_answer", times(edits)),
        saves => {
            growth(saves);
            Ok(())
        }
    });
    command_line::end("save_to_answer", measured)
}

/// A run of `dae-host dev` over a copy of the crate.
struct Author {
    // This field is dropped first: `dev` must end before its directory is deleted.
    dev: Running,
    copy: Copy,
    guest: Guest,
    ecosystem: Ecosystem,
}

impl Author {
    fn begin() -> Self {
        let ecosystem = Ecosystem::asleep_with(Artefacts::released());
        let copy = Copy::write(ecosystem.scratch().join("watched"));
        let log = File::create(crate_600::log_of(&copy.directory)).expect("a file of our own");
        let mut command = ecosystem.command();
        command
            .arg("dev")
            .arg(&copy.directory)
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("RUSTC_WRAPPER")
            .stderr(log);
        let mut dev = Running::start(&mut command);
        let told = dev.line_with("listens on", BUILD_MAX);
        let port = told
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|rest| rest.split(';').next());
        let port = port.and_then(|port| port.parse().ok()).expect("a port");
        Author {
            dev,
            copy,
            guest: Guest::connect(port),
            ecosystem,
        }
    }

    /// Saves, and returns the time until the new code answers.
    fn save(&mut self, source: Source) -> Duration {
        let began = Instant::now();
        self.copy.save(source);
        while self.guest.ask("number", &json!([])) != source.number {
            assert!(began.elapsed() < BUILD_MAX, "{}", self.log());
            thread::sleep(ASK_EVERY);
        }
        began.elapsed()
    }

    fn log(&self) -> String {
        fs::read_to_string(crate_600::log_of(&self.copy.directory)).unwrap_or_default()
    }

    fn end(mut self) {
        process::signal(self.dev.pid(), Signal::INT);
        assert_eq!(self.dev.end(BUILD_MAX), Some(0), "{}", self.log());
    }
}

/// Builds a copy with cargo, and returns the time that it takes.
fn build(copy: &Copy, profile: &str) -> Duration {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--offline", "--profile", profile])
        .current_dir(&copy.directory)
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null());
    let began = Instant::now();
    let status = command.status().expect("cargo can be run");
    assert!(
        status.success(),
        "cargo build in {}",
        copy.directory.display()
    );
    began.elapsed()
}

/// The times of the same saves, built in three ways.
#[derive(Default)]
struct Times {
    dev: Vec<f64>,
    cargo: Vec<f64>,
    release: Vec<f64>,
}

fn times(edits: u64) -> Value {
    let mut author = Author::begin();
    let scratch = author.ecosystem.scratch();
    let (plain, optimized) = (
        Copy::write(scratch.join("plain")),
        Copy::write(scratch.join("release")),
    );
    build(&plain, "dev");
    build(&optimized, "release");
    println!(
        "{} lines, {edits} edits of each kind, ms",
        crate_600::lines()
    );
    let mut source = Source::first();
    let mut by_kind = Edit::ALL.map(|edit| (edit, Times::default()));
    for round in 0..edits {
        for (edit, times) in &mut by_kind {
            source = source.edited(*edit);
            times.dev.push(ms(author.save(source)));
            plain.save(source);
            times.cargo.push(ms(build(&plain, "dev")));
            if round.is_multiple_of(RELEASE_EVERY) {
                optimized.save(source);
                times.release.push(ms(build(&optimized, "release")));
            }
        }
    }
    let log = author.log();
    author.end();
    let replayed = log.matches("saved → rustc").count();
    println!(
        "{replayed} of {} saves were built by the compiler alone",
        3 * edits
    );
    let figures = table(&mut by_kind);
    json!({"edits": edits, "replayed": replayed, "rows": figures, "phases": phases(&log)})
}

fn table(by_kind: &mut [(Edit, Times)]) -> Vec<Value> {
    println!(
        "{:<20} {:>8} {:>8} {:>10} {:>10} {:>9} {:>12} {:>12}",
        "", "dev p50", "dev p95", "cargo p50", "cargo p95", "release", "dev / cargo", "release/dev"
    );
    let mut all = Times::default();
    let mut rows = Vec::new();
    for (edit, times) in by_kind {
        rows.push(row(edit.name(), times));
        all.dev.append(&mut times.dev);
        all.cargo.append(&mut times.cargo);
        all.release.append(&mut times.release);
    }
    rows.push(row("all", &mut all));
    rows
}

fn row(label: &str, times: &mut Times) -> Value {
    let [dev, dev_95] = [0.5, 0.95].map(|part| quantile(&mut times.dev, part));
    let [cargo, cargo_95] = [0.5, 0.95].map(|part| quantile(&mut times.cargo, part));
    let release = quantile(&mut times.release, 0.5);
    println!(
        "{label:<20} {dev:>8.0} {dev_95:>8.0} {cargo:>10.0} {cargo_95:>10.0} {release:>9.0} {:>12.2} {:>12.1}",
        dev / cargo,
        release / dev
    );
    json!({"label": label, "dev_ms": {"p50": dev, "p95": dev_95}, "cargo_ms": {"p50": cargo, "p95": cargo_95}, "release_ms": release})
}

/// Returns the medians of the phases that `dev` prints for each save.
fn phases(log: &str) -> Value {
    let after = |word: &str| {
        let parts = log.lines().filter(|line| line.contains("saved → "));
        let numbers = parts.filter_map(|line| {
            line.split(word)
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        let mut numbers: Vec<f64> = numbers.collect();
        quantile(&mut numbers, 0.5)
    };
    let (rustc, take_over) = (after("rustc "), after("took over "));
    println!("phases, p50: rustc {rustc:.0} ms, take over {take_over:.0} ms");
    json!({"rustc_ms": rustc, "take_over_ms": take_over})
}

fn quantile(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let index = (times.len() as f64 * part) as usize;
    times
        .get(index.min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn growth(saves: u64) {
    let mut author = Author::begin();
    println!("{:>6} {:>9}", "saves", "MiB");
    let mut source = Source::first();
    for number in 1..=saves {
        source = source.edited(Edit::ALL[number as usize % 3]);
        author.save(source);
        if number.is_multiple_of(GROWTH_STEP) || number == 1 {
            let bytes = process::resident_bytes(author.dev.pid());
            println!("{number:>6} {:>9.1}", bytes as f64 / f64::from(1 << 20));
        }
    }
    author.end();
}
