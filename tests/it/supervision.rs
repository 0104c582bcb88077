//! Supervision: the ends of instances and what follows them, and the limits of subprocesses.
//!
//! Rules that hold in both modes are tested in both. The policies use small numbers, so that a crash loop is found
//! within milliseconds; the supervisor's unit tests cover the defaults.

mod async_hand_offs;
mod batches;
mod ends;
#[cfg(debug_assertions)]
mod faults;
mod hand_offs;
mod limits;
mod places;
mod preflights;
mod reserve;
mod subprocess;

use std::io::Write as _;

use dae_tests::{Ecosystem, Guest};
use serde_json::Value;

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// A time that is longer than any test (ms).
const FOR_EVER_MS: u64 = 3_600_000;

/// Installs the fixture as `Probe` with that config and those settings.
#[track_caller]
fn probe(ecosystem: &Ecosystem, flags: &[&str], config: &Value, settings: &Value) -> Guest {
    let (config, settings) = (config.to_string(), settings.to_string());
    let flags = [flags, &["--config", &config, "--settings", &settings]].concat();
    ecosystem.install("Probe", "probe", &flags)
}

/// Returns the text of a member of `status`.
#[track_caller]
fn text<'s>(status: &'s Value, key: &str) -> &'s str {
    status[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key}: {status}"))
}

/// Sends lines that are answered unchanged, and reads the answers at the same time: the buffers can't hold them all.
#[track_caller]
pub(crate) fn expect_echoes(guest: &mut Guest, lines: &str) {
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
