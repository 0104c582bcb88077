//! The order in which daemons start: circles and missing or failing daemons are reported, and prevent no start.

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::json;

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The daemons, each with a part of its note in `status`.
const NOTES: [(&str, &str); 7] = [
    ("A", "circle of A, B, C"),
    ("B", "circle of A, B, C"),
    ("C", "circle of A, B, C"),
    ("Itself", "circle of Itself"),
    ("Alone", "there is no daemon Nobody"),
    (
        "Late",
        "Hangs, which it starts after, is starting after 200ms",
    ),
    ("Behind", "Fails, which it starts after, is failed"),
];

fn install_all(ecosystem: &Ecosystem, flags: &[&str]) {
    let file = ecosystem.plugin("lifecycle");
    let file = file.to_str().expect("UTF-8");
    for name in ["C", "B", "A", "Itself", "Alone", "Late", "Behind"] {
        let _ = ecosystem
            .cli(&[&["install", name, file], flags].concat())
            .ok();
    }
    for (name, start) in [("Hangs", "hang"), ("Fails", "fail")] {
        let config = json!({"start": start}).to_string();
        let arguments = ["install", name, file, "--config", &config];
        let _ = ecosystem.cli(&[&arguments[..], flags].concat()).ok();
    }
}

#[test]
fn whatever_stands_in_after_every_daemon_starts_and_status_tells_why() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::asleep();
        ecosystem.configure(&json!({
            "start_ms": 60_000,
            "daemons": {
                "A": {"after": ["B"]}, "B": {"after": ["C"]}, "C": {"after": ["A"]},
                "Itself": {"after": ["Itself"]},
                "Alone": {"after": ["Nobody"]},
                "Late": {"after": ["Hangs"], "after_ms": 200},
                "Behind": {"after": ["Fails", "A"]},
            },
        }));
        install_all(&ecosystem, flags);
        ecosystem.wake(&[]);
        for (name, notes) in NOTES {
            let status = ecosystem.until_state(name, "ready");
            let note = status["start_note"].as_str().unwrap_or_default();
            assert!(note.contains(notes), "{name}: {status:#}");
            ecosystem.until_logged(name, notes);
            let shown = ecosystem.cli(&["status", name]).ok().stdout;
            assert!(shown.contains("start order"), "{shown}");
        }
        let log = ecosystem.stderr();
        let answered = |name: &str| log.find(&format!(" {name}#1: generation 1 answers"));
        let order = ["A", "B", "C"].map(|name| answered(name).expect("it is logged"));
        assert!(order.is_sorted(), "{log}");
        // A daemon in a circle can be reloaded like any other.
        let _ = ecosystem.cli(&["reload", "A"]).ok();
        until(LIMIT, "it answers", || {
            ecosystem.status("A")["generation"] == 2
        });
        ecosystem.kill();
    }
}
