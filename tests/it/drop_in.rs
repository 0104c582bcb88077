//! The drop-in directory: a file copied in runs, one removed is gone, and what is neither harms nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dae_tests::{Ecosystem, LIMIT, spoil, until};
use serde_json::json;

#[test]
fn a_file_dropped_in_runs_and_a_removed_one_is_gone() {
    let ecosystem = Ecosystem::start();
    let dropped = ecosystem.home().join("plugins").join("any-name.so");
    fs::copy(ecosystem.plugin("vectors"), &dropped).expect("the drop-in directory is there");
    ecosystem.until_state("Vectors", "ready");
    let mut guest = ecosystem.guest("Vectors");
    guest.expect_alive();
    fs::remove_file(&dropped).expect("our own file");
    until(LIMIT, "the daemon is gone", || ecosystem.names() == ["Dae"]);
    guest.expect_closed();
}

#[test]
fn a_file_that_is_still_being_copied_in_is_waited_for() {
    let ecosystem = Ecosystem::start();
    let bytes = fs::read(ecosystem.plugin("vectors")).expect("the plugin");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let dropped = spoil::write(&ecosystem.home().join("plugins"), "v.so", first);
    // The host looks at the whole directory: when a later file runs, it has seen the half one.
    let later = ecosystem.home().join("plugins").join("later.so");
    fs::copy(ecosystem.plugin("sample"), later).expect("the drop-in directory is there");
    ecosystem.until_state("Sample", "ready");
    assert_eq!(ecosystem.names(), ["Dae", "Sample"]);
    let mut file = fs::File::options()
        .append(true)
        .open(dropped)
        .expect("our own file");
    std::io::Write::write_all(&mut file, second).expect("room on the disk");
    drop(file);
    ecosystem.until_state("Vectors", "ready");
}

#[test]
fn the_drop_in_directory_counts_while_no_host_runs() {
    let mut ecosystem = Ecosystem::start();
    let dropped = ecosystem.home().join("plugins").join("v.so");
    ecosystem.stop();
    fs::copy(ecosystem.plugin("vectors"), &dropped).expect("the drop-in directory is there");
    ecosystem.wake(&[]);
    ecosystem.until_state("Vectors", "ready");
    ecosystem.stop();
    fs::remove_file(&dropped).expect("our own file");
    ecosystem.wake(&[]);
    until(LIMIT, "the daemon is gone", || ecosystem.names() == ["Dae"]);
}

/// The events of another directory are not heard, and a look every so often makes up for it.
#[test]
fn a_directory_that_was_replaced_is_looked_at_as_often_as_the_config_says() {
    let ecosystem = Ecosystem::start_configured(&json!({"drop_in_poll_ms": 100}));
    let plugins = ecosystem.home().join("plugins");
    let (before, next) = (ecosystem.scratch().join("before"), ecosystem.scratch());
    let next = next.join("next");
    fs::create_dir(&next).expect("a directory of our own");
    fs::set_permissions(&next, fs::Permissions::from_mode(0o700)).expect("it is ours");
    fs::rename(&plugins, before).expect("nobody holds it");
    fs::rename(&next, &plugins).expect("its place is free");
    fs::copy(ecosystem.plugin("vectors"), plugins.join("v.so")).expect("room on the disk");
    ecosystem.until_state("Vectors", "ready");
}

#[test]
fn a_bad_file_dropped_in_harms_nobody_and_is_named_in_the_log() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    spoil::write(
        &ecosystem.home().join("plugins"),
        "notes.so",
        b"just some notes\n",
    );
    until(LIMIT, "the host says why", || {
        ecosystem.stderr().contains("notes.so")
    });
    assert_eq!(ecosystem.names(), ["Dae", "Sample"]);
    ecosystem.guest("Sample").expect_alive();
}
