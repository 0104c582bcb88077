//! The drop-in directory: a file that is put there runs, and a file that is removed stops.

use std::fs;

use dae_tests::until;
use serde_json::json;

use crate::host::{Host, PATIENT};
use crate::program::Program;

#[test]
fn a_file_dropped_in_runs_is_reloaded_and_goes() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::asleep(program);
    host.configure(&json!({"drop_in_gone_ms": 100}));
    host.wake();
    let dropped = host
        .home()
        .join("plugins")
        .join(program.library("any-name"));
    host.put("counter", &dropped, "first");
    host.until_state("Counter", "ready");
    let mut guest = host.guest("Counter");
    assert_eq!(guest.ask("increment", &json!([])), 1);
    host.put("counter", &dropped, "second");
    until(PATIENT, "the new file takes over", || {
        host.status("Counter")["generation"] == 2
    });
    assert_eq!(guest.ask("increment", &json!([])), 2);
    // The host has the file of a running daemon open nowhere, so that a person can remove it.
    fs::remove_file(&dropped).expect("our own file");
    until(PATIENT, "the daemon is gone", || host.names() == ["Dae"]);
    guest.expect_closed();
}

#[test]
fn a_bad_file_dropped_in_is_named_in_the_log() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let notes = program.library("notes");
    let dropped = host.home().join("plugins").join(&notes);
    fs::write(dropped, "just some notes\n").expect("our own directory");
    host.until_written(&notes);
    assert_eq!(host.names(), ["Dae"]);
}
