//! Commands in a home without a host: which of them know a name, and which end with code 7.

use std::collections::BTreeSet;
use std::fs;

use dae_tests::Ecosystem;
use dae_tests::artefacts::workspace;

/// Command lines with the name of a daemon that there isn't, each with its name on the page.
const UNKNOWN: [(&str, &[&str]); 24] = [
    ("call", &["call", "X", "greet"]),
    ("client", &["client", "X"]),
    ("config", &["config", "X"]),
    ("config", &["config", "X", "--all"]),
    ("connect", &["connect", "X"]),
    ("embed", &["embed", "X"]),
    ("events", &["events", "X"]),
    ("explain", &["explain", "X"]),
    ("isolate", &["isolate", "X"]),
    ("listen", &["listen", "X"]),
    ("log", &["log", "X"]),
    ("logs", &["logs", "X"]),
    ("options", &["options", "X"]),
    ("reload", &["reload", "X"]),
    ("restart", &["restart", "X"]),
    ("rollback", &["rollback", "X"]),
    ("start", &["start", "X"]),
    ("state", &["state", "X"]),
    ("state --history", &["state", "X", "--history"]),
    ("status", &["status", "X"]),
    ("stop", &["stop", "X"]),
    ("uninstall", &["uninstall", "X"]),
    ("graph", &["graph", "X"]),
    ("upgrade", &["upgrade", "X", "FILE"]),
];

/// Returns the names that the page says look in the home.
fn named_by_the_page() -> BTreeSet<String> {
    let page = fs::read_to_string(workspace().join("host/docs/operating.md")).expect("the page");
    let sentence = page.split(" look for the name").next();
    let names = sentence.and_then(|text| text.rsplit("Without a host, ").next());
    let quoted = names.expect("a sentence").split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn only_the_commands_that_the_page_names_look_for_a_name_without_a_host() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let file = ecosystem.plugin("counter").display().to_string();
    let mut found = BTreeSet::new();
    for (name, words) in UNKNOWN {
        let word = |word: &&'static str| match *word {
            "FILE" => file.clone(),
            word => word.to_owned(),
        };
        let words: Vec<String> = words.iter().map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = ecosystem.cli(&words);
        match output.status {
            4 => drop(found.insert(name.to_owned())),
            7 => assert!(output.says(&["no host runs"]), "{words:?}: {output:?}"),
            _ => panic!("{words:?}: {output:?}"),
        }
    }
    assert_eq!(found, named_by_the_page());
}

#[test]
fn what_needs_no_host_ends_well_without_one() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    for words in [
        &["config", "Sample"][..],
        &["events", "Sample"],
        &["explain", "Sample"],
        &["explain", "--all"],
        &["logs", "Sample"],
        &["state", "Sample", "--history"],
        &["completions", "bash"],
        &["uninstall", "Sample"],
    ] {
        let _ = ecosystem.cli(words).ok();
    }
    for words in [
        &["list"][..],
        &["scan"],
        &["export"],
        &["shutdown"],
        &["config", "reload"],
    ] {
        let _ = ecosystem.cli(words).code(7);
    }
}
