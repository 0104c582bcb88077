//! The changes that a new file makes for callers, and `strict`, which refuses those that break one.
//!
//! The plugin `probe` has other commands than `recipe`: it lacks some, and one has other arguments.

use std::fs;
use std::path::Path;

use dae_tests::{LIMIT, Output, until};
use serde_json::json;

use super::{Kitchen, MODES, NAME, count_to, until_version, version};

/// Two changes of `probe` that break a caller of `recipe`.
const BREAKS: [&str; 2] = [
    "removed increment(mark: integer from 0)",
    "slow: mark was removed",
];

impl Kitchen {
    /// Replaces a file at once by the plugin `probe`.
    fn put_probe_at(&self, file: &Path) {
        let new = self.ecosystem.scratch().join("probe.so");
        fs::copy(self.ecosystem.plugin("probe"), &new).expect("a copy");
        fs::rename(&new, file).expect("a file of our own");
    }

    fn replace_strictly_by_probe(&self) -> Output {
        let probe = self.ecosystem.plugin("probe");
        self.install_file(&probe, &["--replace", "--strict"])
    }
}

#[track_caller]
fn assert_names_the_breaks(text: &str) {
    for part in BREAKS {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// Asserts that version 1 runs on, with its state, and that nothing is quarantined.
#[track_caller]
fn assert_untouched(kitchen: &Kitchen) {
    let mut guest = kitchen.ecosystem.guest(NAME);
    assert_eq!(version(&mut guest), 1);
    assert_eq!(guest.ask("count", &json!([])), 3);
    let status = kitchen.ecosystem.status(NAME);
    assert_eq!(status["generation"], 1, "{status}");
    assert_eq!(status["quarantined"], json!({}), "{status}");
    let reason = status["last_refusal"]["reason"].as_str().expect("a reason");
    assert_names_the_breaks(reason);
    assert!(reason.contains("`strict` false"), "{reason}");
}

#[test]
fn strict_refuses_what_breaks_a_caller_before_anything_is_touched() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        let refused = kitchen.replace_strictly_by_probe().code(1);
        assert_names_the_breaks(&refused.stderr);
        assert_untouched(&kitchen);

        let accepted = kitchen.replace(&json!({"version": 2}), &["--strict"]).ok();
        assert!(!accepted.stdout.contains("commands:"), "{accepted:#?}");
        until_version(&mut guest, 2);
        // Without `strict`, nothing is refused.
        kitchen.put_probe_at(&kitchen.ecosystem.scratch().join("replacement.so"));
        until(LIMIT, "the new file runs", || {
            kitchen.ecosystem.status(NAME)["generation"] == 3
        });
        let refused = kitchen.ecosystem.cli(&["rollback", NAME, "--strict"]);
        let refused = refused.code(1);
        assert!(refused.says(&["removed echo(any: any)"]), "{refused:#?}");
        let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
        until_version(&mut guest, 2);
    }
}

#[test]
fn the_setting_refuses_a_new_file_too_and_one_order_may_override_it() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let settings = ["--settings", r#"{"strict": true}"#];
        let (source, mut guest) = kitchen.install(&[flags, &settings].concat());
        count_to(&mut guest, 3);
        kitchen.put_probe_at(&source);
        until(LIMIT, "the new file is refused", || {
            kitchen.ecosystem.status(NAME)["last_refusal"]["change"] == "the new file"
        });
        assert_untouched(&kitchen);
        let refused = kitchen.ecosystem.cli(&["reload", NAME]).code(1);
        assert_names_the_breaks(&refused.stderr);
        assert_untouched(&kitchen);

        let accepted = kitchen.ecosystem.cli(&["reload", NAME, "--strict=false"]);
        let accepted = accepted.ok();
        for part in BREAKS {
            let part = format!("{part} (breaks callers)");
            assert!(accepted.stdout.contains(&part), "{part} in {accepted:#?}");
        }
        let status = kitchen.ecosystem.status(NAME);
        assert_eq!(status["generation"], 2, "{status}");
        assert_eq!(status["last_refusal"], json!(null), "{status}");
    }
}

#[test]
fn a_stopped_daemon_keeps_its_file_if_the_new_one_breaks_a_caller() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
        let refused = kitchen.replace_strictly_by_probe().code(1);
        assert_names_the_breaks(&refused.stderr);

        // The same while no host runs.
        kitchen.ecosystem.stop();
        let refused = kitchen.replace_strictly_by_probe().code(1);
        assert_names_the_breaks(&refused.stderr);
        kitchen.ecosystem.wake(&[]);
        let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
        let mut guest = kitchen.ecosystem.guest(NAME);
        assert_eq!(version(&mut guest), 1);
        assert_eq!(guest.ask("count", &json!([])), 3);
    }
}

#[test]
fn a_first_installation_has_no_callers() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&["--strict"]);
    assert_eq!(version(&mut guest), 1);
}
