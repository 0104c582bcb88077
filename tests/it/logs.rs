//! `dae-host logs`: shows the records of plugins under their daemons' names, and those of the host.

use dae_tests::{Ecosystem, Guest, LIMIT, until, until_some};
use serde_json::{Value, json};

fn lifecycle() -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start();
    let guest = ecosystem.install("Loud", "lifecycle", &[]);
    (ecosystem, guest)
}

/// Waits for the record with that message, and returns it.
fn record(ecosystem: &Ecosystem, message: &str) -> Value {
    until_some(LIMIT, message, || {
        let records = ecosystem.cli(&["logs", "Loud", "--json"]).ok().json_lines();
        records
            .into_iter()
            .find(|record| record["message"] == message)
    })
}

#[test]
fn a_plugins_tracing_reaches_the_log_with_name_level_and_fields() {
    let (ecosystem, mut guest) = lifecycle();
    for level in ["error", "warn", "info", "debug"] {
        guest.ask("log", &json!([level, format!("said as {level}")]));
    }
    for level in ["error", "warn", "info", "debug"] {
        let record = record(&ecosystem, &format!("said as {level}"));
        assert_eq!(
            (&record["daemon"], &record["level"]),
            (&json!("Loud"), &json!(level)),
            "{record}"
        );
        assert!(record["generation"].is_u64(), "{record}");
        assert!(
            record["time"]
                .as_str()
                .is_some_and(|time| time.contains('T')),
            "{record}"
        );
        assert!(
            record["target"]
                .as_str()
                .is_some_and(|target| target.contains("lifecycle")),
            "{record}"
        );
    }
    assert_eq!(
        record(&ecosystem, "said as info")["fields"]["length"],
        json!("said as info".len())
    );
}

#[test]
fn two_daemons_of_one_file_log_under_their_own_names() {
    let ecosystem = Ecosystem::start();
    let mut one = ecosystem.install("One", "lifecycle", &[]);
    let mut two = ecosystem.install("Two", "lifecycle", &[]);
    for i in 0..10 {
        one.ask("log", &json!(["info", format!("from one {i}")]));
        two.ask("log_later", &json!([format!("from two {i}")]));
    }
    ecosystem.until_logged("One", "from one 9");
    ecosystem.until_logged("Two", "from two 9");
    let of_other = |name: &str, part: &str| {
        ecosystem
            .logged(name)
            .iter()
            .any(|message| message.contains(part))
    };
    assert!(!of_other("One", "from two") && !of_other("Two", "from one"));
}

#[test]
fn the_host_shows_it_on_standard_error_too() {
    let (ecosystem, mut guest) = lifecycle();
    guest.ask("log", &json!(["warn", "for everybody to see"]));
    until(LIMIT, "it is on standard error", || {
        ecosystem
            .stderr()
            .lines()
            .any(|line| line.contains("for everybody to see") && line.contains("Loud"))
    });
}

#[test]
fn n_is_how_many_of_the_latest() {
    let (ecosystem, mut guest) = lifecycle();
    for i in 0..20 {
        guest.ask("log", &json!(["info", format!("number {i}")]));
    }
    ecosystem.until_logged("Loud", "number 19");
    let output = ecosystem.cli(&["logs", "Loud", "-n", "3"]).ok();
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{output:?}");
    for (line, expected) in lines.iter().zip(["number 17", "number 18", "number 19"]) {
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(
        ecosystem
            .cli(&["logs", "Loud", "-n", "2", "--json"])
            .ok()
            .json_lines()
            .len(),
        2
    );
}

#[test]
fn without_a_name_all_daemons_are_merged_by_time() {
    let ecosystem = Ecosystem::start();
    let mut one = ecosystem.install("One", "lifecycle", &[]);
    let mut two = ecosystem.install("Two", "lifecycle", &[]);
    for i in 0..5 {
        one.ask("log", &json!(["info", format!("turn {i}a")]));
        two.ask("log", &json!(["info", format!("turn {i}b")]));
    }
    ecosystem.until_logged("Two", "turn 4b");
    let records = ecosystem
        .cli(&["logs", "-n", "1000", "--json"])
        .ok()
        .json_lines();
    let turns: Vec<_> = records
        .iter()
        .filter_map(|record| record["message"].as_str()?.strip_prefix("turn "))
        .collect();
    assert_eq!(
        turns,
        ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b"]
    );
    assert!(
        records.iter().any(|record| record["daemon"] == "Dae"),
        "the host's own records are among them"
    );
}

#[test]
fn follow_shows_what_comes() {
    let (ecosystem, mut guest) = lifecycle();
    guest.ask("log", &json!(["info", "before"]));
    ecosystem.until_logged("Loud", "before");
    let mut logs = ecosystem.cli_running(&["logs", "Loud", "-f", "-n", "1000"]);
    // Old records come first, then new ones.
    logs.line_with("before", LIMIT);
    guest.ask("log", &json!(["info", "after"]));
    logs.line_with("after", LIMIT);

    let mut logs = ecosystem.cli_running(&["logs", "-f", "-n", "1000", "--json"]);
    logs.line_with("after", LIMIT);
    guest.ask("log_later", &json!(["much later"]));
    let line = logs.line_with("much later", LIMIT);
    let record: Value = serde_json::from_str(&line).expect("JSON lines");
    assert_eq!(record["daemon"], "Loud");
}

/// Records are written before the follower starts, while it reads old ones, and after that.
#[test]
fn a_follower_misses_nothing_that_is_written_while_it_comes() {
    const RECORDS: usize = 3000;
    // Fewer records than the host keeps for a slow follower.
    const AHEAD: usize = 900;
    let (ecosystem, mut guest) = lifecycle();
    let mut sent = 0;
    let mut send_until = |end: usize| {
        let lines = (sent..end).map(|n| format!("log [\"info\",\"number {n}\"]\n"));
        guest.send(lines.collect::<String>());
        sent = end;
    };
    send_until(AHEAD);
    let mut logs = ecosystem.cli_running(&["logs", "Loud", "-f", "-n", "10000", "--json"]);
    let mut next = 0;
    while next < RECORDS {
        let record: Value = serde_json::from_str(&logs.line(LIMIT)).expect("a record");
        let message = record["message"].as_str().expect("a text");
        if let Some(number) = message.strip_prefix("number ") {
            assert_eq!(number, next.to_string(), "in order, and each once");
            next += 1;
            send_until(RECORDS.min(next + AHEAD));
        }
    }
}

#[test]
fn a_follower_goes_on_with_the_next_host_and_shows_nothing_twice() {
    let (mut ecosystem, mut guest) = lifecycle();
    guest.ask("log", &json!(["info", "number 0"]));
    let mut logs = ecosystem.cli_running(&["logs", "Loud", "-f", "--json", "-n", "1000"]);
    logs.line_with("number 0", LIMIT);
    for number in 1..4 {
        match number {
            2 => ecosystem.kill(),
            _ => ecosystem.stop(),
        }
        ecosystem.wake(&[]);
        let text = format!("number {number}");
        let mut guest = ecosystem.guest("Loud");
        guest.ask("log", &json!(["info", text]));
        let seen = until_some(LIMIT, &text, || {
            let line = logs.line(LIMIT);
            line.contains("number").then_some(line)
        });
        assert!(seen.contains(&text), "{seen}");
    }
}

#[test]
fn records_are_chosen_by_name_time_level_and_text() {
    let ecosystem = Ecosystem::start();
    let mut one = ecosystem.install("One", "lifecycle", &[]);
    let mut two = ecosystem.install("Two", "lifecycle", &[]);
    let mut three = ecosystem.install("Three", "lifecycle", &[]);
    for guest in [&mut one, &mut two, &mut three] {
        guest.ask("log", &json!(["info", "a usual Line"]));
        guest.ask("log", &json!(["warn", "a warning line"]));
        guest.ask("log", &json!(["error", "an Error"]));
    }
    for name in ["One", "Two", "Three"] {
        ecosystem.until_logged(name, "an Error");
    }
    let shown = |words: &[&str]| {
        let words = [
            &["logs", "--json", "--grep", "line|error", "-n", "100"],
            words,
        ]
        .concat();
        let records = ecosystem.cli(&words).ok().json_lines();
        let text = |record: &Value| format!("{}: {}", record["daemon"], record["message"]);
        records.iter().map(text).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(
        shown(&["One", "Three", "--level", "warn"]),
        r#""One": "a warning line"; "One": "an Error"; "Three": "a warning line"; "Three": "an Error""#
    );
    let lines = ["logs", "Two", "--grep", "Line", "--json"];
    assert_eq!(
        ecosystem.cli(&lines).ok().json_lines().len(),
        1,
        "capitals count"
    );
    assert_eq!(
        shown(&["One", "--since", "1h", "--level", "error"]),
        r#""One": "an Error""#
    );
    assert_eq!(shown(&["--until", "1h"]), "");
}

#[test]
fn a_follower_gets_the_chosen_records_only() {
    let ecosystem = Ecosystem::start();
    let mut two = ecosystem.install("Two", "lifecycle", &[]);
    let mut three = ecosystem.install("Three", "lifecycle", &[]);
    let _ = ecosystem.install("One", "lifecycle", &[]);
    let mut following = ecosystem.cli_running(&["logs", "-f", "--level", "error", "One", "Two"]);
    three.ask("log", &json!(["error", "of another"]));
    two.ask("log", &json!(["warn", "too mild"]));
    two.ask("log", &json!(["error", "the wanted one"]));
    while let Some(line) = following.line_within(LIMIT) {
        assert!(
            !line.contains("of another") && !line.contains("too mild"),
            "{line}"
        );
        if line.contains("the wanted one") {
            return;
        }
    }
    panic!("the follower has ended");
}

#[test]
fn a_wrong_pattern_level_or_time_is_told() {
    let ecosystem = Ecosystem::start();
    for (words, told) in [
        (["logs", "--grep", "("], "regular expression"),
        (["logs", "--level", "loud"], "trace"),
        (["logs", "--since", "soon"], "17:30"),
    ] {
        let output = ecosystem.cli(&words).code(2);
        assert!(output.says(&[told]), "{output:?}");
    }
}

#[test]
fn the_past_can_be_read_with_no_host() {
    let (mut ecosystem, mut guest) = lifecycle();
    guest.ask("log", &json!(["info", "the last words"]));
    ecosystem.until_logged("Loud", "the last words");
    ecosystem.kill();
    let output = ecosystem.cli(&["logs", "Loud"]).ok();
    assert!(output.stdout.contains("the last words"), "{output:?}");
    let _ = ecosystem.cli(&["logs", "Loud", "-f"]).code(7);
}

#[test]
fn a_log_line_cannot_break_out_of_its_line() {
    let (ecosystem, mut guest) = lifecycle();
    guest.ask("log", &json!(["info", "first\nsecond\r\u{1b}[31mred\u{7}"]));
    guest.ask("log", &json!(["info", "the end"]));
    ecosystem.until_logged("Loud", "the end");
    let shown = ecosystem.cli(&["logs", "Loud"]).ok().stdout;
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{7}'),
        "{shown:?}"
    );
    let lines = shown
        .lines()
        .filter(|line| line.contains("first") || line.contains("second"));
    assert_eq!(lines.count(), 1, "{shown:?}");
    assert!(
        ecosystem
            .logged("Loud")
            .iter()
            .any(|message| message.contains("first\nsecond")),
        "JSON keeps the text as it was"
    );
}

#[test]
fn an_unknown_name_is_no_empty_log() {
    let (ecosystem, _guest) = lifecycle();
    let output = ecosystem.cli(&["logs", "Nobody"]).code(4);
    assert!(output.says(&["Nobody"]), "{output:?}");
}
