//! `dae-host upgrade`: new files for several daemons, in batches, up to the first failure.

use std::path::{Path, PathBuf};

use dae_tests::Ecosystem;
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// Installs daemons from copies of the same plugin, and returns a directory in which each has a file of that name.
fn installed(ecosystem: &Ecosystem, names: &[&str], flags: &[&str]) -> PathBuf {
    let (old, new) = (
        ecosystem.scratch().join("old"),
        ecosystem.scratch().join("new"),
    );
    for dir in [&old, &new] {
        std::fs::create_dir_all(dir).expect("a directory");
    }
    for name in names {
        let file = old.join(format!("{name}.so"));
        std::fs::copy(ecosystem.plugin("counter"), &file).expect("a copy");
        let file = file.to_str().expect("UTF-8");
        let words = [&["install", name, file], flags].concat();
        let _ = ecosystem.cli(&words).ok();
    }
    new
}

/// Puts a plugin into the directory as the file of that daemon.
fn put(ecosystem: &Ecosystem, dir: &Path, name: &str, library: &str) {
    let file = dir.join(format!("{name}.so"));
    std::fs::copy(ecosystem.plugin(library), file).expect("a copy");
}

/// Puts the counter there with other content: bytes behind its end that nobody reads.
fn put_edited(ecosystem: &Ecosystem, dir: &Path, name: &str) {
    let mut bytes = std::fs::read(ecosystem.plugin("counter")).expect("the plugin");
    bytes.extend_from_slice(b"edited");
    std::fs::write(dir.join(format!("{name}.so")), bytes).expect("a file");
}

/// Returns the outcome of each daemon.
fn outcomes(document: &Value) -> Vec<(&str, &str)> {
    let rows = document.as_array().expect("an array").iter();
    rows.map(|row| {
        let [name, outcome] = ["name", "outcome"].map(|key| row[key].as_str());
        (name.expect("a name"), outcome.expect("an outcome"))
    })
    .collect()
}

#[test]
fn all_with_a_file_are_upgraded_and_keep_their_state() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let new = installed(&ecosystem, &["A", "B", "C"], flags);
        let mut guest = ecosystem.guest("A");
        guest.ask("increment", &json!([5]));
        put_edited(&ecosystem, &new, "A");
        put(&ecosystem, &new, "B", "counter");
        let dir = new.to_str().expect("UTF-8");
        let words = [
            "--json", "upgrade", "--all", dir, "--batch", "2", "--pause", "300ms",
        ];
        let output = ecosystem.cli(&words).ok();
        assert_eq!(
            outcomes(&output.json()),
            [("A", "upgraded"), ("B", "unchanged"), ("C", "no-file")]
        );
        assert_eq!(
            guest.ask("count", &json!([])),
            5,
            "state and connection stay"
        );
        let source = ecosystem.status("A")["source"].clone();
        assert_eq!(source.as_str().map(Path::new), Some(&*new.join("A.so")));
    }
}

#[test]
fn the_first_failure_ends_it_and_nothing_is_lost() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let new = installed(&ecosystem, &["A", "B", "C"], flags);
        put_edited(&ecosystem, &new, "A");
        put_edited(&ecosystem, &new, "C");
        std::fs::write(new.join("B.so"), "no plugin").expect("a file");
        let dir = new.to_str().expect("UTF-8");
        let failed = ecosystem.cli(&["--json", "upgrade", "--all", dir]).code(1);
        assert_eq!(
            outcomes(&failed.json()),
            [("A", "upgraded"), ("B", "failed"), ("C", "not-tried")]
        );
        assert!(failed.says(&["B.so is text"]), "{failed:?}");
        assert_eq!(ecosystem.status("B")["state"], "ready");
        put(&ecosystem, &new, "A", "counter");
        put(&ecosystem, &new, "B", "no_daemon");
        let bad = new.join("B.so");
        let bad = bad.to_str().expect("UTF-8");
        let output = ecosystem.cli(&["upgrade", "B", bad]).code(1);
        assert!(output.stdout.contains("failed: "), "{output:?}");
        assert_eq!(ecosystem.status("B")["state"], "ready");
    }
}

#[test]
fn code_that_does_not_last_through_the_pause_is_a_failure() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let file = ecosystem.plugin("probe");
        let config = ["--config", r#"{"run": "fail", "run_ms": 600}"#];
        let flags = [flags, &config].concat();
        let new = installed(&ecosystem, &["A", "B"], &flags);
        // The counter takes any config; the probe runs by it, and fails.
        for name in ["A", "B"] {
            std::fs::copy(&file, new.join(format!("{name}.so"))).expect("a copy");
        }
        let dir = new.to_str().expect("UTF-8");
        let words = ["--json", "upgrade", "--all", dir, "--pause", "20s"];
        let document = ecosystem.cli(&words).code(1).json();
        assert_eq!(outcomes(&document), [("A", "failed"), ("B", "not-tried")]);
        let reason = document[0]["error"]["message"].as_str().unwrap_or_default();
        assert!(reason.contains("run was asked to fail"), "{document}");
        assert_eq!(
            ecosystem.status("A")["plugin"],
            "Counter",
            "it was rolled back"
        );
        assert_eq!(ecosystem.status("B")["plugin"], "Counter");
    }
}

#[test]
fn wrong_words_names_and_directories_are_told() {
    let ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    for words in [
        &["upgrade"][..],
        &["upgrade", "Counter"],
        &["upgrade", "--batch", "0", "--all", "."],
    ] {
        let _ = ecosystem.cli(words).code(2);
    }
    let output = ecosystem.cli(&["upgrade", "Count", "x.so"]).code(4);
    assert!(output.says(&["did you mean Counter"]), "{output:?}");
    let output = ecosystem
        .cli(&["upgrade", "Counter", "/nowhere.so"])
        .code(1);
    assert!(output.stdout.contains("/nowhere.so"), "{output:?}");
    let output = ecosystem.cli(&["upgrade", "--all", "/nowhere"]).code(1);
    assert!(output.says(&["/nowhere"]), "{output:?}");
}
