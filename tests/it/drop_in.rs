//! The drop-in directory: a file copied in runs, a removed one stops, and other files do no harm.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use dae_tests::{Ecosystem, LIMIT, spoil, until};
use serde_json::json;

#[test]
fn a_file_dropped_in_runs_and_a_removed_one_is_gone() {
    let ecosystem = Ecosystem::start_configured(&json!({"drop_in_gone_ms": 100}));
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
    // The host looks at the whole directory: once a later file runs, it has seen the half one.
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
    let mut ecosystem = Ecosystem::start_configured(&json!({"drop_in_gone_ms": 100}));
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

/// The host gets no file events from a directory that replaces the watched one. Its regular polls find the files there.
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

#[test]
fn a_drop_in_that_others_may_write_runs_once_they_may_not() {
    let ecosystem = Ecosystem::start();
    // The host ignores files with this kind of name, so that it first sees the file with its mode.
    let hidden = ecosystem.home().join("plugins/.v.so");
    let dropped = ecosystem.home().join("plugins/v.so");
    fs::copy(ecosystem.plugin("vectors"), &hidden).expect("the drop-in directory is there");
    fs::set_permissions(&hidden, Permissions::from_mode(0o666)).expect("our own file");
    fs::rename(&hidden, &dropped).expect("our own file");
    until(LIMIT, "the host refuses it", || {
        ecosystem.stderr().contains("may be written by everybody")
    });
    fs::set_permissions(&dropped, Permissions::from_mode(0o644)).expect("our own file");
    ecosystem.until_state("Vectors", "ready");
}

#[test]
fn what_is_no_plugin_by_kind_or_size_costs_nothing() {
    /// Far more memory than a host needs, and less than the smallest of the large files (bytes).
    const MEMORY_BYTES_MAX: u64 = 400 << 20;
    let ecosystem = Ecosystem::start();
    let plugins = ecosystem.home().join("plugins");
    for (name, bytes) in [("giant.so", 1_u64 << 40), ("large.so", 1000 << 20)] {
        let file = File::create(plugins.join(name)).expect("a file of our own");
        file.set_len(bytes).expect("a sparse file");
    }
    let made = Command::new("mkfifo").arg(plugins.join("fifo.so")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let _socket = UnixListener::bind(plugins.join("socket.so")).expect("a socket");
    std::os::unix::fs::symlink("/dev/zero", plugins.join("device.so")).expect("a link");
    fs::copy(ecosystem.plugin("vectors"), plugins.join("v.so")).expect("a plugin");
    ecosystem.until_state("Vectors", "ready");
    until(LIMIT, "the giant is named", || {
        ecosystem.stderr().contains("giant.so")
    });
    let status = fs::read_to_string(format!("/proc/{}/status", ecosystem.pid()));
    let status = status.expect("the host runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .and_then(|peak| peak.trim().trim_end_matches("kB").trim().parse().ok())
        .expect("the kernel tells its peak");
    assert!(kib << 10 < MEMORY_BYTES_MAX, "{kib} KiB");
    assert_eq!(ecosystem.names(), ["Dae", "Vectors"]);
}

#[test]
fn content_of_the_same_size_and_time_takes_over() {
    let ecosystem = Ecosystem::start();
    let plain = fs::read(ecosystem.plugin("recipe")).expect("a plugin");
    let of = |version: u64| spoil::of_recipe(plain.clone(), &json!({"version": version}));
    let scratch = ecosystem.scratch();
    let cases = [
        ("Here", scratch.join("here.so"), &[][..]),
        ("Apart", scratch.join("apart.so"), &["--isolate"]),
        ("Recipe", ecosystem.home().join("plugins/dropped.so"), &[]),
    ];
    for (name, file, flags) in cases {
        fs::write(&file, of(1)).expect("a file of our own");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a file of our own");
        if name != "Recipe" {
            let path = file.to_str().expect("UTF-8");
            let _ = ecosystem
                .cli(&[&["install", name, path], flags].concat())
                .ok();
        }
        ecosystem.until_state(name, "ready");
        let mut guest = ecosystem.guest(name);
        assert_eq!(guest.ask("version", &json!([])), 1);
        let time = fs::metadata(&file).and_then(|metadata| metadata.modified());
        // Overwrites the file in place, as `cp -p` does: the same inode.
        fs::write(&file, of(2)).expect("a file of our own");
        let opened = File::options().write(true).open(&file);
        let kept = opened.and_then(|opened| opened.set_modified(time?));
        kept.expect("a file of our own");
        until(LIMIT, "the new content answers", || {
            guest.ask("version", &json!([])) == 2
        });
    }
}
