//! The resources of a subprocess: its bounds, environment, descriptors and output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use dae_tests::{Ecosystem, LIMIT, process, until};
use serde_json::{Value, json};

use super::{probe, process_of, text};

/// Variables that every subprocess may inherit from its host.
const SAFE_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

#[test]
fn a_subprocess_is_held_to_its_bounds() {
    let ecosystem = Ecosystem::start();
    let settings = json!({
        "bounds": {"memory_bytes": 1_u64 << 30, "files_max": 64, "cpu_s": 1000, "core_bytes": 0},
        "nice": 7,
    });
    let mut guest = probe(&ecosystem, &["--isolate"], &json!({}), &settings);
    let worker = process_of(&ecosystem, "Probe");
    for (name, value) in [
        ("Max address space", "1073741824"),
        ("Max open files", "64"),
        ("Max cpu time", "1000"),
        ("Max core file size", "0"),
    ] {
        assert_eq!(process::bound(worker, name), value, "{name}");
    }
    assert_eq!(process::nice(worker), 7);
    let fault = guest.ask_in_vain("open", &json!([1000]));
    assert_eq!(fault.code, "failed", "{fault:?}");
    assert!(fault.message.contains("Too many open files"), "{fault:?}");
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    assert_eq!(guest.ask("allocate", &json!([1 << 20])), 1);
    let fault = guest.ask_in_vain("allocate", &json!([2_u64 << 30]));
    assert_eq!(fault.code, "crashed", "{fault:?}");
    assert!(fault.message.contains("memory"), "{fault:?}");
    assert_eq!(guest.ask("echo", &json!([2])), 2);
    let status = ecosystem.status("Probe");
    assert!(
        text(&status["last_end"], "cause").contains("memory"),
        "{status}"
    );
    assert_eq!(status["restarts"], 1, "{status}");
}

#[test]
fn a_subprocess_gets_its_own_environment_and_of_the_hosts_only_what_is_safe() {
    let ecosystem = Ecosystem::start();
    let settings = json!({"env": {"GREETING": "ahoj", "TZ": "Europe/Prague"}});
    let _guest = probe(&ecosystem, &["--isolate"], &json!({}), &settings);
    let environment = process::environment(process_of(&ecosystem, "Probe"));
    assert_eq!(environment["GREETING"], "ahoj");
    assert_eq!(environment["TZ"], "Europe/Prague");
    let safe: BTreeSet<&str> = SAFE_VARIABLES.into_iter().chain(["GREETING"]).collect();
    let names: BTreeSet<&str> = environment.keys().map(String::as_str).collect();
    assert!(names.is_subset(&safe), "{names:?}");
    // The host itself has more, at least cargo's variables.
    let of_host = process::environment(ecosystem.pid());
    assert!(of_host.contains_key("CARGO_MANIFEST_DIR"), "{of_host:?}");
}

#[test]
fn a_subprocess_inherits_no_descriptor_but_its_own() {
    let mut ecosystem = Ecosystem::asleep();
    let path = ecosystem.scratch().join("of the shell's");
    let file = File::create(&path).expect("a file of our own");
    // A shell or a service manager may leave such a descriptor open in the host. Unlike Rust's, it survives an exec.
    let inherited = rustix::io::dup(&file).expect("a descriptor");
    ecosystem.wake(&[]);
    drop(inherited);
    let of_host = process::descriptors(ecosystem.pid());
    assert!(
        of_host.values().any(|target| *target == path),
        "{of_host:?}"
    );
    let _guest = probe(&ecosystem, &["--isolate"], &json!({}), &json!({}));
    let own = process::descriptors(process_of(&ecosystem, "Probe"));
    let is_own = |target: &str| {
        ["/dev/null", "pipe:", "socket:", "anon_inode:"]
            .iter()
            .any(|own| target.starts_with(own))
    };
    let foreign: Vec<_> = own
        .iter()
        .filter(|(_, target)| !is_own(&target.to_string_lossy()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    // It has none of the host's sockets: each end of a pair has a number of its own.
    let sockets = |of: &BTreeMap<u32, PathBuf>| -> BTreeSet<PathBuf> {
        let is_socket = |target: &&PathBuf| target.to_string_lossy().starts_with("socket:");
        of.values().filter(is_socket).cloned().collect()
    };
    let of_host = process::descriptors(ecosystem.pid());
    assert!(
        sockets(&own).is_disjoint(&sockets(&of_host)),
        "{own:?} {of_host:?}"
    );
    assert_eq!(own[&0].to_str(), Some("/dev/null"), "{own:?}");
}

/// All daemons in the host's process share its standard output and error.
#[test]
fn an_in_process_daemon_prints_where_the_host_does() {
    let ecosystem = Ecosystem::start();
    let mut guest = probe(&ecosystem, &[], &json!({}), &json!({}));
    let _ = guest.ask("complain", &json!(["a word of complaint"]));
    until(LIMIT, "the host has printed it", || {
        ecosystem.stderr().contains("a word of complaint")
    });
    let logged = ecosystem.logged("Probe");
    let is_there = |line: &String| line.contains("a word of complaint");
    assert!(!logged.iter().any(is_there), "{logged:?}");
}

#[test]
fn what_a_subprocess_prints_is_in_its_log() {
    let ecosystem = Ecosystem::start();
    let mut guest = probe(&ecosystem, &["--isolate"], &json!({}), &json!({}));
    let _ = guest.ask("print", &json!(["an ordinary word"]));
    let _ = guest.ask("complain", &json!(["a word of complaint"]));
    for (word, target) in [
        ("an ordinary word", "stdout"),
        ("a word of complaint", "stderr"),
    ] {
        ecosystem.until_logged("Probe", word);
        let records = ecosystem
            .cli(&["logs", "Probe", "--json"])
            .ok()
            .json_lines();
        let record = records.iter().find(|record| record["message"] == word);
        assert_eq!(record.expect("it is there")["target"], target);
    }
}

#[test]
fn a_stopped_subprocess_is_gone_when_stop_returns() {
    let ecosystem = Ecosystem::start();
    let _guest = probe(&ecosystem, &["--isolate"], &json!({}), &json!({}));
    let worker = process_of(&ecosystem, "Probe");
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    assert!(!process::children(ecosystem.pid()).contains(&worker));
    let status = ecosystem.status("Probe");
    assert_eq!(
        (&status["state"], &status["pid"]),
        (&json!("stopped"), &Value::Null),
        "{status}"
    );
}
