//! `doctor`: what it finds in a home and on the machine, and what it cures.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use dae_tests::{Ecosystem, Output};
use serde_json::Value;

/// Returns the findings of one kind.
fn findings(output: &Output, kind: &str) -> Vec<Value> {
    let all = output.json();
    let all = all.as_array().expect("an array").iter();
    all.filter(|one| one["kind"] == kind).cloned().collect()
}

/// Checks that a kind has one finding of that severity, with a part of its text. Returns its cure.
#[track_caller]
fn expect(output: &Output, kind: &str, severity: &str, part: &str) -> String {
    let found = findings(output, kind);
    let one = found.iter().find(|one| one["severity"] == severity);
    let one = one.unwrap_or_else(|| panic!("no {severity} of {kind} in {output:?}"));
    let text = one["text"].as_str().expect("a text");
    assert!(text.contains(part), "{one}");
    one["cure"].as_str().unwrap_or_default().to_owned()
}

/// Runs `doctor --json`, with more words. Findings about the machine are not of this test.
fn doctor(ecosystem: &Ecosystem, words: &[&str]) -> Output {
    let output = ecosystem.cli(&[&["doctor", "--json"], words].concat());
    assert!(matches!(output.status, 0 | 1), "{output:?}");
    output
}

#[test]
fn a_sound_home_has_no_finding_with_and_without_a_host() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    for _ in 0..2 {
        let output = doctor(&ecosystem, &[]);
        for kind in [
            "home",
            "config",
            "registry",
            "host",
            "modes",
            "stale-files",
            "clock",
            "threads",
            "plugins",
        ] {
            let found = findings(&output, kind);
            assert!(!found.is_empty(), "{kind}: {output:?}");
            assert!(found.iter().all(|one| one["severity"] == "ok"), "{found:?}");
        }
        if ecosystem.cli(&["list"]).status == 0 {
            ecosystem.stop();
        }
    }
    let shown = ecosystem.cli(&["doctor"]).stdout;
    assert!(shown.starts_with("ok       home "), "{shown}");
}

#[test]
fn a_home_that_is_not_there_is_not_made() {
    let ecosystem = Ecosystem::asleep();
    let absent = ecosystem.scratch().join("absent");
    let words = [
        "doctor",
        "--json",
        "--home",
        absent.to_str().expect("UTF-8"),
    ];
    let output = ecosystem.cli(&words);
    let _ = expect(&output, "home", "ok", "is not there yet");
    assert!(!absent.exists());
}

#[test]
fn what_is_open_or_stale_is_cured() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let home = ecosystem.home();
    let states = home.join("states");
    fs::set_permissions(&states, Permissions::from_mode(0o755)).expect("a directory of our own");
    fs::write(home.join(".new-a1B2c3"), "").expect("a file");
    fs::write(home.join("images/old.so"), "").expect("a file");
    fs::write(home.join("store/0123.so"), "").expect("a file");
    drop(UnixListener::bind(home.join("run/control.sock")).expect("a socket"));

    let output = doctor(&ecosystem, &[]).code(1);
    let cure = expect(&output, "modes", "warning", "expected mode 0700");
    assert_eq!(cure, format!("chmod 700 {}", states.display()));
    let cure = expect(&output, "socket", "warning", "of a killed one");
    assert_eq!(cure, format!("rm {}/run/control.sock", home.display()));
    assert_eq!(findings(&output, "stale-files").len(), 3, "{output:?}");

    let output = doctor(&ecosystem, &["--fix"]);
    for kind in ["modes", "socket", "stale-files"] {
        let found = findings(&output, kind);
        assert!(found.iter().all(|one| one["fixed"] == true), "{found:?}");
    }
    let mode = fs::metadata(&states)
        .expect("a directory")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(!home.join("run/control.sock").exists());
    assert!(!home.join(".new-a1B2c3").exists());
    assert!(!home.join("images/old.so").exists());
    assert!(!home.join("store/0123.so").exists());
    let output = doctor(&ecosystem, &[]);
    for kind in ["modes", "host", "stale-files", "plugins"] {
        let _ = expect(&output, kind, "ok", "");
    }
    ecosystem.wake(&[]);
    ecosystem.until_state("Sample", "ready");
}

/// Gives an installed daemon that port. A port that its host has left could be another process's by then.
fn give_port(ecosystem: &Ecosystem, name: &str, port: u16) {
    let file = ecosystem.home().join("registry.json");
    let text = fs::read_to_string(&file).expect("the registry");
    let mut registry: Value = serde_json::from_str(&text).expect("JSON");
    registry["daemons"][name]["port"] = port.into();
    fs::write(&file, registry.to_string()).expect("space");
}

#[test]
fn a_taken_port_and_lost_or_open_files_are_named() {
    let mut ecosystem = Ecosystem::start();
    let copy = |name: &str| {
        let file = ecosystem.scratch().join(name);
        fs::copy(ecosystem.plugin("sample"), &file).expect("a copy");
        file
    };
    let (gone, open) = (copy("gone.so"), copy("open.so"));
    for (name, file) in [("Gone", &gone), ("Open", &open)] {
        let _ = ecosystem
            .cli(&["install", name, file.to_str().expect("UTF-8")])
            .ok();
    }
    ecosystem.stop();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    give_port(&ecosystem, "Gone", port);
    fs::remove_file(&gone).expect("a file of our own");
    fs::set_permissions(&open, Permissions::from_mode(0o666)).expect("a file of our own");

    let output = doctor(&ecosystem, &[]).code(1);
    let cure = expect(
        &output,
        "ports",
        "warning",
        &format!("port {port} of Gone is taken"),
    );
    assert_eq!(cure, format!("kill {}", std::process::id()));
    let plugins = findings(&output, "plugins");
    let parts = [
        "Gone was installed from is gone",
        "a reload of Open would be refused",
    ];
    for (finding, part) in plugins.iter().zip(parts) {
        let text = finding["text"].as_str().expect("a text");
        assert!(text.contains(part), "{plugins:?}");
    }
    assert!(plugins.len() >= parts.len(), "{plugins:?}");

    for file in fs::read_dir(ecosystem.home().join("store")).expect("the store") {
        fs::remove_file(file.expect("a file").path()).expect("our own");
    }
    let output = doctor(&ecosystem, &[]).code(1);
    let _ = expect(&output, "plugins", "error", "Gone can't start");
}

#[test]
fn a_broken_config_and_registry_and_a_clock_that_went_back_are_named() {
    let ecosystem = Ecosystem::asleep();
    let home = ecosystem.home();
    fs::write(home.join("config.json5"), "{dae_prot: 1}").expect("a file");
    fs::write(home.join("registry.json"), "[]").expect("a file");
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let registry = fs::File::options()
        .append(true)
        .open(home.join("registry.json"));
    registry
        .and_then(|file| file.set_modified(future))
        .expect("a time");
    let output = doctor(&ecosystem, &["--fix"]).code(1);
    let _ = expect(&output, "config", "error", "did you mean `dae_port`?");
    let _ = expect(
        &output,
        "registry",
        "error",
        "no host starts with this registry",
    );
    let cure = expect(&output, "clock", "warning", "in the future");
    assert_eq!(cure, "timedatectl set-ntp true");
    assert_eq!(
        fs::read_to_string(home.join("registry.json")).expect("it is left"),
        "[]"
    );
}
