//! Parts that outlive a daemon: its handles, which answer with errors, and its library, which is never closed.

use std::fs;

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::json;

#[test]
fn a_handle_kept_after_the_daemons_end_answers_with_an_error() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Lifecycle", "lifecycle", &[]);
    let file = ecosystem.scratch().join("told");
    guest.ask("haunt", &json!([file]));
    let _ = ecosystem.cli(&["uninstall", "Lifecycle"]).ok();
    until(
        LIMIT,
        "the thread that outlived its daemon has told",
        || fs::read_to_string(&file).is_ok_and(|told| told.ends_with('\n')),
    );
    let told = fs::read_to_string(&file).expect("just read");
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines[0].starts_with("credential refused: it has ended"),
        "{told}"
    );
    assert!(lines[1].starts_with("emit refused: "), "{told}");
    assert_eq!(lines[2], "open false", "{told}");
    assert!(lines[3].starts_with("spawn refused: "), "{told}");
    // The host itself still answers.
    let _ = ecosystem.cli(&["list"]).ok();
}

#[test]
fn a_library_is_never_closed_and_one_copy_serves_all_daemons_of_a_file() {
    let ecosystem = Ecosystem::start();
    let copies = || {
        let maps =
            fs::read_to_string(format!("/proc/{}/maps", ecosystem.pid())).expect("the host runs");
        let mapped = maps.lines().filter_map(|line| line.split_once("/images/"));
        mapped
            // The host deletes the file when no daemon uses it any more; the mapping stays.
            .map(|(_, file)| file.trim_end_matches(" (deleted)").to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(copies().len(), 0);
    let _one = ecosystem.install("One", "lifecycle", &[]);
    let _two = ecosystem.install("Two", "lifecycle", &[]);
    assert_eq!(copies().len(), 1, "two daemons of one file");
    let before = copies();
    let _ = ecosystem.cli(&["uninstall", "One", "Two"]).ok();
    assert_eq!(copies(), before, "uninstalled, and still mapped");
    let mut again = ecosystem.install("Three", "lifecycle", &[]);
    again.expect_alive();
    assert_eq!(copies(), before, "found again by its content");
}
