//! Generations and versions: the effects of a refusal, the end of a chain of rollbacks, and late reports.

use std::fs;

use dae_tests::{Ecosystem, LIMIT, spoil, until};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, version};

/// Returns the daemon's line in `list`.
fn row(kitchen: &Kitchen) -> String {
    let list = kitchen.ecosystem.cli(&["list"]).ok().stdout;
    let row = list.lines().find(|line| line.starts_with(NAME));
    row.expect("it is listed").to_owned()
}

/// Asserts that two replacements are refused, and that `status`, `list` and the log report it.
fn refuse_twice(kitchen: &Kitchen) {
    let bad = json!({"version": 2, "start": "fail"});
    for _ in 0..2 {
        let refused = kitchen
            .replace(&bad, &["--settings", r#"{"preflight": false}"#])
            .code(1);
        assert!(refused.says(&["; generation 1 runs on"]), "{refused:#?}");
    }
    let status = kitchen.ecosystem.status(NAME);
    assert_eq!(
        (&status["generation"], &status["source_note"]),
        (&json!(1), &json!("newer: refused"))
    );
    let reason = status["last_refusal"]["reason"].to_string();
    assert!(reason.contains("start was asked to fail"), "{status:#}");
    let shown = kitchen.ecosystem.cli(&["status", NAME]).ok().stdout;
    assert!(shown.contains("last refusal"), "{shown}");
    assert!(row(kitchen).contains("newer:_refused"), "{}", row(kitchen));
    let logged = kitchen.ecosystem.logged(NAME);
    let refusals = logged
        .iter()
        .filter(|text| text.contains("install was refused: "));
    assert_eq!(refusals.count(), 2, "{logged:#?}");
}

#[test]
fn a_refusal_takes_no_generation_and_is_told_everywhere() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        refuse_twice(&kitchen);
        assert_eq!(guest.ask("dae", &json!([]))["generation"], 1);
        let accepted = kitchen.replace(&json!({"version": 3}), &[]).ok();
        assert!(
            accepted.stdout.starts_with("accepted Recipe generation 2 "),
            "{accepted:#?}"
        );
        let status = kitchen.ecosystem.status(NAME);
        assert_eq!(
            (&status["generation"], &status["source_note"]),
            (&json!(2), &Value::Null)
        );
        assert_eq!(status["last_refusal"], Value::Null);
        assert_eq!(
            (version(&mut guest), guest.ask("count", &json!([]))),
            (3, json!(3))
        );
    }
}

/// Returns the stored versions, newest first: place and hash.
fn stored(ecosystem: &Ecosystem) -> Vec<(String, String)> {
    let listed = ecosystem
        .cli(&["rollback", NAME, "--list", "--json"])
        .ok()
        .json();
    let versions = listed.as_array().expect("versions").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    versions
        .map(|one| (text(&one["place"]), text(&one["hash"])))
        .collect()
}

fn places(ecosystem: &Ecosystem) -> Vec<String> {
    stored(ecosystem)
        .into_iter()
        .map(|(place, _)| place)
        .collect()
}

/// Parts of the refusal of a rollback from the oldest version.
const NO_OLDER_CODE: [&str; 2] = [
    "there is no older code",
    "--list` shows the stored versions",
];

#[test]
fn rollbacks_end_at_the_oldest_version_and_any_can_be_chosen() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let ecosystem = &kitchen.ecosystem;
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        for number in 2..=3 {
            // Each version has its own file. The host would notice an overwritten file, too, and could load it before
            // it is installed.
            let file = kitchen.file(&format!("{number}.so"), &json!({"version": number}));
            let _ = kitchen.install_file(&file, &["--replace"]).ok();
        }
        for expected in [2, 1] {
            let _ = ecosystem.cli(&["rollback", NAME]).ok();
            assert_eq!(version(&mut guest), expected);
        }
        let ends = ecosystem.cli(&["rollback", NAME]).code(1);
        assert!(ends.says(&NO_OLDER_CODE), "{ends:#?}");
        assert_eq!(version(&mut guest), 1, "it doesn't wrap");
        assert_eq!(places(ecosystem), ["newer", "newer", "runs"]);
        let shown = ecosystem.cli(&["rollback", NAME, "--list"]).ok().stdout;
        assert_eq!(shown.lines().count(), 4, "{shown}");
        let newest = stored(ecosystem)[0].1.clone();
        let _ = ecosystem
            .cli(&["rollback", NAME, "--to", &newest[..12]])
            .ok();
        assert_eq!(version(&mut guest), 3);
        assert_eq!(places(ecosystem), ["runs", "older", "older"]);
        assert_eq!(guest.ask("count", &json!([])), 3, "the state went along");
        let _ = ecosystem.cli(&["rollback", NAME, "--fresh"]).ok();
        assert_eq!(
            (version(&mut guest), guest.ask("count", &json!([]))),
            (2, json!(0))
        );
        for wrong in ["ab", "0123456789", "../../..", ""] {
            let _ = ecosystem.cli(&["rollback", NAME, "--to", wrong]).code(1);
        }
        assert_eq!(version(&mut guest), 2);
    }
}

/// Asserts that the supervisor has received nothing that counts against the new code.
fn expect_unharmed(ecosystem: &Ecosystem) {
    // The supervisor handles each of these starts. By the last it would have heard of too many panics.
    for _ in 0..4 {
        let _ = ecosystem.cli(&["start", NAME]).ok();
    }
    let status = ecosystem.status(NAME);
    assert_eq!(
        (&status["generation"], &status["state"]),
        (&json!(2), &json!("ready"))
    );
    assert_eq!(
        (&status["quarantined"], &status["last_end"]),
        (&json!({}), &Value::Null)
    );
}

#[test]
fn a_panic_of_the_old_code_is_not_counted_against_the_new() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let ecosystem = &kitchen.ecosystem;
        let settings = r#"{"on_panic": "restart", "preflight": false}"#;
        let flags = [flags, &["--settings", settings]].concat();
        let _ = kitchen
            .install_file(&ecosystem.plugin("probe"), &flags)
            .ok();
        let mut guest = ecosystem.guest(NAME);
        let signal = ecosystem.scratch().join("panic");
        guest.send(format!("panic_with_file {}\n", json!([signal])));
        // The same instance answers this, so the command before it runs by now.
        ecosystem.guest(NAME).ask("pid", &json!([]));
        let mut bytes = fs::read(ecosystem.plugin("probe")).expect("the plugin");
        bytes.push(1);
        let next = spoil::write(&ecosystem.scratch(), "next.so", &bytes);
        let _ = kitchen.install_file(&next, &["--replace"]).ok();
        assert_eq!(ecosystem.status(NAME)["generation"], 2);
        fs::write(&signal, "").expect("our own");
        assert!(guest.line().contains("crashed"), "the old code panics");
        expect_unharmed(ecosystem);
        // A panic of the new code counts.
        fs::remove_file(&signal).expect("our own");
        let mut guest = ecosystem.guest(NAME);
        assert_eq!(guest.ask_in_vain("panic", &json!([])).code, "crashed");
        until(LIMIT, "it is rolled back", || {
            ecosystem.status(NAME)["quarantined"] != json!({})
        });
        fs::write(&signal, "").expect("our own");
    }
}

/// Asserts that a change which has begun is completed, even if its client disconnects.
fn expect_carried_through(ecosystem: &Ecosystem) {
    let file = ecosystem.plugin("probe");
    let mut gone = ecosystem.control();
    gone.send(
        "install",
        &json!({"name": NAME, "file": file, "replace": true, "config": {"start_ms": 500}}),
    );
    ecosystem.until_state(NAME, "reloading");
    drop(gone);
    until(LIMIT, "it is made all the same", || {
        let status = ecosystem.status(NAME);
        status["generation"] == 3 && status["state"] == "ready"
    });
}

/// Requests changes that have to wait, and disconnects.
fn ask_and_go(ecosystem: &Ecosystem) {
    let file = ecosystem.plugin("probe");
    for (command, argument) in [
        ("stop", json!(NAME)),
        ("uninstall", json!(NAME)),
        ("isolate", json!(NAME)),
        ("restart", json!(NAME)),
        (
            "install",
            json!({"name": NAME, "file": file, "replace": true, "config": {"start_ms": 1}}),
        ),
    ] {
        ecosystem.control().send(command, &argument);
    }
}

#[test]
fn a_change_whose_asker_has_gone_before_it_began_is_not_made() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let ecosystem = &kitchen.ecosystem;
        let flags = [
            flags,
            &[
                "--config",
                r#"{"start_ms": 0}"#,
                "--settings",
                r#"{"preflight": false}"#,
            ],
        ]
        .concat();
        let _ = kitchen
            .install_file(&ecosystem.plugin("probe"), &flags)
            .ok();
        let mut slow = ecosystem.control();
        let file = ecosystem.plugin("probe");
        slow.send(
            "install",
            &json!({"name": NAME, "file": file, "replace": true, "config": {"start_ms": 2000}}),
        );
        ecosystem.until_state(NAME, "reloading");
        ask_and_go(ecosystem);
        // This request waits behind them.
        let mut last = ecosystem.control();
        last.send("start", &json!(NAME));
        slow.reply().expect("it had begun, and is finished");
        last.reply().expect("it is there");
        let status = ecosystem.status(NAME);
        assert_eq!(
            (&status["generation"], &status["state"]),
            (&json!(2), &json!("ready")),
            "{status:#}"
        );
        expect_carried_through(ecosystem);
    }
}

#[test]
fn a_move_that_leaves_its_daemon_down_is_a_failure_with_the_reason() {
    let kitchen = Kitchen::open();
    let ecosystem = &kitchen.ecosystem;
    let flag = ecosystem.scratch().join("flag");
    let config = json!({"panics": "start", "while_there": &flag}).to_string();
    let settings = r#"{"restart": {"backoff_first_ms": 600000, "backoff_max_ms": 600000, "served_ms": 600000}}"#;
    let flags = ["--isolate", "--config", &config, "--settings", settings];
    let _ = kitchen
        .install_file(&ecosystem.plugin("misbehave"), &flags)
        .ok();
    fs::write(&flag, "").expect("our own");
    assert_eq!(
        ecosystem.guest(NAME).ask_in_vain("abort", &json!([])).code,
        "crashed"
    );
    ecosystem.until_state(NAME, "backoff");
    for change in ["embed", "restart", "start"] {
        let failed = ecosystem.cli(&[change, NAME]).code(1);
        assert!(
            failed.says(&["start was asked to panic"]),
            "{change}: {failed:#?}"
        );
    }
    let status = ecosystem.status(NAME);
    assert_eq!(status["mode"], "subprocess", "it stays where it was");
    assert!(
        status["reason"]
            .to_string()
            .contains("start was asked to panic"),
        "the newest: {status:#}"
    );
    fs::remove_file(&flag).expect("our own");
    let _ = ecosystem.cli(&["embed", NAME]).ok();
    assert_eq!(ecosystem.status(NAME)["mode"], "in-process");
}
