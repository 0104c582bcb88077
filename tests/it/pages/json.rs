//! The page of the JSON output: what each command prints has only the keys that the page explains.

use std::collections::BTreeSet;

use dae_tests::Ecosystem;
use serde_json::{Value, json};

use super::{page, quoted, section};

const PAGE: &str = "host/docs/json.md";

const STATUS: &str = "## `list` and `status`";
const WIDE: &str = "## `list --wide`";
const CHANGE: &str = "## `start`, `stop`, `restart`, `isolate`, `embed`";
const INSTALL: &str = "## `install`, `reload`, `rollback`";
const VERSIONS: &str = "## `rollback --list`";

/// Keys whose values are an author's own, are JSON Schemas, or have names for keys.
const FREE: [&str; 10] = [
    "config",
    "given",
    "origins",
    "settings",
    "data",
    "fields",
    "options",
    "quarantined",
    "result",
    "schema",
];

/// Adds the keys of a document at all levels.
fn collect(document: &Value, keys: &mut BTreeSet<String>) {
    match document {
        Value::Array(all) => all.iter().for_each(|one| collect(one, keys)),
        Value::Object(members) => {
            for (key, value) in members {
                keys.insert(key.clone());
                if !FREE.contains(&key.as_str()) {
                    collect(value, keys);
                }
            }
        }
        _ => {}
    }
}

#[track_caller]
fn explains(heading: &str, document: &Value) {
    let mut keys = BTreeSet::new();
    collect(document, &mut keys);
    assert!(!keys.is_empty(), "{heading}: nothing was printed");
    let text = section(PAGE, heading);
    // The page gives the state as a whole document, and refers to other tables.
    let mut explained = quoted(&text);
    explained.extend(["version", "data"].map(str::to_owned));
    let missing: Vec<_> = keys.difference(&explained).collect();
    assert!(missing.is_empty(), "{heading} explains no {missing:?}");
}

/// Returns the keys in the first column of a section's tables.
fn keys_of_tables(heading: &str) -> BTreeSet<String> {
    let text = section(PAGE, heading);
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| quoted(row.split('|').nth(1).expect("a first cell")))
        .collect()
}

#[test]
fn the_json_page_explains_every_key() {
    let mut ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("counter").display().to_string();
    let json = |words: &[&str]| {
        let words = [&["--json"], words].concat();
        ecosystem.cli(&words).ok().json()
    };
    explains(INSTALL, &json(&["install", "Counter", &file]));
    explains(STATUS, &json(&["list"]));
    explains(STATUS, &json(&["status", "Dae"]));
    let wide = json(&["list", "--wide"]);
    assert!(wide[0].get("cpu_percent").is_some(), "{wide}");
    explains("## `state`", &json(&["state", "Counter"]));
    explains(INSTALL, &json(&["reload", "Counter", "--fresh"]));
    explains("## `state`", &json(&["state", "Counter", "--history"]));
    explains(VERSIONS, &json(&["rollback", "Counter", "--list"]));
    explains(CHANGE, &json(&["isolate", "Counter"]));
    explains("## `uninstall`", &json(&["uninstall", "Counter"]));
    explains("## `check`", &json(&["check", &file]));
    explains("## `client`", &json(&["client", &file]));
    let made = ecosystem.scratch().join("greeter").display().to_string();
    explains("## `new`", &json(&["new", &made]));
    let logs = ecosystem.cli(&["--json", "logs"]).ok().json_lines();
    explains("## `logs`", &json!(logs));
    let events = ecosystem.cli(&["--json", "events"]).ok().json_lines();
    explains("## `events`", &json!(events));
    explains("## `shutdown`", &json(&["shutdown"]));
    assert_eq!(ecosystem.end(), 0);
}

#[test]
fn the_json_page_explains_the_keys_of_the_operators_tools() {
    let ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("counter").display().to_string();
    let json = |words: &[&str]| {
        let words = [&["--json"], words].concat();
        ecosystem.cli(&words).ok().json()
    };
    let _ = json(&["install", "Counter", &file]);
    let config = json(&["config", "Counter"]);
    explains("## `config`", &config);
    explains("## `config`", &json(&["config", "reload"]));
    explains("## `log`", &json(&["log", "Counter", "warn"]));
    let set = ecosystem.scratch().join("dae.toml");
    let text = format!("[daemons.Counter]\nfile = {file:?}\n");
    std::fs::write(&set, text).expect("the file");
    let set = set.display().to_string();
    explains("## `apply`", &json(&["apply", "-f", &set, "--dry-run"]));
    explains(
        "## `config`",
        &json(&["config", "Counter", "set", "port=1", "--dry-run"]),
    );
    explains("## `upgrade`", &json(&["upgrade", "Counter", &file]));
    let pages = ecosystem.scratch().join("man").display().to_string();
    explains("## `man`", &json(&["man", &pages]));
    explains("## `service`", &json(&["service", "install", "--dry-run"]));
    // Its code is 1 if something of the machine is to cure.
    let checked = ecosystem.cli(&["--json", "doctor"]).json();
    explains("## `doctor`", &checked);
}

/// Returns the public fields of a struct, which are the keys of its JSON.
#[track_caller]
fn fields(file: &str, name: &str) -> BTreeSet<String> {
    let source = page(file);
    let body = source.split(&format!("pub struct {name} {{")).nth(1);
    let body = body.and_then(|rest| rest.split("\n}").next());
    let lines = body.expect("the struct").lines();
    let names = lines.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_table_of_a_wide_list_has_the_keys_that_a_status_lacks() {
    const USAGE: &str = "host/store/src/usage.rs";
    let mut keys = fields(USAGE, "Usage");
    assert!(
        keys.remove("commands"),
        "its members stand beside the others"
    );
    keys.extend(fields(USAGE, "CommandRates"));
    let status = fields("host/store/src/report.rs", "Status");
    keys.retain(|key| !status.contains(key));
    let mut explained = keys_of_tables(WIDE);
    explained.retain(|key| !key.contains(' '));
    assert_eq!(explained, keys);
}

#[test]
fn the_tables_of_the_json_page_have_the_keys_of_the_reports() {
    const REPORT: &str = "host/store/src/report.rs";
    for (heading, file, name) in [
        (STATUS, REPORT, "Status"),
        ("## `scan`", REPORT, "Scan"),
        (INSTALL, REPORT, "Installed"),
        (VERSIONS, REPORT, "Version"),
        (CHANGE, REPORT, "Changed"),
        ("## `uninstall`", REPORT, "Uninstalled"),
        ("## `logs`", "host/store/src/log.rs", "Record"),
    ] {
        // The notes have a table of their own, further down.
        let mut keys = keys_of_tables(heading);
        keys.retain(|key| !key.contains(':'));
        assert_eq!(keys, fields(file, name), "{heading}");
    }
}

#[test]
fn the_json_page_explains_every_kind_of_event() {
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
    // An event of a later version has no name here.
    let missing: Vec<String> = kinds
        .filter(|kind| kind != "unknown" && !explained.contains(kind))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
