//! A disk that doesn't take the registry: a change that is made all the same is told as what it was, with the part that failed.

use std::fs;

use dae_tests::{Ecosystem, LIMIT, until_some};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// A home whose registry can't be written: a directory that holds something is in its place.
struct Unwritable<'e> {
    ecosystem: &'e Ecosystem,
    kept: Vec<u8>,
}

impl<'e> Unwritable<'e> {
    fn of(ecosystem: &'e Ecosystem) -> Self {
        let path = ecosystem.home().join("registry.json");
        let kept = fs::read(&path).expect("the registry");
        fs::remove_file(&path).expect("the registry");
        fs::create_dir_all(path.join("in the way")).expect("a directory");
        Unwritable { ecosystem, kept }
    }
}

impl Drop for Unwritable<'_> {
    fn drop(&mut self) {
        let path = self.ecosystem.home().join("registry.json");
        let put_back = fs::remove_dir_all(&path).and_then(|()| fs::write(&path, &self.kept));
        put_back.expect("the registry as it was");
    }
}

#[track_caller]
fn kinds(ecosystem: &Ecosystem) -> Vec<String> {
    let events = ecosystem.cli(&["--json", "events", "Sample"]).ok();
    let kind = |event: Value| event["event"].as_str().expect("a kind").to_owned();
    events.json_lines().into_iter().map(kind).collect()
}

/// Changes that are made before they are recorded, each with the state after it and the kinds of its events.
const CHANGES: [(&str, &str, &[&str]); 3] = [
    ("stop", "stopped", &["stopped", "unrecorded"]),
    ("start", "ready", &["started", "ready", "unrecorded"]),
    ("restart", "ready", &["ready", "reloaded", "unrecorded"]),
];

/// Makes a change that can't be recorded, and checks all that tells of it.
#[track_caller]
fn check(ecosystem: &Ecosystem, (command, state, expected): (&str, &str, &[&str])) {
    let before = kinds(ecosystem).len();
    let output = ecosystem.cli(&[command, "Sample"]).code(1);
    let told = "it is done, but won't outlive the host: ";
    assert!(output.stderr.contains(told), "{command}: {output:?}");
    let status = ecosystem.cli(&["--json", "status", "Sample"]).json();
    let shown = (&status["state"], &status["last_refusal"]);
    assert_eq!(shown, (&json!(state), &json!(null)), "{command}");
    assert_eq!(kinds(ecosystem)[before..], *expected, "{command}");
    let events = ecosystem.cli(&["--json", "events", "Sample"]).ok();
    let last = events.json_lines().pop().expect("an event");
    let shown = (&last["change"], &last["cause_kind"]);
    assert_eq!(shown, (&json!(command), &json!("disk")));
    let logged = until_some(LIMIT, "the log has it", || {
        let found = ecosystem.logged("Sample").into_iter().rev();
        found
            .take(5)
            .find(|text| text.contains("won't outlive the host"))
    });
    assert!(logged.contains("registry.json"), "{logged}");
}

#[test]
fn a_change_that_is_made_and_not_recorded_is_no_refusal() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _guest = ecosystem.install("Sample", "sample", flags);
        let unwritable = Unwritable::of(&ecosystem);
        for change in CHANGES {
            check(&ecosystem, change);
        }
        drop(unwritable);
        let _ = ecosystem.cli(&["stop", "Sample"]).ok();
        assert_eq!(
            kinds(&ecosystem).last().map(String::as_str),
            Some("stopped")
        );
        let told = ecosystem.cli(&["explain", "Sample"]).ok().stdout;
        assert!(
            told.contains("stop is done, and won't outlive the host"),
            "{told}"
        );
    }
}

/// A change that can't be made without a record is still refused, and undone.
#[test]
fn an_install_that_is_not_recorded_is_undone() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let unwritable = Unwritable::of(&ecosystem);
    let file = ecosystem.plugin("counter").display().to_string();
    let replace = ["install", "Sample", &file, "--replace"];
    let output = ecosystem.cli(&replace).code(1);
    assert!(output.says(&["refused Sample"]), "{output:?}");
    let found = kinds(&ecosystem);
    assert_eq!(
        found.last().map(String::as_str),
        Some("refused"),
        "{found:?}"
    );
    drop(unwritable);
}
