//! `dae-host log`: the level of a daemon's log, changed while it runs.

use dae_tests::{Ecosystem, Guest};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// Logs a text at each level, the least severe first. What is kept is in the log once the last one is there.
fn log_all(guest: &mut Guest, text: &str) {
    for level in ["debug", "info", "warn", "error"] {
        guest.ask("log", &json!([level, format!("{text} {level}")]));
    }
}

/// Returns the levels at which that text was logged.
fn kept(ecosystem: &Ecosystem, text: &str) -> Vec<String> {
    let messages = ecosystem.logged("Loud");
    let levels = messages.iter().filter_map(|message| {
        let level = message.strip_prefix(text)?.strip_prefix(' ')?;
        Some(level.to_owned())
    });
    levels.collect()
}

#[track_caller]
fn level(ecosystem: &Ecosystem, words: &[&str]) -> Value {
    let words = [&["--json", "log", "Loud"], words].concat();
    ecosystem.cli(&words).ok().json()
}

#[test]
fn a_level_outlasts_a_reload_and_ends_with_the_host() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Loud", "lifecycle", flags);
        assert_eq!(level(&ecosystem, &[])["level"], "debug");
        let changed = ecosystem.cli(&["log", "Loud", "WARN"]).ok();
        let keep = "config Loud set log_level=warn";
        assert!(changed.stdout.contains(keep), "{changed:?}");
        log_all(&mut guest, "one");
        ecosystem.until_logged("Loud", "one error");
        assert_eq!(kept(&ecosystem, "one"), ["warn", "error"], "{flags:?}");
        let _ = ecosystem.cli(&["reload", "Loud"]).ok();
        log_all(&mut guest, "two");
        ecosystem.until_logged("Loud", "two error");
        assert_eq!(kept(&ecosystem, "two"), ["warn", "error"], "{flags:?}");
        // The host's own records stay.
        ecosystem.until_logged("Loud", "generation 2 answers");
        let events = ecosystem.cli(&["events", "Loud"]).ok().stdout;
        assert!(
            events.contains(r#"log_level: "debug" → "warn" (until the host ends)"#),
            "{events}"
        );
        ecosystem.stop();
        ecosystem.wake(&[]);
        assert_eq!(level(&ecosystem, &[])["level"], "debug");
    }
}

#[test]
fn a_setting_keeps_a_level_and_ends_what_was_chosen() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Loud", "lifecycle", &[]);
    let off = level(&ecosystem, &["off"]);
    assert_eq!(
        (&off["level"], &off["setting"]),
        (&json!("off"), &json!("debug"))
    );
    let _ = ecosystem
        .cli(&["config", "Loud", "set", "log_level=info"])
        .ok();
    assert_eq!(level(&ecosystem, &[])["level"], "info");
    let _ = level(&ecosystem, &["error"]);
    assert_eq!(level(&ecosystem, &["default"])["level"], "info");
    log_all(&mut guest, "one");
    ecosystem.until_logged("Loud", "one error");
    assert_eq!(kept(&ecosystem, "one"), ["info", "warn", "error"]);
    ecosystem.stop();
    ecosystem.wake(&[]);
    assert_eq!(level(&ecosystem, &[])["level"], "info");
}

#[test]
fn a_wrong_level_or_name_is_told_with_the_nearest() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Loud", "lifecycle", &[]);
    for (words, code, told) in [
        (&["log", "Loud", "wran"][..], 2, "did you mean warn?"),
        (&["log", "Loud", "trace"], 2, "debug"),
        (&["log", "Dae", "warn"], 2, "RUST_LOG"),
        (&["log", "Loudd", "warn"], 4, "Loud"),
    ] {
        let output = ecosystem.cli(words).code(code);
        assert!(output.says(&[told]), "{words:?}: {output:?}");
    }
}
