//! Supervision: what follows an instance's end, what ends one, and what a daemon in a process of its own may have.
//!
//! Each rule is shown in both modes where it holds in both. The policies are made small, so that a loop is found in
//! milliseconds; the table of the defaults is the supervisor's own unit test.

mod batches;
mod ends;
#[cfg(debug_assertions)]
mod faults;
mod limits;
mod loans;
mod places;
mod subprocess;

use std::io::Write as _;

use dae_tests::{Ecosystem, Guest};
use serde_json::Value;

/// Flags of `install`, for each place where a daemon's code may run.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// Longer than any test.
const FOR_EVER_MS: u64 = 3_600_000;

/// Installs the fixture as `Probe`, told what to do and how it is to be run.
#[track_caller]
fn probe(ecosystem: &Ecosystem, flags: &[&str], config: &Value, settings: &Value) -> Guest {
    let (config, settings) = (config.to_string(), settings.to_string());
    let flags = [flags, &["--config", &config, "--settings", &settings]].concat();
    ecosystem.install("Probe", "probe", &flags)
}

/// A text of `status`.
#[track_caller]
fn text<'s>(status: &'s Value, key: &str) -> &'s str {
    status[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key}: {status}"))
}

/// Sends lines that are answered as they stand, while it reads the answers: they don't all fit between the two.
#[track_caller]
fn expect_echoes(guest: &mut Guest, lines: &str) {
    let mut stream = guest.stream().try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(|| stream.write_all(lines.as_bytes()).expect("it is read"));
        for expected in lines.lines() {
            assert_eq!(guest.line(), expected);
        }
    });
}

#[track_caller]
fn process_of(ecosystem: &Ecosystem, name: &str) -> u32 {
    let status = ecosystem.status(name);
    let pid = status["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    pid.unwrap_or_else(|| panic!("{name} has no process: {status}"))
}
