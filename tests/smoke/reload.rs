//! Reloads: by command, by a changed file, and under load.

use std::fs;

use dae_tests::{Load, until};
use serde_json::json;

use crate::host::{Host, PATIENT};
use crate::program::Program;

/// The number of reloads under load.
const RELOADS: u64 = 50;

#[test]
fn fifty_reloads_under_load_lose_no_command() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let file = host.scratch(&program.library("peer"));
    host.put("peer", &file, "0");
    let _ = host.cli(&["install", "Peer", &host.path(&file)]).ok();
    let load = Load::light(host.port("Peer"));
    for version in 1..=RELOADS {
        host.put("peer", &file, &version.to_string());
        let _ = host.cli(&["reload", "Peer"]).ok();
    }
    let seen = load.end();
    assert_eq!(seen.crashed, 0, "a reload ends no command: {seen:?}");
    let status = host.status("Peer");
    assert_eq!(status["restarts"], 0, "{status}");
    // The host notices a changed file by itself as well, and may have been faster than the command.
    let generation = status["generation"].as_u64();
    assert!(generation > Some(RELOADS), "{status}");
}

#[test]
fn a_changed_file_is_reloaded_by_itself_and_the_state_goes_along() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let file = host.scratch(&program.library("counter"));
    for flags in [&["--isolate"][..], &[]] {
        host.put("counter", &file, "first");
        let named = host.path(&file);
        let words = [&["install", "Counter", &named], flags].concat();
        let _ = host.cli(&words).ok();
        let mut guest = host.guest("Counter");
        assert_eq!(guest.ask("increment", &json!([5])), 5);
        host.put("counter", &file, "second");
        until(PATIENT, "the new file takes over", || {
            host.status("Counter")["generation"] == 2
        });
        assert_eq!(guest.ask("count", &json!([])), 5, "the connection stays");
        let _ = host.cli(&["uninstall", "Counter"]).ok();
    }
}

#[test]
fn a_broken_file_is_refused_and_the_old_code_runs_on() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let file = host.scratch(&program.library("counter"));
    host.put("counter", &file, "first");
    let _ = host.cli(&["install", "Counter", &host.path(&file)]).ok();
    let mut guest = host.guest("Counter");
    fs::write(&file, "no library at all").expect("a file of our own");
    let text = host.refused(&["reload", "Counter"], 1);
    assert!(text.contains("counter"), "{text}");
    assert_eq!(guest.ask("increment", &json!([])), 1);
    assert_eq!(host.status("Counter")["generation"], 1);
}
