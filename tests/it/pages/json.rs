//! The page of the JSON output, and its schemas: each document that a command prints fits the schema of the command, no
//! command is without one, and the page explains each member.

use std::collections::BTreeSet;
use std::fs;

use dae_tests::{Ecosystem, LIMIT, program::Output};
use serde_json::{Map, Value, json};

use super::{page, quoted, section};
use crate::list::Mixed;

const PAGE: &str = "host/docs/json.md";
const SCHEMAS: &str = "host/docs/json-schema.json";

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The sections of parts that stand in the documents of several commands.
const SHARED: [&str; 4] = [
    "## Errors",
    "## `list` and `status`",
    "## `state`",
    "## `events`",
];

fn definitions() -> Map<String, Value> {
    let schemas: Value = serde_json::from_str(&page(SCHEMAS)).expect("JSON");
    schemas["$defs"].as_object().expect("definitions").clone()
}

/// Checks a document against the definition of that name.
#[track_caller]
fn fits(name: &str, document: &Value) {
    let definitions = definitions();
    assert!(definitions.contains_key(name), "there is no schema {name}");
    let schema = json!({"$ref": format!("#/$defs/{name}"), "$defs": definitions});
    let validator = jsonschema::draft202012::new(&schema).expect("a schema of the draft 2020-12");
    let wrong: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{document:#}");
}

/// Runs a command with `--json`, and checks its document. Returns the document.
#[track_caller]
fn printed(ecosystem: &Ecosystem, name: &str, words: &[&str]) -> Value {
    let document = ecosystem.cli(&[&["--json"], words].concat()).ok().json();
    fits(name, &document);
    document
}

/// Runs a command that fails, and checks its error. Returns its output, and the error.
#[track_caller]
fn failed(ecosystem: &Ecosystem, words: &[&str]) -> (Output, Value) {
    let output = ecosystem.cli(&[&["--json"], words].concat());
    assert_ne!(output.status, 0, "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    let failure: Value = serde_json::from_str(&output.stderr).expect("one JSON document");
    fits("Failure", &failure);
    let error = failure["error"].clone();
    assert_eq!(error["exit_code"], output.status, "{output:?}");
    (output, error)
}

/// Returns the commands, as clap has them: each has a page of the manual.
pub(crate) fn commands(ecosystem: &Ecosystem) -> BTreeSet<String> {
    let directory = ecosystem.scratch().join("man");
    let made = directory.display().to_string();
    let _ = printed(ecosystem, "man", &["man", &made]);
    let entries = fs::read_dir(directory).expect("the pages");
    let names = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let name = name.strip_prefix("dae-host-")?.strip_suffix(".1")?;
        Some(name.to_owned())
    });
    names.collect()
}

/// Returns the command that prints the documents of a definition; `None` if it is a part of others.
fn command_of(definition: &str) -> Option<&str> {
    let is_command = definition.starts_with(|c: char| c.is_ascii_lowercase());
    is_command.then(|| definition.split('-').next().unwrap_or(definition))
}

/// Returns the headings of the page that name the command.
fn headings(command: &str) -> Vec<String> {
    let page = page(PAGE);
    let own = page.lines().filter(|line| line.starts_with("## "));
    let names_it = |heading: &&str| {
        let named = quoted(heading);
        let firsts = named.iter().filter_map(|name| name.split(' ').next());
        firsts.collect::<Vec<_>>().contains(&command)
    };
    own.filter(names_it).map(str::to_owned).collect()
}

/// Adds the names of all members in a schema, and in the parts that it refers to.
fn members(schema: &Value, definitions: &Map<String, Value>, names: &mut BTreeSet<String>) {
    match schema {
        Value::Array(all) => all.iter().for_each(|one| members(one, definitions, names)),
        Value::Object(keywords) => {
            if let Some(properties) = keywords.get("properties").and_then(Value::as_object) {
                names.extend(properties.keys().cloned());
                properties
                    .values()
                    .for_each(|one| members(one, definitions, names));
            }
            let others = keywords.iter().filter(|(key, _)| *key != "properties");
            others.for_each(|(_, value)| members(value, definitions, names));
            let part = keywords.get("$ref").and_then(Value::as_str);
            let part = part.and_then(|path| definitions.get(path.strip_prefix("#/$defs/")?));
            part.iter()
                .for_each(|part| members(part, definitions, names));
        }
        _ => {}
    }
}

#[test]
fn every_command_has_a_schema_and_a_section_of_the_page() {
    let ecosystem = Ecosystem::asleep();
    let (commands, definitions) = (commands(&ecosystem), definitions());
    assert!(commands.len() > 30, "{commands:?}");
    let described: BTreeSet<String> = definitions
        .keys()
        .filter_map(|name| command_of(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, commands);
    for command in &commands {
        assert!(
            !headings(command).is_empty(),
            "{PAGE} has no section on {command}"
        );
    }
    let tests = page("tests/it/pages/json.rs");
    // Their output is a daemon's own, or needs a systemd or a compiler; other tests run them.
    const OTHERS: [&str; 5] = ["call", "connect", "dev", "service-uninstall", "top"];
    for name in definitions.keys().filter(|name| command_of(name).is_some()) {
        let is_tried = tests.contains(&format!("\"{name}\""));
        assert!(
            is_tried || OTHERS.contains(&name.as_str()),
            "nothing tries {name}"
        );
    }
}

#[test]
fn the_page_explains_every_member_of_the_schemas() {
    let definitions = definitions();
    let shared: String = SHARED
        .iter()
        .map(|heading| section(PAGE, heading))
        .collect();
    for (name, schema) in &definitions {
        let Some(command) = command_of(name) else {
            continue;
        };
        let sections = headings(command).into_iter().map(|one| section(PAGE, &one));
        let explained = quoted(&(sections.collect::<String>() + &shared));
        let mut names = BTreeSet::new();
        members(schema, &definitions, &mut names);
        let missing: Vec<_> = names.difference(&explained).collect();
        assert!(missing.is_empty(), "{name}: {PAGE} explains no {missing:?}");
    }
    for name in ["State", "Mode", "TakesEffect", "CauseKind"] {
        let words = definitions[name]["enum"].as_array().expect("words").iter();
        let explained = quoted(&page(PAGE));
        for word in words.filter_map(Value::as_str) {
            assert!(explained.contains(word), "{PAGE} explains no {word}");
        }
    }
}

/// Checks that every object of a schema has all its members, and no others.
fn check_closed(name: &str, schema: &Value) {
    match schema {
        Value::Array(all) => all.iter().for_each(|one| check_closed(name, one)),
        Value::Object(keywords) => {
            if let Some(properties) = keywords.get("properties").and_then(Value::as_object) {
                assert_eq!(
                    keywords.get("additionalProperties"),
                    Some(&json!(false)),
                    "{name}"
                );
                let required = keywords["required"].as_array().expect("names").len();
                // A credential is as its daemon has sent it.
                assert!(
                    required == properties.len() || name == "Credential",
                    "{name}"
                );
            }
            keywords.values().for_each(|one| check_closed(name, one));
        }
        _ => {}
    }
}

#[test]
fn an_object_of_the_schemas_has_all_its_members_and_no_others() {
    for (name, schema) in definitions() {
        check_closed(&name, &schema);
    }
}

/// Checks the rows and the documents of the daemons of a [`Mixed`].
#[track_caller]
fn check_each_state(ecosystem: &Ecosystem) {
    let list = printed(ecosystem, "list", &["list"]);
    let _ = printed(ecosystem, "list", &["list", "--sort", "state"]);
    let _ = printed(ecosystem, "list-wide", &["list", "--wide"]);
    let _ = printed(ecosystem, "scan", &["scan"]);
    for (name, state, mode) in [
        ("Dae", "ready", json!("in-process")),
        ("Here", "ready", json!("in-process")),
        ("Own", "ready", json!("subprocess")),
        ("Still", "stopped", json!("in-process")),
        ("Loops", "crash-loop", json!("in-process")),
        ("Waits", "backoff", json!("subprocess")),
        ("Far", "foreign", json!(null)),
    ] {
        let rows = list.as_array().expect("rows").iter();
        let row = rows.clone().find(|row| row["name"] == name).expect(name);
        let shown = (&row["state"], &row["mode"], &row["foreign"]);
        let is_foreign = json!(name == "Far");
        assert_eq!(shown, (&json!(state), &mode, &is_foreign), "{row}");
        let status = ecosystem.cli(&["status", name, "--json"]);
        fits("status", &status.json());
        assert_eq!(status.stderr, "", "the document says it all");
        let _ = printed(ecosystem, "explain", &["explain", name]);
    }
}

#[test]
fn daemons_in_all_states_and_modes_fit_the_schemas() {
    let mixed = Mixed::start();
    let ecosystem = &mixed.ecosystem;
    check_each_state(ecosystem);
    let status = ecosystem.status("Loops");
    assert_eq!(status["last_end"]["kind"], "run-failed", "{status}");
    for words in [&["events", "-n", "1000"][..], &["logs", "-n", "1000"]] {
        let documents = ecosystem
            .cli(&[&["--json"], words].concat())
            .ok()
            .json_lines();
        assert!(documents.len() > 5, "{documents:?}");
        documents.iter().for_each(|one| fits(words[0], one));
    }
    let all = printed(ecosystem, "explain", &["explain", "--all"]);
    assert!(all.as_array().is_some_and(|rows| rows.len() > 4), "{all}");
    let exported = printed(ecosystem, "export", &["export"]);
    assert_eq!(
        exported["daemons"]["Waits"]["config"],
        json!({"run": "fail"})
    );
    let file = ecosystem.scratch().join("dae.toml").display().to_string();
    let _ = printed(ecosystem, "export-file", &["export", "-f", &file]);
    let _ = printed(ecosystem, "options", &["options", "Own"]);
    let _ = printed(ecosystem, "options-verbose", &["options", "Own", "-v"]);
    // Its code is 1 if something of the machine is to cure.
    fits("doctor", &ecosystem.cli(&["--json", "doctor"]).json());
}

/// Checks the commands that leave the daemon's file as it is.
#[track_caller]
fn check_values(ecosystem: &Ecosystem) {
    let print = |name: &str, words: &[&str]| printed(ecosystem, name, words);
    let _ = print("reload", &["reload", "Counter", "--fresh"]);
    let _ = print("reload", &["reload", "--all"]);
    for command in ["stop", "start", "restart", "embed", "isolate"] {
        let _ = print(command, &[command, "Counter"]);
    }
    let graph = print("graph", &["graph"]);
    assert_eq!(graph[0]["callee"], "Counter", "{graph}");
    let _ = print("log", &["log", "Counter", "warn"]);
    let _ = print("config-reload", &["config", "reload"]);
    let _ = print("config", &["config", "Counter"]);
    let set = ["config", "Counter", "set", "restart.burst_max=9"];
    let set = print("config-set", &set);
    let expected = json!([{"path": "settings.restart.burst_max", "from": 5, "to": 9}]);
    assert_eq!(set["changed"], expected);
    let unset = [
        "config",
        "Counter",
        "unset",
        "restart.burst_max",
        "--dry-run",
    ];
    let _ = print("config-set", &unset);
}

#[test]
fn the_commands_that_change_something_fit_the_schemas() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let file = ecosystem.plugin("counter").display().to_string();
        let other = ecosystem.plugin("sample").display().to_string();
        let print = |name: &str, words: &[&str]| printed(&ecosystem, name, words);
        let _ = print("install", &[&["install", "Counter", &file], flags].concat());
        let _ = print(
            "call-repeat",
            &["call", "--repeat", "3", "Counter", "count"],
        );
        let _ = print("state", &["state", "Counter"]);
        let saved = ecosystem.scratch().join("state.json").display().to_string();
        let _ = print("state-export", &["state", "Counter", "--export", &saved]);
        let _ = print("state-import", &["state", "Counter", "--import", &saved]);
        let _ = print("state-history", &["state", "Counter", "--history"]);
        check_values(&ecosystem);
        let _ = print("upgrade", &["upgrade", "Counter", &file]);
        let upgraded = print("upgrade", &["upgrade", "Counter", &other]);
        assert_ne!(upgraded[0]["from"]["hash"], upgraded[0]["to"]["hash"]);
        let _ = print("rollback-list", &["rollback", "Counter", "--list"]);
        let _ = print("rollback", &["rollback", "Counter"]);
        let _ = print("uninstall", &["uninstall", "Counter"]);
        let _ = print("shutdown", &["shutdown"]);
        assert_eq!(ecosystem.end(), 0);
    }
}

#[test]
fn an_apply_has_values_and_error_kinds_in_its_rows() {
    let ecosystem = Ecosystem::start();
    let (file, other) = (ecosystem.plugin("counter"), ecosystem.plugin("sample"));
    let set = ecosystem.scratch().join("dae.toml");
    let declare = |file: &std::path::Path| {
        let text = format!("[daemons.A]\nfile = {file:?}\n[daemons.B]\nfile = \"nowhere\"\n");
        fs::write(&set, text).expect("the file");
    };
    declare(&file);
    let path = set.display().to_string();
    // Without a file for B, the preview fails too.
    let preview = || {
        let (output, _) = failed(&ecosystem, &["apply", "-f", &path, "--dry-run"]);
        fits("apply", &output.json());
        output.json()
    };
    assert_eq!(preview()[0]["error"], Value::Null);
    let (output, error) = failed(&ecosystem, &["apply", "-f", &path]);
    let rows = output.json();
    fits("apply", &rows);
    assert_eq!(rows[1]["error"], error);
    declare(&other);
    let rows = preview();
    let paths: Vec<_> = rows[0]["changed"]
        .as_array()
        .expect("changes")
        .iter()
        .collect();
    assert_eq!(paths[0]["path"], "file");
    assert_eq!(paths[0]["to"], json!(other));
    assert_eq!(paths[1]["path"], "content");
}

#[test]
fn the_commands_that_need_no_host_fit_the_schemas() {
    let ecosystem = Ecosystem::asleep();
    let file = ecosystem.plugin("counter").display().to_string();
    let _ = printed(&ecosystem, "install", &["install", "Counter", &file]);
    let _ = printed(&ecosystem, "check", &["check", &file]);
    let _ = printed(&ecosystem, "client", &["client", &file]);
    let _ = printed(&ecosystem, "config", &["config", "Counter"]);
    let _ = printed(&ecosystem, "explain", &["explain", "Counter"]);
    let _ = printed(&ecosystem, "completions", &["completions", "bash"]);
    let made = ecosystem.scratch().join("greeter").display().to_string();
    let _ = printed(&ecosystem, "new", &["new", &made]);
    let _ = printed(
        &ecosystem,
        "service-install",
        &["service", "install", "--dry-run"],
    );
    fits(
        "service-status",
        &ecosystem.cli(&["--json", "service", "status"]).json(),
    );
    let _ = printed(&ecosystem, "uninstall", &["uninstall", "Counter"]);
    let text = ecosystem.scratch().join("text.so").display().to_string();
    fs::write(&text, "no plugin").expect("a file");
    let (output, _) = failed(&ecosystem, &["check", &text]);
    fits("check", &output.json());
}

#[test]
fn endless_streams_print_a_document_a_line() {
    let ecosystem = Ecosystem::asleep();
    let mut host = ecosystem.cli_running(&["run", "--json"]);
    let line = |line: String| serde_json::from_str::<Value>(&line).expect("JSON");
    fits("run", &line(host.line(LIMIT)));
    let file = ecosystem.plugin("clock").display().to_string();
    let config = r#"{"every_ms": 50}"#;
    let _ = printed(
        &ecosystem,
        "install",
        &["install", "Clock", &file, "--config", config],
    );
    let mut ticks = ecosystem.cli_running(&["--json", "listen", "Clock", "subscribe"]);
    fits("listen", &line(ticks.line(LIMIT)));
    let mut events = ecosystem.cli_running(&["--json", "events", "-f"]);
    let mut logs = ecosystem.cli_running(&["--json", "logs", "-f"]);
    fits("events", &line(events.line(LIMIT)));
    fits("logs", &line(logs.line(LIMIT)));
    let _ = printed(&ecosystem, "shutdown", &["shutdown"]);
    assert_eq!(host.end(LIMIT), Some(0));
}

/// Command lines that fail beside the daemons `A`, which runs, and `B`, which is stopped; each with its code and kind.
const FAILURES: [(&[&str], i32, &str); 16] = [
    (&["status", "Nobody"], 4, "unknown-daemon"),
    (&["call", "Nobody", "greet"], 4, "unknown-daemon"),
    (&["logs", "Nobody"], 4, "unknown-daemon"),
    (&["explain", "Nobody"], 4, "unknown-daemon"),
    (&["reload", "Nobody"], 4, "unknown-daemon"),
    (&["call", "A", "nothing"], 1, "answered"),
    (&["call", "B", "greet", "Ada"], 3, "not-running"),
    (&["install", "C", "nowhere.so"], 1, "failed"),
    (&["rollback", "A", "--to", "0123"], 1, "failed"),
    (&["config", "A", "set", "port=0"], 2, "usage"),
    (&["config", "A", "--edit"], 2, "usage"),
    (&["top"], 2, "usage"),
    (&["stop"], 2, "usage"),
    (&["no-command"], 2, "usage"),
    (&["list", "--no-option"], 2, "usage"),
    (&["run"], 6, "home-held"),
];

#[test]
fn a_failed_command_prints_one_error_object() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let file = ecosystem.plugin("sample").display().to_string();
        for name in ["A", "B"] {
            let words = [&["install", name, &file], flags].concat();
            let _ = printed(&ecosystem, "install", &words);
        }
        let _ = printed(&ecosystem, "stop", &["stop", "B"]);
        for (words, code, kind) in FAILURES {
            let (output, error) = failed(&ecosystem, words);
            let shown = (output.status, output.stdout.as_str(), &error["kind"]);
            assert_eq!(shown, (code, "", &json!(kind)), "{words:?}: {error}");
        }
        let (_, error) = failed(&ecosystem, &["install", "A", &file]);
        assert_eq!(error["kind"], "name-taken");
        assert!(error["hint"].to_string().contains("--replace"), "{error}");
    }
}

#[test]
fn without_a_host_the_error_has_the_command_that_starts_one() {
    let ecosystem = Ecosystem::asleep();
    for words in [
        &["list"][..],
        &["status", "A"],
        &["stop", "--all"],
        &["events", "-f"],
    ] {
        let (output, error) = failed(&ecosystem, words);
        let shown = (output.status, output.stdout.as_str());
        assert_eq!(shown, (7, ""), "{words:?}");
        assert_eq!(error["kind"], "no-host");
        assert!(error["hint"].to_string().contains(" run`"), "{error}");
    }
}

#[test]
fn a_command_that_fails_in_part_has_a_row_for_each_daemon() {
    let ecosystem = Ecosystem::start();
    for name in ["A", "B"] {
        let _guest = ecosystem.install(name, "sample", &[]);
    }
    let _ = printed(&ecosystem, "stop", &["stop", "--all"]);
    let words = ["start", "A", "Nobody", "B"];
    let (output, error) = failed(&ecosystem, &words);
    let rows = output.json();
    fits("start", &rows);
    assert_eq!(
        (output.status, &error["kind"]),
        (4, &json!("unknown-daemon"))
    );
    assert_eq!(rows[1]["error"], error);
    let others = (&rows[0]["error"], &rows[2]["state"]);
    assert_eq!(others, (&json!(null), &json!("ready")));
    let (output, _) = failed(&ecosystem, &["uninstall", "Nobody", "B"]);
    fits("uninstall", &output.json());
    let text = ecosystem.scratch().join("text.so").display().to_string();
    fs::write(&text, "no plugin").expect("a file");
    let (output, _) = failed(&ecosystem, &["upgrade", "A", &text]);
    fits("upgrade", &output.json());
}

#[test]
fn the_page_explains_every_kind_of_event() {
    let source = page("host/store/src/event.rs");
    let body = source.split("pub enum DaeEventKind {").nth(1);
    let body = body.and_then(|rest| rest.split("\n}").next());
    let is_variant =
        |line: &&str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase();
    let variants = body.expect("the enum").lines().filter(is_variant);
    let kinds = variants.map(|line| {
        let name = line.trim().trim_end_matches(['{', ',', ' ']);
        let dashed = name.chars().map(|c| match c.is_ascii_uppercase() {
            true => format!("-{}", c.to_ascii_lowercase()),
            false => c.to_string(),
        });
        dashed
            .collect::<String>()
            .trim_start_matches('-')
            .to_owned()
    });
    let explained = quoted(&section(PAGE, "## `events`"));
    let schema = definitions()["events"].to_string();
    // An event of a later version has no name here.
    let missing: Vec<String> = kinds
        .filter(|kind| kind != "unknown")
        .filter(|kind| !explained.contains(kind) || !schema.contains(&format!("\"{kind}\"")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
