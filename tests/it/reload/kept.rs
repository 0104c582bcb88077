//! The archive: for a week it keeps the states of uninstalled daemons, and states that a fresh start has set aside.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use dae_tests::files::entries;
use dae_tests::{Ecosystem, LIMIT, process, until};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, version};

/// Returns the archived states, newest first.
pub(super) fn history(ecosystem: &Ecosystem) -> Vec<Value> {
    let printed = ecosystem.cli(&["state", NAME, "--history", "--json"]).ok();
    printed.json().as_array().expect("an array").clone()
}

fn count(kitchen: &Kitchen) -> Value {
    kitchen.ecosystem.guest(NAME).ask("count", &json!([]))
}

#[track_caller]
fn assert_runs(kitchen: &Kitchen, expected: (u64, u64), after: &str) {
    let mut guest = kitchen.ecosystem.guest(NAME);
    let count = guest.ask("count", &json!([]));
    assert_eq!(
        (version(&mut guest), count),
        (expected.0, json!(expected.1)),
        "after {after}"
    );
}

#[test]
fn an_uninstalled_daemon_can_be_had_back() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let ecosystem = &kitchen.ecosystem;
        let (file, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        let port = ecosystem.port_of(NAME);
        let output = ecosystem.cli(&["uninstall", NAME]).ok();
        for part in [
            "Recipe is uninstalled; ",
            "--state last",
            "state Recipe --history",
        ] {
            assert!(output.stdout.contains(part), "{part}: {output:?}");
        }
        assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
        assert!(!ecosystem.logged(NAME).is_empty(), "its log is kept");
        let kept = history(ecosystem);
        assert_eq!(kept[0]["state"]["data"], json!({"count": 5}));

        // A new daemon of that name starts without the state, and the answer says so.
        let output = kitchen.install_file(&file, flags).ok();
        assert!(output.says(&["--state last"]), "{output:?}");
        assert_eq!((count(&kitchen), ecosystem.port_of(NAME)), (json!(0), port));
        let id = kept[0]["id"].as_str().expect("an id").to_owned();
        let _ = kitchen
            .install_file(&file, &["--replace", "--state", &id])
            .ok();
        assert_eq!(count(&kitchen), 5, "from the state of that id");
        let _ = ecosystem.cli(&["uninstall", NAME]).ok();
        let _ = kitchen.install_file(&file, &["--state", "last"]).ok();
        assert_eq!(count(&kitchen), 5, "from the last state");
    }
}

/// Dates all archived data of an uninstalled daemon back by that many days.
fn age(ecosystem: &Ecosystem, name: &str, days: u64) {
    let ago = Duration::from_secs(days * 24 * 60 * 60);
    let time = Timestamp::now() - SignedDuration::try_from(ago).expect("some days");
    let past = ecosystem.home().join("past");
    let named = format!("{name}@{}.json", time.strftime("%Y%m%dT%H%M%S.%6fZ"));
    let mut files = entries(&past).into_iter();
    let file = files.find(|path| path.to_string_lossy().contains(&format!("/{name}@")));
    fs::rename(file.expect("its state is kept"), past.join(named)).expect("a file of our own");
    let log = ecosystem.home().join(format!("logs/{name}.log"));
    let log = File::options()
        .append(true)
        .open(log)
        .expect("its log is kept");
    log.set_modified(SystemTime::now() - ago)
        .expect("a file of our own");
}

#[test]
fn what_is_kept_goes_after_a_week() {
    let mut kitchen = Kitchen::open();
    let (file, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let file = file.to_str().expect("UTF-8");
    let ecosystem = &mut kitchen.ecosystem;
    let _ = ecosystem.cli(&["install", "Younger", file]).ok();
    let _ = ecosystem.cli(&["uninstall", NAME, "Younger"]).ok();
    ecosystem.stop();
    age(ecosystem, NAME, 8);
    age(ecosystem, "Younger", 6);
    ecosystem.wake(&[]);
    until(LIMIT, "it is removed, with its log", || {
        ["state", "log"].iter().all(|what| {
            let told = format!("its {what}, kept since it left, is removed daemon=\"{NAME}\"");
            ecosystem.stderr().contains(&told)
        })
    });
    let _ = ecosystem.cli(&["state", NAME, "--history"]).code(4);
    let _ = ecosystem.cli(&["logs", NAME]).code(4);
    let kept = ecosystem
        .cli(&["state", "Younger", "--history", "--json"])
        .ok();
    assert_eq!(kept.json().as_array().map(Vec::len), Some(1));
    assert!(!ecosystem.logged("Younger").is_empty());
}

#[test]
fn a_fresh_start_that_is_refused_sets_nothing_aside() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        for fate in ["fail", "panic"] {
            let bad = json!({"version": 2, "start": fate});
            let _ = kitchen.replace(&bad, &["--fresh"]).code(1);
            assert_runs(&kitchen, (1, 5), "a refused fresh start");
        }
        assert_eq!(history(&kitchen.ecosystem), [json!(null); 0], "{flags:?}");
        let state = kitchen.ecosystem.cli(&["state", NAME]).ok().json();
        assert_eq!(state["data"], json!({"count": 5}));
    }
}

#[test]
fn a_purge_keeps_nothing() {
    let kitchen = Kitchen::open();
    let ecosystem = &kitchen.ecosystem;
    let (file, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let gone = |after: &str| {
        for words in [&["state", NAME, "--history"][..], &["logs", NAME]] {
            let output = ecosystem.cli(words);
            assert_eq!(output.status, 4, "{words:?} after {after}: {output:?}");
        }
        for path in ["states/Recipe.json", "logs/Recipe.log"] {
            assert!(
                !ecosystem.home().join(path).exists(),
                "{path} after {after}"
            );
        }
        // A deleted file that is still open keeps its disk space.
        let open = process::descriptors(ecosystem.pid());
        let mut removed = open
            .values()
            .filter(|path| path.ends_with("Recipe.log (deleted)"));
        assert_eq!(removed.next(), None, "after {after}");
    };
    let _ = ecosystem.cli(&["uninstall", NAME, "--purge"]).ok();
    gone("uninstall --purge");
    let _ = kitchen.install_file(&file, &[]).ok();
    let _ = kitchen
        .install_file(&file, &["--replace", "--state", "last"])
        .code(1);
    let _ = ecosystem.cli(&["uninstall", NAME]).ok();
    assert_eq!(history(ecosystem).len(), 1);
    let _ = ecosystem.cli(&["uninstall", NAME, "--purge"]).ok();
    gone("a purge of what was uninstalled before");
    let _ = ecosystem.cli(&["uninstall", NAME, "--purge"]).code(4);
}

#[test]
fn a_rollback_brings_back_what_a_fresh_start_has_set_aside() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let ecosystem = &kitchen.ecosystem;
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 5);
        // The same code without its state.
        let output = ecosystem.cli(&["reload", NAME, "--fresh"]).ok();
        assert!(output.says(&["rollback Recipe"]), "{output:?}");
        assert_runs(&kitchen, (1, 0), "a fresh reload");
        let _ = ecosystem.cli(&["rollback", NAME]).ok();
        assert_runs(&kitchen, (1, 5), "a rollback to the state");
        // Other code.
        let _ = kitchen.replace(&json!({"version": 2}), &["--fresh"]).ok();
        assert_runs(&kitchen, (2, 0), "fresh code");
        let _ = ecosystem.cli(&["rollback", NAME]).ok();
        assert_runs(&kitchen, (1, 5), "a rollback to code and state");
        // A daemon that its owner has stopped.
        let _ = ecosystem.cli(&["stop", NAME]).ok();
        let _ = ecosystem.cli(&["reload", NAME, "--fresh"]).ok();
        let printed = ecosystem.cli(&["state", NAME]);
        assert_eq!(
            printed.status, 1,
            "no state is left to start from: {printed:?}"
        );
        let _ = ecosystem.cli(&["rollback", NAME]).ok();
        let _ = ecosystem.cli(&["start", NAME]).ok();
        assert_eq!(count(&kitchen), 5);
    }
}

#[test]
fn a_state_that_can_not_be_read_is_set_aside_as_it_is() {
    let kitchen = Kitchen::open();
    let ecosystem = &kitchen.ecosystem;
    let (_, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    let _ = ecosystem.cli(&["stop", NAME]).ok();
    let state = ecosystem.home().join("states/Recipe.json");
    fs::write(&state, "{spoilt").expect("our own file");
    let _ = ecosystem.cli(&["start", NAME]).code(1);
    let _ = ecosystem.cli(&["reload", NAME, "--fresh"]).ok();
    assert_eq!(count(&kitchen), 0);
    assert_eq!(history(ecosystem)[0]["damaged"], "{spoilt");
}

#[test]
fn with_no_host_it_is_kept_all_the_same() {
    let mut kitchen = Kitchen::open();
    let (file, mut guest) = kitchen.install(&[]);
    count_to(&mut guest, 5);
    kitchen.ecosystem.stop();
    let output = kitchen.ecosystem.cli(&["uninstall", NAME]).ok();
    assert!(output.stdout.contains("--state last"), "{output:?}");
    let _ = kitchen.install_file(&file, &["--state", "last"]).ok();
    let _ = kitchen.install_file(&file, &["--replace", "--fresh"]).ok();
    kitchen.ecosystem.wake(&[]);
    kitchen.ecosystem.until_state(NAME, "ready");
    assert_eq!(count(&kitchen), 0);
    let _ = kitchen.ecosystem.cli(&["rollback", NAME]).ok();
    assert_eq!(count(&kitchen), 5);
}
