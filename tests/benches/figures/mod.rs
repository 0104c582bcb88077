//! The figures of a bench as they are stored: JSON under `target/bench`, with the date and the class of machine.
//!
//! Absolute figures depend on the machine. Compare date and machine first before comparing two files.

#![allow(dead_code, reason = "not every bench needs all of it")]

pub(crate) mod command_line;
pub(crate) mod spread;

use std::fs;
use std::path::PathBuf;

use dae_tests::artefacts::target_directory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Returns the file with the figures of the given bench.
pub(crate) fn file(bench: &str) -> PathBuf {
    target_directory()
        .join("bench")
        .join(format!("{bench}.json"))
}

/// Stores the figures of a bench, an object, and prints the path.
///
/// Returns an error if the file cannot be written.
pub(crate) fn keep(bench: &str, mut figures: Value) -> Result<(), String> {
    figures["date"] = json!(today());
    figures["machine"] = json!(machine());
    let path = file(bench);
    let directory = path.parent().expect("a file of a directory");
    let written = fs::create_dir_all(directory);
    let written = written.and_then(|()| fs::write(&path, format!("{figures:#}\n")));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    eprintln!("all figures: {}", path.display());
    Ok(())
}

/// Returns the stored figures of the given bench, or `None` if it has not been run.
pub(crate) fn kept(bench: &str) -> Option<Value> {
    serde_json::from_slice(&fs::read(file(bench)).ok()?).ok()
}

/// Returns today's date.
pub(crate) fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

/// Returns the class of this machine: processors and kernel.
pub(crate) fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |model| {
        model.trim_start_matches(['\t', ' ', ':'])
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = kernel.split('.').take(2).collect();
    format!("{processors} x {model}, Linux {}", kernel.join("."))
}

/// Returns the median: of an even number of values the mean of the two middle ones, of none NaN.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Raises the file descriptor limit of this process and of the processes it starts from now on.
///
/// Returns an error if the hard limit is lower.
pub(crate) fn allow_descriptors(wanted: u64) -> Result<(), String> {
    match descriptors_up_to(wanted) {
        had if had < wanted => Err(format!(
            "{wanted} descriptors are needed, and {had} can be had"
        )),
        _ => Ok(()),
    }
}

/// Raises the file descriptor limit as far as the hard limit allows, and returns the resulting limit.
pub(crate) fn descriptors_up_to(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = wanted.min(maximum.unwrap_or(wanted));
    if current.is_none_or(|current| current >= raised) {
        return current.unwrap_or(wanted);
    }
    let limit = Rlimit {
        current: Some(raised),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => raised,
        Err(_) => current.unwrap_or(wanted),
    }
}
