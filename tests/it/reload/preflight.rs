//! The preflight of a new file in a process of its own: its default steps, and those that the author or the owner adds.

use std::path::PathBuf;

use dae_tests::{Guest, Output};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, version};

/// The fixture `tried`'s answer to `version`.
const TRIED: u64 = 2000;

/// A kitchen whose daemon has counted to 5, and the file into which the next daemon writes its diary.
struct Trying {
    kitchen: Kitchen,
    guest: Guest,
    diary: PathBuf,
}

impl Trying {
    fn begin(flags: &[&str]) -> Self {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let diary = kitchen.ecosystem.scratch().join("diary");
        Trying {
            kitchen,
            guest,
            diary,
        }
    }

    /// Replaces the daemon by the fixture `tried`.
    fn replace(&self, config: &Value, settings: &Value) -> Output {
        let mut config = config.clone();
        config["diary"] = json!(self.diary);
        let (config, settings) = (config.to_string(), settings.to_string());
        let file = self.kitchen.ecosystem.plugin("tried");
        let flags = ["--replace", "--config", &config, "--settings", &settings];
        self.kitchen.install_file(&file, &flags)
    }

    /// Returns the diary: each start with its count, and each stop.
    fn starts_and_stops(&self) -> Vec<String> {
        let diary = std::fs::read_to_string(&self.diary).unwrap_or_default();
        diary.lines().map(str::to_owned).collect()
    }
}

#[test]
fn an_author_may_have_the_start_tried_with_a_copy_of_the_state() {
    for flags in MODES {
        let mut trying = Trying::begin(flags);
        let output = trying.replace(&json!({"aborts": true}), &json!({})).code(1);
        assert!(
            output
                .stderr
                .contains("its preflight failed: its process was killed by signal 6"),
            "{output:#?}"
        );
        let output = trying.replace(&json!({"fails_to_stop": true}), &json!({}));
        let output = output.code(1);
        assert!(output.says(&["stop was asked to fail"]), "{output:#?}");
        assert_eq!(version(&mut trying.guest), 1);
        std::fs::remove_file(&trying.diary).expect("the second one's");
        let _ = trying.replace(&json!({}), &json!({})).ok();
        assert_eq!(version(&mut trying.guest), TRIED);
        assert_eq!(trying.guest.ask("count", &json!([])), 5);
        assert_eq!(trying.starts_and_stops(), ["start 5", "stop", "start 5"]);
    }
}

#[test]
fn an_owner_has_the_last_word() {
    for (preflight, expected) in [
        (json!(true), &["start 5"][..]),
        (json!(false), &["start 5"]),
        (json!("start"), &["start 5", "stop", "start 5"]),
    ] {
        let mut trying = Trying::begin(&[]);
        let _ = trying
            .replace(&json!({}), &json!({"preflight": preflight}))
            .ok();
        assert_eq!(version(&mut trying.guest), TRIED);
        assert_eq!(trying.starts_and_stops(), expected, "{preflight}");
    }
}

/// Without the start in the preflight, this crash would be the host's.
#[test]
fn an_owner_may_have_a_start_tried_whose_author_says_nothing() {
    let settings = json!({"preflight": "start"}).to_string();
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&["--settings", &settings]);
    count_to(&mut guest, 5);
    let output = kitchen.replace(&json!({"version": 2, "start": "crash"}), &[]);
    let output = output.code(1);
    assert!(
        output
            .stderr
            .contains("its preflight failed: its process was killed by signal 11"),
        "{output:#?}"
    );
    assert_eq!(version(&mut guest), 1);
    assert_eq!(guest.ask("count", &json!([])), 5);
    assert_eq!(kitchen.ecosystem.status(NAME)["generation"], 1);
}

/// A start in the preflight would fail: the running instance holds the lock.
#[test]
fn one_that_must_be_alone_is_never_started_for_a_preflight() {
    let kitchen = Kitchen::open();
    let config = json!({"lock": kitchen.ecosystem.scratch().join("lock")}).to_string();
    let settings = json!({"preflight": "start"}).to_string();
    let flags = ["--config", &config, "--settings", &settings];
    let file = kitchen.ecosystem.plugin("migrating");
    let _ = kitchen.install_file(&file, &flags).ok();
    let output = kitchen.ecosystem.cli(&["reload", NAME]).ok();
    assert!(output.stdout.starts_with("accepted"), "{output:#?}");
}

#[test]
fn a_word_that_is_no_preflight_is_told() {
    let kitchen = Kitchen::open();
    let file = kitchen.file("source.so", &json!({"version": 1}));
    let output = kitchen.install_file(&file, &["--settings", r#"{"preflight": "run"}"#]);
    let output = output.code(1);
    assert!(
        output.stderr.contains(r#"true, false or "start""#),
        "{output:#?}"
    );
}
