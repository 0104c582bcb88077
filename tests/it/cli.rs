//! The command line as scripts and people use it: documents, tables, exit codes, help.

use std::process::Command;

use dae_tests::{Ecosystem, LIMIT, Output, program};
use serde_json::{Value, json};

/// A name of the greatest length allowed (64 bytes).
const LONGEST: &str = "a-name-of-sixty-four-characters-which-is-as-long-as-a-name-gets.";

fn sample() -> Ecosystem {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem
}

/// Runs the command line at a terminal with that many columns. Returns its output, with escape sequences, or `None`
/// where `script` is not installed.
pub(crate) fn at_terminal(
    ecosystem: &Ecosystem,
    columns: u16,
    variables: &[(&str, &str)],
    words: &str,
) -> Option<Output> {
    let program = ecosystem
        .command()
        .get_program()
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let line = format!(
        "stty cols {columns} rows 40; '{program}' --home '{}' {words}",
        ecosystem.home().display()
    );
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null());
    if Command::new("script").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "script is not installed; CI needs it"
        );
        eprintln!("SKIPPED: script (util-linux) is not installed");
        return None;
    }
    script
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied());
    Some(program::run(&mut script, LIMIT).ok())
}

#[test]
fn json_is_one_document_with_stable_keys() {
    let ecosystem = sample();
    let list = ecosystem.cli(&["list", "--json"]).ok().json();
    assert_eq!(
        (&list[0]["name"], &list[1]["name"]),
        (&json!("Dae"), &json!("Sample")),
        "Dae's own row comes first"
    );
    let keys = [
        "name",
        "plugin",
        "version",
        "mode",
        "state",
        "pid",
        "port",
        "uptime_ms",
        "restarts",
        "calls",
        "hash",
    ];
    for row in list.as_array().expect("rows") {
        for key in keys {
            assert!(row.get(key).is_some(), "{key} is missing in {row}");
        }
    }
    assert_eq!(ecosystem.status("Sample")["state"], "ready");
    let options = ecosystem.cli(&["options", "Sample", "--json"]).ok().json();
    assert_eq!((&options["greet"], &options["add"]), (&json!(1), &json!(2)));
    for words in [
        &["stop", "Sample", "--json"][..],
        &["start", "Sample", "--json"],
        &["restart", "Sample", "--json"],
    ] {
        let document = ecosystem.cli(words).ok().json();
        assert!(
            document.to_string().contains("Sample"),
            "{words:?}: {document}"
        );
    }
    let document = ecosystem
        .cli(&["uninstall", "Sample", "--json"])
        .ok()
        .json();
    assert!(document.is_object() || document.is_array(), "{document}");
}

#[test]
fn the_status_of_a_stopped_daemon_has_its_own_code() {
    let ecosystem = sample();
    let _ = ecosystem.cli(&["status", "Sample"]).ok();
    let _ = ecosystem.cli(&["stop", "Sample"]).ok();
    let shown = ecosystem.cli(&["status", "Sample"]).code(3);
    assert!(shown.stdout.starts_with("Sample: stopped\n"), "{shown:?}");
    assert_eq!(shown.stderr, "");
    let shown = ecosystem.cli(&["status", "Sample", "--json"]).code(3);
    assert_eq!(shown.json()["state"], "stopped");
    assert_eq!(shown.stderr, "");
}

#[test]
fn a_table_into_a_pipe_is_whole_and_plain() {
    let ecosystem = sample();
    assert_eq!(LONGEST.len(), 64);
    let _guest = ecosystem.install(LONGEST, "vectors", &[]);
    let output = ecosystem.cli(&["list"]).ok();
    let lines: Vec<Vec<&str>> = output
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let headings = [
        "NAME", "VERSION", "MODE", "STATE", "PID", "PORT", "UPTIME", "RESTARTS", "CALLS",
    ];
    assert_eq!(lines[0], headings, "{output:?}");
    assert_eq!(lines[1][0], "Dae", "{output:?}");
    assert!(lines.iter().any(|line| line[0] == LONGEST), "{output:?}");
    assert!(
        lines.iter().all(|line| line.len() == headings.len()),
        "a cell with a blank in it: {output:?}"
    );
    assert!(!output.stdout.contains('\u{1b}'), "{output:?}");
    let port = ecosystem.port_of("Sample").to_string();
    assert!(
        lines
            .iter()
            .any(|line| line[0] == "Sample" && line[5] == port),
        "{output:?}"
    );
}

#[test]
fn a_table_at_a_terminal_fits_its_width() {
    let ecosystem = sample();
    let _guest = ecosystem.install(LONGEST, "vectors", &[]);
    for columns in [60, 80, 200] {
        let Some(output) = at_terminal(&ecosystem, columns, &[("NO_COLOR", "1")], "list") else {
            return;
        };
        let widest = output
            .stdout
            .lines()
            .map(|line| line.trim_end().chars().count())
            .max();
        assert!(
            widest <= Some(usize::from(columns)),
            "{widest:?} of {columns} columns:\n{}",
            output.stdout
        );
        assert!(
            output.stdout.contains("Sample") && output.stdout.contains("STATE"),
            "{output:?}"
        );
    }
}

#[test]
fn colours_are_for_terminals_and_may_be_refused() {
    let ecosystem = sample();
    let Some(coloured) = at_terminal(&ecosystem, 120, &[], "list") else {
        return;
    };
    assert!(coloured.stdout.contains("\u{1b}["), "{coloured:?}");
    let plain =
        at_terminal(&ecosystem, 120, &[("NO_COLOR", "1")], "list").expect("script was there");
    assert!(!plain.stdout.contains("\u{1b}["), "{plain:?}");
}

#[test]
fn call_takes_json_and_takes_all_else_as_strings() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let echoed = |word: &str| {
        ecosystem
            .cli(&["call", "Vectors", "echo", word])
            .ok()
            .json()
    };
    for (word, value) in [
        ("Ada", json!("Ada")),
        ("\"Ada\"", json!("Ada")),
        ("two words", json!("two words")),
        ("7", json!(7)),
        ("-7", json!(-7)),
        ("true", json!(true)),
        ("null", json!(null)),
        ("[1, {\"a\": 2}]", json!([1, {"a": 2}])),
        ("héllo 👾", json!("héllo 👾")),
        ("a\nb", json!("a\nb")),
        ("", json!("")),
    ] {
        assert_eq!(echoed(word), value, "{word:?}");
    }
    assert_eq!(
        ecosystem
            .cli(&["call", "Vectors", "add", "1", "2"])
            .ok()
            .json()
            .as_f64(),
        Some(3.0)
    );
    assert_eq!(
        ecosystem.cli(&["call", "Vectors", "nothing"]).ok().json(),
        Value::Null
    );
    let long = "x".repeat(100_000);
    assert_eq!(echoed(&long), json!(long));
}

#[test]
fn call_says_why_a_command_failed() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["fail", "boom"], &["boom"]),
        (&["ecko", "1"], &["echo"]),
        (&["add", "1"], &["add", "argument"]),
        (&["panic"], &["crashed", "panic"]),
    ];
    for (words, said) in cases {
        let output = ecosystem
            .cli(&[&["call", "Vectors"], words].concat())
            .code(1);
        assert!(
            output.says(said) && output.stdout.is_empty(),
            "{words:?}: {output:?}"
        );
    }
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let ecosystem = sample();
    let usage: [&[&str]; 7] = [
        &[],
        &["no-such-command"],
        &["list", "--no-such-flag"],
        &["install", "OnlyAName"],
        &["install", "Sample", "f.so", "--port", "70000"],
        &["call", "Sample"],
        &["logs", "-n", "many"],
    ];
    for words in usage {
        let output = ecosystem.cli(words).code(2);
        assert!(
            output.stdout.is_empty(),
            "usage goes to standard error: {words:?}: {output:?}"
        );
    }
    let unknown: [&[&str]; 6] = [
        &["status", "Nobody"],
        &["call", "Nobody", "greet"],
        &["options", "Nobody"],
        &["stop", "Nobody"],
        &["restart", "Nobody"],
        &["uninstall", "Nobody"],
    ];
    for words in unknown {
        let output = ecosystem.cli(words).code(4);
        assert!(output.says(&["Nobody"]), "{words:?}: {output:?}");
    }
    let _ = ecosystem.cli(&["stop", "Sample"]).ok();
    for words in [
        &["call", "Sample", "greet", "Ada"][..],
        &["options", "Sample"],
    ] {
        let output = ecosystem.cli(words).code(3);
        assert!(output.says(&["Sample"]), "{words:?}: {output:?}");
    }
}

#[test]
fn several_names_each_get_their_turn() {
    let ecosystem = sample();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let output = ecosystem
        .cli(&["stop", "Nobody", "Sample", "Vectors"])
        .code(4);
    assert!(output.says(&["Nobody"]), "{output:?}");
    for name in ["Sample", "Vectors"] {
        assert_eq!(ecosystem.status(name)["state"], "stopped");
    }
}

#[test]
fn quiet_says_nothing_about_success() {
    let ecosystem = sample();
    for words in [
        &["--quiet", "stop", "Sample"][..],
        &["start", "Sample", "--quiet"],
        &["uninstall", "Sample", "-q"],
    ] {
        let output = ecosystem.cli(words).ok();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("", ""),
            "{words:?}"
        );
    }
    let output = ecosystem.cli(&["--quiet", "status", "Sample"]).code(4);
    assert!(!output.stderr.is_empty(), "failures are told all the same");
}

#[test]
fn help_and_version_are_data() {
    let ecosystem = Ecosystem::asleep();
    let help = ecosystem.cli(&["--help"]).ok();
    for word in [
        "Exit codes",
        "install",
        "uninstall",
        "logs",
        "check",
        "--json",
        "DAE_HOME",
        "no host",
    ] {
        assert!(help.stdout.contains(word), "{word} in {help:?}");
    }
    let version = ecosystem.cli(&["--version"]).ok();
    assert!(version.stdout.starts_with("dae-host "), "{version:?}");
    for command in [
        "run",
        "dev",
        "install",
        "uninstall",
        "start",
        "stop",
        "restart",
        "list",
        "scan",
        "status",
        "options",
        "call",
        "logs",
        "check",
    ] {
        let help = ecosystem.cli(&[command, "--help"]).ok();
        assert!(help.stdout.contains("Usage"), "{command}: {help:?}");
    }
}

#[test]
fn usage_shows_what_a_command_takes_whatever_the_environment_has() {
    let ecosystem = Ecosystem::asleep();
    // The tests always set DAE_HOME.
    for words in [&["call"][..], &["install"], &["start", "--nonsense"]] {
        let output = ecosystem.cli(words).code(2);
        assert!(output.stderr.contains("Usage: dae-host "), "{output:?}");
        assert!(!output.stderr.contains("--home"), "{output:?}");
    }
    // It still takes effect.
    let output = ecosystem.cli(&["list"]).code(7);
    let home = ecosystem.home();
    assert!(
        output.stderr.contains(home.to_str().expect("UTF-8")),
        "{output:?}"
    );
}

#[test]
fn a_hash_is_shown_short_to_a_person_and_whole_to_a_program() {
    let ecosystem = sample();
    let hash = ecosystem.status("Sample")["hash"].clone();
    let hash = hash.as_str().expect("a hash");
    assert_eq!(hash.len(), 64);
    let Some(output) = at_terminal(&ecosystem, 80, &[("NO_COLOR", "1")], "status Sample") else {
        return;
    };
    let mut lines = output.stdout.lines().map(str::trim);
    let line = lines.find_map(|line| line.strip_prefix("hash "));
    assert_eq!(line.map(str::trim), Some(&hash[..12]), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_to_shout_about() {
    let ecosystem = sample();
    let program = ecosystem.command();
    let line = format!(
        "'{}' logs -n 1000 | head -n 1",
        program.get_program().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).env("DAE_HOME", ecosystem.home());
    let output = program::run(&mut shell, LIMIT).ok();
    assert!(!output.says(&["panicked", "broken pipe"]), "{output:?}");
}

#[test]
fn what_people_try_first_is_answered_in_words() {
    let ecosystem = sample();
    for command in ["stop", "restart", "isolate", "uninstall", "reload", "state"] {
        let output = ecosystem.cli(&[command, "Dae"]).code(1);
        assert!(output.says(&["Dae is the host itself"]), "{output:?}");
    }
    let port = ecosystem.port_of("Sample");
    let _ = ecosystem.cli(&["stop", "Sample"]).ok();
    let shown = ecosystem.cli(&["status", "Sample"]).code(3).stdout;
    assert!(
        shown.contains(&format!("127.0.0.1:{port} (once it runs)")),
        "{shown}"
    );
    assert_eq!(ecosystem.status("Sample")["kept_port"], port);
    let _ = ecosystem.cli(&["call", "Sample", "dae"]).code(3);
    // A file without a name is installed under the plugin's own name.
    let file = ecosystem.plugin("counter");
    let _ = ecosystem
        .cli(&["install", file.to_str().expect("UTF-8")])
        .ok();
    ecosystem.until_state("Counter", "ready");
    let _ = ecosystem.cli(&["install", "Nowhere"]).code(2);
    // A command that returns nothing is answered without a result.
    let mut guest = ecosystem.guest("Dae");
    guest.send("subscribe [\"tick\"]\n");
    assert_eq!(guest.line(), "subscribe []");
    // Times sort as texts: all have the same length.
    let records = ecosystem.cli(&["logs", "--json"]).ok().json_lines();
    let times = records
        .iter()
        .map(|record| record["time"].as_str().expect("a time").len());
    assert!(times.clone().min() == times.clone().max(), "{records:#?}");
}

#[test]
fn a_quiet_host_tells_of_trouble_alone() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.wake(&["-q"]);
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    assert!(
        !ecosystem.stderr().contains(" INFO "),
        "{}",
        ecosystem.stderr()
    );
}

#[test]
fn patterns_and_all_stand_for_several_daemons() {
    for flags in [&[][..], &["--isolate"]] {
        let mut ecosystem = Ecosystem::start();
        for name in ["web-1", "web-2", "db"] {
            let _ = ecosystem.install(name, "sample", flags);
        }
        let changed = |words: &[&str]| {
            let output = ecosystem.cli(&[&["--json"], words].concat()).ok().json();
            let rows = output.as_array().expect("an array").iter();
            let names = rows.map(|row| row["name"].as_str().expect("a name").to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(changed(&["stop", "web-*"]), ["web-1", "web-2"]);
        assert_eq!(ecosystem.status("db")["state"], "ready");
        assert_eq!(changed(&["start", "web-2", "web-*"]), ["web-2", "web-1"]);
        assert_eq!(changed(&["reload", "--all"]), ["db", "web-1", "web-2"]);
        assert_eq!(ecosystem.status("db")["generation"], 2);
        let output = ecosystem.cli(&["restart", "cache-*"]).code(4);
        assert!(output.says(&["cache-*"]), "{output:?}");
        let _ = ecosystem.cli(&["stop"]).code(2);
        let _ = ecosystem.cli(&["stop", "--all", "db"]).code(2);
        let _ = ecosystem.cli(&["uninstall", "web-?"]).ok();
        ecosystem.stop();
        let _ = ecosystem.cli(&["uninstall", "--all"]).ok();
        ecosystem.wake(&[]);
        let rows = ecosystem.cli(&["--json", "list"]).ok().json();
        let own = rows
            .as_array()
            .expect("rows")
            .iter()
            .filter(|row| row["foreign"] != true);
        assert_eq!(own.count(), 1, "only Dae is left: {rows}");
    }
}

#[test]
fn a_name_that_is_given_twice_counts_once() {
    let ecosystem = Ecosystem::start();
    for name in ["A", "B"] {
        let _guest = ecosystem.install(name, "sample", &[]);
    }
    for command in ["restart", "isolate", "embed", "reload", "stop", "start"] {
        let words = [command, "A", "B", "A"];
        let output = ecosystem.cli(&[&["--json"], &words[..]].concat()).ok();
        let rows = output.json();
        let names: Vec<_> = rows.as_array().expect("rows").iter().collect();
        let names: Vec<_> = names.iter().map(|row| row["name"].as_str()).collect();
        assert_eq!(names, [Some("A"), Some("B")], "{command}");
    }
    for words in [
        &["stop", "A", "A"][..],
        &["start", "A", "A"],
        &["reload", "A", "A"],
    ] {
        let output = ecosystem.cli(words).ok();
        assert_eq!(output.stdout.lines().count(), 1, "{words:?}: {output:?}");
    }
    let once = ecosystem.cli(&["explain", "A"]).ok().stdout;
    assert_eq!(ecosystem.cli(&["explain", "A", "A"]).ok().stdout, once);
    for command in ["logs", "events"] {
        let once = ecosystem.cli(&[command, "B"]).ok().stdout;
        let twice = ecosystem.cli(&[command, "B", "B"]).ok().stdout;
        assert_eq!(twice, once, "{command}");
    }
    let output = ecosystem.cli(&["uninstall", "A", "A"]).ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
}
