//! A daemon's state: kept over reloads, stops, restarts of the host and crashes, read by newer code, never lost
//! silently.

use dae_tests::{Guest, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, until_version, version};

fn count(guest: &mut Guest) -> Value {
    guest.ask("count", &json!([]))
}

#[test]
fn it_outlives_a_stop_and_the_host() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
        let printed = kitchen.ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(printed["data"], json!({"count": 5}), "while it is stopped");
        let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
        let mut guest = kitchen.ecosystem.guest(NAME);
        assert_eq!(count(&mut guest), 5, "after a stop");
        let from = kitchen.ecosystem.status(NAME)["state_from"].clone();
        assert!(
            from.as_str()
                .is_some_and(|from| from.starts_with("the stop at")),
            "{from}"
        );
        guest.ask("increment", &json!([1]));
        kitchen.ecosystem.stop();
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.until_state(NAME, "ready");
        assert_eq!(
            count(&mut kitchen.ecosystem.guest(NAME)),
            6,
            "after a restart of the host"
        );
    }
}

#[test]
fn it_is_printed() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 3);
    let printed = kitchen.ecosystem.cli(&["state", NAME]).ok().json();
    assert_eq!(printed, json!({"version": 1, "data": {"count": 3}}));
    let _sample = kitchen.ecosystem.install("Sample", "sample", &[]);
    let _ = kitchen.ecosystem.cli(&["state", "Sample"]).code(1);
    let _ = kitchen.ecosystem.cli(&["state", "Nobody"]).code(4);
}

/// Counts to 5, and waits for a checkpoint of that count.
fn checkpointed(kitchen: &Kitchen, flags: &[&str]) -> Guest {
    let settings = r#"{"checkpoint_s": 1, "restart": {"backoff_first_ms": 1}}"#;
    let flags = [flags, &["--settings", settings]].concat();
    let (_, mut guest) = kitchen.install(&flags);
    count_to(&mut guest, 5);
    let kept = kitchen.ecosystem.home().join("states").join("Recipe.json");
    until(LIMIT, "a checkpoint of 5", || {
        std::fs::read_to_string(&kept).is_ok_and(|kept| kept.contains(r#""count":5"#))
    });
    guest
}

#[test]
fn a_killed_host_loses_no_more_than_a_checkpoints_time() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let _guest = checkpointed(&kitchen, flags);
        kitchen.ecosystem.kill();
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.until_state(NAME, "ready");
        assert_eq!(count(&mut kitchen.ecosystem.guest(NAME)), 5);
        let from = kitchen.ecosystem.status(NAME)["state_from"].clone();
        assert!(
            from.as_str()
                .is_some_and(|from| from.contains("checkpoint")),
            "{from}"
        );
    }
}

#[test]
fn a_killed_daemon_loses_no_more_than_a_checkpoints_time() {
    let kitchen = Kitchen::open();
    let mut guest = checkpointed(&kitchen, &["--isolate"]);
    let status = kitchen.ecosystem.status(NAME);
    let pid = status["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    process::signal(pid.expect("a process"), Signal::KILL);
    until(LIMIT, "the next generation answers", || {
        let status = kitchen.ecosystem.status(NAME);
        status["state"] == "ready" && status["generation"] == 2
    });
    assert_eq!(count(&mut guest), 5);
}

#[test]
fn newer_code_reads_it_and_older_code_says_why_not() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let newer = kitchen.ecosystem.plugin("migrating");
        let _ = kitchen.install_file(&newer, &["--replace"]).ok();
        assert_eq!(version(&mut guest), 1000);
        assert_eq!(count(&mut guest), 5);
        let printed = kitchen.ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(printed, json!({"version": 2, "data": {"total": 5}}));
        let output = kitchen.replace(&json!({"version": 3}), &[]).code(1);
        assert!(output.says(&["is of version 2"]), "{output:#?}");
        assert_eq!((version(&mut guest), count(&mut guest)), (1000, json!(5)));
    }
}

#[test]
fn one_that_the_new_code_cannot_read_is_a_refusal_and_fresh_starts_without() {
    for flags in MODES {
        let mut kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let misreads = json!({"version": 2, "misreads": true});
        let output = kitchen.replace(&misreads, &[]).code(1);
        assert!(
            output.stderr.contains("expected a string, got 5"),
            "the reader's own words: {output:#?}"
        );
        assert!(output.says(&["`fresh`"]), "{output:#?}");
        assert_eq!((version(&mut guest), count(&mut guest)), (1, json!(5)));
        let _ = kitchen.replace(&misreads, &["--fresh"]).ok();
        assert_eq!((version(&mut guest), count(&mut guest)), (2, json!(0)));
        // The discarded state does not come back, even if the host is killed.
        kitchen.ecosystem.kill();
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.until_state(NAME, "ready");
        let mut guest = kitchen.ecosystem.guest(NAME);
        assert_eq!((version(&mut guest), count(&mut guest)), (2, json!(0)));
    }
}

#[test]
fn a_daemon_that_must_be_alone_is_and_comes_back_if_its_successor_does_not_start() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let lock = kitchen.ecosystem.scratch().join("lock");
        let config = json!({"lock": lock}).to_string();
        let file = kitchen.ecosystem.plugin("migrating");
        let flags = [flags, &["--config", config.as_str()]].concat();
        let _ = kitchen.install_file(&file, &flags).ok();
        let mut guest = kitchen.ecosystem.guest(NAME);
        count_to(&mut guest, 5);
        for generation in [2, 3] {
            let _ = kitchen.ecosystem.cli(&["reload", NAME]).ok();
            assert_eq!(kitchen.ecosystem.status(NAME)["generation"], generation);
            assert_eq!(count(&mut guest), 5);
        }
        let failing = json!({"version": 2, "start": "fail"});
        let output = kitchen.replace(&failing, &["--fresh"]).code(1);
        assert!(output.says(&["start was asked to fail"]), "{output:#?}");
        assert_eq!((version(&mut guest), count(&mut guest)), (1000, json!(5)));
        assert_eq!(kitchen.ecosystem.status(NAME)["state"], "ready");
    }
}

#[test]
fn a_lock_that_the_old_one_holds_is_a_refusal_that_names_the_cure() {
    let kitchen = Kitchen::open();
    let lock = kitchen.ecosystem.scratch().join("lock");
    let config = json!({"lock": lock}).to_string();
    let (_, mut guest) = kitchen.install(&["--config", &config]);
    let output = kitchen.replace(&json!({"version": 2}), &[]).code(1);
    assert!(output.says(&["exclusive"]), "{output:#?}");
    until_version(&mut guest, 1);
    let output = kitchen.replace(&json!({"version": 2, "start": "fail"}), &[]);
    assert!(
        !output.code(1).says(&["exclusive"]),
        "it has no lock to do with"
    );
}

/// Each checkpoint waits for a `save` that never comes, and the next is due before it gives up.
#[test]
fn checkpoints_of_a_process_that_does_not_answer_do_not_keep_it_from_being_killed() {
    let defaults = json!({"checkpoint_s": 1, "health_ms": 100, "health_misses_max": 3});
    let config = json!({"stop_grace_ms": 1200, "defaults": defaults});
    let kitchen = Kitchen::configured(&config);
    let (_, mut guest) = kitchen.install(&["--isolate"]);
    count_to(&mut guest, 2);
    let status = kitchen.ecosystem.status(NAME);
    let stuck = status["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    process::signal(stuck.expect("a process"), Signal::STOP);
    until(LIMIT, "another instance answers in its place", || {
        kitchen.ecosystem.status(NAME)["generation"] == 2
    });
    assert_eq!(guest.ask("version", &json!([])), 1);
}

#[test]
fn the_preflight_of_one_that_does_not_run_reads_what_was_kept() {
    let kitchen = Kitchen::open();
    let (_, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let _ = kitchen.ecosystem.cli(&["stop", NAME]).ok();
    let output = kitchen.replace(&json!({"version": 2, "misreads": true}), &[]);
    let output = output.code(1);
    assert!(
        output.stderr.contains("its preflight failed: ") && output.stderr.contains("`fresh`"),
        "{output:#?}"
    );
    let _ = kitchen.ecosystem.cli(&["start", NAME]).ok();
    let mut guest = kitchen.ecosystem.guest(NAME);
    assert_eq!((version(&mut guest), count(&mut guest)), (1, json!(5)));
}
