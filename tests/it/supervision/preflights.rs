//! Preflights that share a process: many files start together, and a bad one among them is found and harms no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dae_tests::{Ecosystem, spoil};
use serde_json::{Value, json};

/// The files without a fault.
const GOOD: u64 = 40;

/// The faulty files: the step that fails, and a part of the reason that its daemon shows.
const BAD: [(&str, &str); 2] = [
    ("crash", "was killed by signal 11"),
    ("hang", "not loaded within 700ms"),
];

/// The most processes that a start of so many files may make: eight preflights at a time, as many for the files that are
/// tried again, and one in reserve.
const PROCESSES_MAX: usize = 8 + 2 * BAD.len() + 1;

/// Installs a file of a recipe in a home without a host, which tries nothing then.
fn install(ecosystem: &Ecosystem, name: &str, recipe: &Value) {
    let plugin = fs::read(ecosystem.plugin("recipe")).expect("the fixture");
    let plugin = spoil::of_recipe(plugin, recipe);
    let file = spoil::write(&ecosystem.scratch(), &format!("{name}.so"), &plugin);
    let file = file.to_str().expect("UTF-8");
    let _ = ecosystem.cli(&["install", name, file]).ok();
}

/// Counts the processes that the host records in a directory until it is over. It looks all the time, so that it misses
/// few.
fn recorded(records: &Path, is_over: &AtomicBool) -> usize {
    let mut seen = BTreeSet::new();
    while !is_over.load(Ordering::Relaxed) {
        let entries = fs::read_dir(records).into_iter().flatten();
        seen.extend(entries.flatten().map(|entry| entry.file_name()));
    }
    seen.len()
}

/// Starts a host, and waits until the good ones answer. Returns the number of processes that were made for it.
fn start_all(ecosystem: &mut Ecosystem, names: &[String]) -> usize {
    let (records, is_over) = (ecosystem.home().join("run/workers"), AtomicBool::new(false));
    thread::scope(|scope| {
        let seen = scope.spawn(|| recorded(&records, &is_over));
        ecosystem.wake(&[]);
        for (number, name) in names.iter().enumerate() {
            ecosystem.until_state(name, "ready");
            assert_eq!(ecosystem.guest(name).ask("version", &json!([])), number);
        }
        is_over.store(true, Ordering::Relaxed);
        seen.join().expect("a thread of ours")
    })
}

#[test]
fn many_files_are_tried_in_few_processes_and_a_bad_one_is_blamed_alone() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"defaults": {"preflight_ms": 700}}));
    let names = (0..GOOD).map(|number| format!("Good-{number}"));
    let names: Vec<String> = names.collect();
    for (number, name) in names.iter().enumerate() {
        install(&ecosystem, name, &json!({ "version": number }));
    }
    for (fate, _) in BAD {
        let recipe = json!({ "constructor": fate });
        install(&ecosystem, &format!("Bad-{fate}"), &recipe);
    }
    // The second time the good ones have states, which their preflights read.
    for when in ["the first start", "the second start"] {
        let processes = start_all(&mut ecosystem, &names);
        assert!(processes <= PROCESSES_MAX, "{when}: {processes} processes");
        for (fate, reason) in BAD {
            let name = format!("Bad-{fate}");
            let status = ecosystem.until_state(&name, "failed");
            let shown = status["reason"].as_str().expect("a reason");
            assert!(shown.contains(reason), "{when}: {status}");
            let logged = ecosystem.logged(&name);
            let is_there = logged.iter().any(|line| line.contains(reason));
            assert!(is_there, "{when}: {logged:?}");
        }
        ecosystem.stop();
    }
}
