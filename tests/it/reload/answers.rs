//! Requests for a reload, in every form, and the one line that answers each.

use std::fs;

use dae_tests::{LIMIT, spoil, until};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, until_version, version};

/// Asserts a form like `accepted Recipe generation 2 (a1b2c3d4, 12 ms, state 34 B)`.
#[track_caller]
fn assert_accepted(line: &str, generation: u64, has_state: bool) {
    let start = format!("accepted {NAME} generation {generation} (");
    let rest = line.trim_end().strip_prefix(&start);
    let inside = rest.and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = inside.unwrap_or_default().split(", ").collect();
    let is_number = |part: &&str, unit: &str| {
        let number = part.strip_suffix(unit);
        number.is_some_and(|number| number.trim().parse::<u64>().is_ok())
    };
    let is_right = match parts.as_slice() {
        [hash, ms] => !has_state && hash.len() >= 8 && is_number(ms, "ms"),
        [hash, ms, state] => {
            let bytes = state.strip_prefix("state ").unwrap_or_default();
            has_state && hash.len() >= 8 && is_number(ms, "ms") && is_number(&bytes, "B")
        }
        _ => false,
    };
    assert!(is_right, "not as it should be: {line}");
}

#[test]
fn a_file_that_is_copied_over_the_source_takes_over() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (source, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let new = kitchen.file("new.so", &json!({"version": 2}));
        fs::copy(new, &source).expect("a file of our own");
        until_version(&mut guest, 2);
        assert_eq!(guest.ask("count", &json!([])), 5);
    }
}

#[test]
fn a_file_that_is_moved_over_the_source_takes_over() {
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    for version in [2, 3, 2] {
        let new = kitchen.file("new.so", &json!({"version": version}));
        fs::rename(new, &source).expect("a file of our own");
        until_version(&mut guest, version);
        assert_eq!(guest.ask("count", &json!([])), 5);
    }
}

#[test]
fn a_source_that_somebody_writes_in_steps_takes_over_when_it_is_whole() {
    use std::io::Write as _;
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let bytes = kitchen.bytes(&json!({"version": 2}));
    for part in bytes.chunks(bytes.len() / 4 + 1).enumerate() {
        // The file is opened and closed for each part, so that it seems complete each time.
        let mut options = fs::File::options();
        options.append(part.0 > 0).write(true).truncate(part.0 == 0);
        let mut file = options.open(&source).expect("a file of our own");
        file.write_all(part.1).expect("room on the disk");
        drop(file);
        if part.0 < 3 {
            assert_eq!(version(&mut guest), 1);
        }
    }
    until_version(&mut guest, 2);
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn a_busy_neighbour_of_the_source_does_not_hold_it_up() {
    use std::io::Write as _;
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    let log = kitchen.ecosystem.scratch().join("busy.log");
    let mut log = fs::File::create(log).expect("a file of our own");
    let new = kitchen.file("new.so", &json!({"version": 2}));
    fs::rename(new, &source).expect("a file of our own");
    // A program logs into the same directory all the time.
    until(LIMIT, "version 2 answers", || {
        log.write_all(b"busy\n").expect("room on the disk");
        version(&mut guest) == 2
    });
}

#[test]
fn a_file_dropped_in_anew_takes_over() {
    let kitchen = Kitchen::open();
    let drop_in = kitchen.ecosystem.home().join("plugins");
    let old = kitchen.bytes(&json!({"version": 1}));
    spoil::write(&drop_in, "recipe.so", &old);
    kitchen.ecosystem.until_state(NAME, "ready");
    let mut guest = kitchen.ecosystem.guest(NAME);
    count_to(&mut guest, 5);
    let new = kitchen.bytes(&json!({"version": 2}));
    spoil::write(&drop_in, "recipe.so", &new);
    until_version(&mut guest, 2);
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn the_answer_is_one_line_and_the_exit_code_follows_it() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (source, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let output = kitchen.replace(&json!({"version": 2}), &[]).ok();
        assert_accepted(&output.stdout, 2, true);
        assert_eq!(version(&mut guest), 2);
        let output = kitchen.ecosystem.cli(&["reload", NAME]).ok();
        assert_accepted(&output.stdout, 3, true);
        assert_eq!(version(&mut guest), 2);
        let output = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
        assert_accepted(&output.stdout, 4, true);
        assert_eq!(version(&mut guest), 1);
        let output = kitchen.replace(&json!({"version": 3, "start": "fail"}), &[]);
        let output = output.code(1);
        assert!(
            output.stderr.contains("refused Recipe: ")
                && output.stderr.contains("start was asked to fail")
                && output.stderr.contains("; generation 4 runs on"),
            "{output:#?}"
        );
        assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output:#?}");
        assert_eq!(version(&mut guest), 1);
        assert_eq!(guest.ask("count", &json!([])), 5);
        drop(source);
    }
}

#[test]
fn a_source_that_has_gone_is_no_reload_and_harms_nobody() {
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    fs::remove_file(source).expect("a file of our own");
    let output = kitchen.ecosystem.cli(&["reload", NAME]).code(1);
    assert!(output.says(&["runs on"]), "{output:#?}");
    assert_eq!(version(&mut guest), 1);
}

#[test]
fn of_many_reloads_asked_for_at_once_the_last_content_wins() {
    const ASKED: u64 = 20;
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let mut controls: Vec<_> = (0..ASKED).map(|_| kitchen.ecosystem.control()).collect();
    for (version, control) in (2..).zip(&mut controls) {
        let new = kitchen.file("new.so", &json!({"version": version}));
        fs::rename(new, &source).expect("a file of our own");
        control.send("reload", &json!({"name": NAME}));
    }
    for control in &mut controls {
        control.reply().expect("a good file");
    }
    until_version(&mut guest, ASKED + 1);
    assert_eq!(guest.ask("count", &json!([])), 5);
}

#[test]
fn the_same_content_is_no_change() {
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    let same = kitchen.file("same.so", &json!({"version": 1}));
    fs::rename(same, &source).expect("a file of our own");
    // The host looks at the next change after this one: once version 2 runs, it has looked at both.
    let new = kitchen.file("new.so", &json!({"version": 2}));
    fs::rename(new, &source).expect("a file of our own");
    until_version(&mut guest, 2);
    assert_eq!(kitchen.ecosystem.status(NAME)["generation"], 2);
}

#[track_caller]
fn assert_breaks(answer: &Value, expected: &[&str]) {
    let breaks = answer["changes"]["breaks"].as_array().expect("a list");
    for sentence in expected {
        assert!(breaks.contains(&json!(sentence)), "{sentence}: {answer}");
    }
}

#[test]
fn what_changed_in_the_commands_is_told() {
    let kitchen = Kitchen::open();
    let (_, _guest) = kitchen.install(&[]);
    let output = kitchen.replace(&json!({"version": 2}), &[]).ok();
    assert_eq!(output.stdout.trim_end().lines().count(), 1, "{output:#?}");
    let probe = kitchen.ecosystem.plugin("probe");
    let output = kitchen.install_file(&probe, &["--replace"]).ok();
    let lines: Vec<&str> = output.stdout.trim_end().lines().collect();
    let [accepted, changes] = lines.as_slice() else {
        panic!("two lines: {output:#?}");
    };
    assert!(accepted.starts_with("accepted Recipe generation 3"));
    for part in [
        "added ",
        "echo(any: any)",
        "removed ",
        "increment(mark: integer from 0)",
        "slow: mark was removed (breaks callers)",
    ] {
        assert!(changes.contains(part), "{part} in {changes}");
    }
    assert!(!changes.contains("hold("), "{changes}");
    kitchen
        .ecosystem
        .until_logged(NAME, "its commands have changed: added ");
    let mut control = kitchen.ecosystem.control();
    let answer = control
        .ask("rollback", &json!(NAME))
        .expect("there is one before");
    assert_eq!(
        answer["changes"]["changed"],
        json!(["slow(mark: integer from 0, ms: integer from 0), before slow(ms: integer from 0)"])
    );
    assert_breaks(
        &answer,
        &["slow: mark was added before ms", "removed echo(any: any)"],
    );
}

#[test]
fn a_dropped_file_whose_name_was_taken_is_installed_when_the_name_frees() {
    let kitchen = Kitchen::open();
    let drop_in = kitchen.ecosystem.home().join("plugins");
    let first = spoil::write(&drop_in, "a.so", &kitchen.bytes(&json!({"version": 1})));
    kitchen.ecosystem.until_state(NAME, "ready");
    spoil::write(&drop_in, "b.so", &kitchen.bytes(&json!({"version": 2})));
    until(LIMIT, "the second is refused", || {
        kitchen
            .ecosystem
            .stderr()
            .contains("there is a daemon Recipe already")
    });
    assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 1);
    fs::remove_file(first).expect("a file of our own");
    until(LIMIT, "the second runs", || {
        let status = kitchen.ecosystem.cli(&["status", NAME, "--json"]);
        status.status == 0 && status.json()["source"].to_string().contains("b.so")
    });
    kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(version(&mut kitchen.ecosystem.guest(NAME)), 2);
}

#[test]
fn a_reload_that_cannot_be_written_down_is_a_refusal_like_any_other() {
    let kitchen = Kitchen::open();
    let (source, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    // A file can't be renamed over a directory.
    let registry = kitchen.ecosystem.home().join("registry.json");
    let written = fs::read(&registry).expect("what is installed");
    fs::remove_file(&registry).expect("our own");
    fs::create_dir(&registry).expect("our own");
    let output = kitchen.replace(&json!({"version": 2}), &[]).code(1);
    let words = ["refused Recipe: ", "registry.json", " runs on"];
    assert!(output.says(&words), "{output:#?}");
    assert_eq!(
        (version(&mut guest), guest.ask("count", &json!([]))),
        (1, json!(5))
    );
    fs::remove_dir(&registry).expect("our own");
    fs::write(&registry, written).expect("our own");
    drop(source);
}
