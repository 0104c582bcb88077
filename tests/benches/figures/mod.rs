//! Figures of a bench as they are kept: in JSON under `target/bench`, with the day and the class of machine.
//!
//! Absolute figures belong to the machine; whoever compares two files looks at both first.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::fs;
use std::path::PathBuf;

use dae_tests::artefacts::target_directory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Where the figures of the bench of that name are kept.
pub(crate) fn file(bench: &str) -> PathBuf {
    target_directory()
        .join("bench")
        .join(format!("{bench}.json"))
}

/// Keeps the figures of a bench, an object, and says where.
///
/// Errors: the file can't be written.
pub(crate) fn keep(bench: &str, mut figures: Value) -> Result<(), String> {
    figures["date"] = json!(jiff::Zoned::now().date().to_string());
    figures["machine"] = json!(machine());
    let path = file(bench);
    let directory = path.parent().expect("a file of a directory");
    let written = fs::create_dir_all(directory);
    let written = written.and_then(|()| fs::write(&path, format!("{figures:#}\n")));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    eprintln!("all figures: {}", path.display());
    Ok(())
}

/// What the bench of that name has kept; `None` where it hasn't been run.
pub(crate) fn kept(bench: &str) -> Option<Value> {
    serde_json::from_slice(&fs::read(file(bench)).ok()?).ok()
}

/// The class of this machine: processors and kernel.
fn machine() -> String {
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

/// The middle value; of an even number, the mean of the two middle ones. Not a number where there are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Has the system allow this process, and what it starts from here on, so many descriptors.
///
/// Errors: its hard limit is lower.
pub(crate) fn allow_descriptors(wanted: u64) -> Result<(), String> {
    match descriptors_up_to(wanted) {
        had if had < wanted => Err(format!(
            "{wanted} descriptors are needed, and {had} can be had"
        )),
        _ => Ok(()),
    }
}

/// The same, as far as the hard limit goes; returns how many there may be.
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
