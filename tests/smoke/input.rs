//! Input that is wrong or unusual: paths, names, a home that another host has, a port that another program has.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde_json::json;

use crate::host::{Host, PATIENT, make_private};
use crate::program::Program;

/// The length of a path that is longer than Windows takes in its oldest form (bytes).
const LONG_BYTES: usize = 300;

#[test]
fn paths_with_spaces_umlauts_and_many_characters_work() {
    let Some(program) = Program::asked() else {
        return;
    };
    for name in ["a home with spaces", "häuslich übergroß 家"] {
        let mut host = Host::asleep_in(program, name);
        let line = host.wake();
        assert!(
            line.ends_with(&format!("home {}", host.path(host.home()))),
            "{line}"
        );
        let directory = host.scratch(name);
        make_private(&directory);
        use_from(&host, &directory.join(program.library("mein Zähler")));
    }
}

#[test]
fn a_plugin_and_a_home_with_long_paths_work() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::asleep_in(program, &"long/".repeat(LONG_BYTES / 5));
    host.wake();
    let mut directory = host.scratch("deep");
    while directory.as_os_str().len() < LONG_BYTES {
        directory.push("deeper-and-deeper");
        make_private(&directory);
    }
    use_from(&host, &directory.join(program.library("counter")));
}

/// Installs a counter from that file, uses and reloads it in both modes, and uninstalls it.
#[track_caller]
fn use_from(host: &Host, file: &Path) {
    host.put("counter", file, "first");
    let named = host.path(file);
    let checked = host.cli(&["check", &named]).ok();
    assert!(
        checked.stdout.starts_with("Counter 0.1.0: a daemon"),
        "{checked:?}"
    );
    let _ = host.cli(&["install", "Counter", &named]).ok();
    assert_eq!(host.call(&["Counter", "increment"]), "1");
    for change in ["isolate", "reload", "embed", "reload"] {
        let _ = host.cli(&[change, "Counter"]).ok();
    }
    assert_eq!(host.call(&["Counter", "count"]), "1");
    assert_eq!(host.status("Counter")["source"], named);
    let _ = host.cli(&["uninstall", "Counter"]).ok();
}

#[test]
fn a_home_has_one_host() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let text = host.refused(&["run"], 6);
    let expected = "dae-host: the home HOME is in use by process 0 since 0-0-0T0:0:0Z; one host at a time: end that \
                    one, or choose another home (--home or DAE_HOME names another home)";
    assert_eq!(text, expected);
    assert_eq!(host.names(), ["Dae"], "the first host runs on");
}

#[test]
fn of_two_hosts_that_start_at_once_one_runs() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::asleep(program);
    let mut rivals = [host.launch(), host.launch()];
    let lines = rivals.each_mut().map(|rival| rival.line_within(PATIENT));
    let [first, second] = &lines;
    assert!(first.is_some() != second.is_some(), "{lines:?}");
    let (winner, loser) = match first {
        Some(_) => (0, 1),
        None => (1, 0),
    };
    assert_eq!(rivals[loser].end(PATIENT), Some(6));
    assert_eq!(host.names(), ["Dae"]);
    let _ = host.cli(&["shutdown"]).ok();
    assert_eq!(rivals[winner].end(PATIENT), Some(0));
    // The home is free again.
    host.wake();
}

#[test]
fn a_port_that_another_program_has_is_told_and_another_is_taken() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::asleep(program);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("a port").port();
    host.configure(&json!({"dae_port": port}));
    host.wake();
    assert_ne!(host.port("Dae"), port);
    host.until_written("which is Dae's own, is taken");
    let file = host.path(&program.plugin("sample"));
    let text = host.refused(
        &["install", "Sample", &file, "--port", &port.to_string()],
        1,
    );
    assert!(text.contains("is pinned, but can't be had"), "{text}");
    assert_eq!(host.names(), ["Dae"], "nothing is left of it");
}

#[test]
fn names_and_files_that_are_wrong_are_refused_with_a_reason() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let file = host.path(&program.plugin("sample"));
    let _ = host.cli(&["install", "Sample", &file]).ok();
    let [notes, nothing] = ["notes.txt", "nothing"].map(|name| host.scratch(name));
    fs::write(&notes, "no plugin\n").expect("a file of our own");
    let [notes, nothing] = [notes, nothing].map(|file| host.path(&file));
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["call", "Smaple", "met"],
            4,
            "dae-host: there is no daemon Smaple; did you mean Sample?",
        ),
        (
            &["stop", "Sampel"],
            4,
            "there is no daemon Sampel; did you mean Sample?",
        ),
        (
            &["install", "Sample", &file],
            1,
            "install NAME FILE --replace",
        ),
        (&["install", "no/name", &file], 1, "no/name"),
        (&["install", "Notes", &notes], 1, "notes.txt"),
        (&["install", "Nothing", &nothing], 1, "is not there"),
    ];
    for (words, code, part) in cases {
        let failed = host.cli(words).code(code);
        assert!(failed.stderr.contains(part), "{words:?}: {}", failed.stderr);
    }
    assert_eq!(host.names(), ["Dae", "Sample"]);
    assert_eq!(host.call(&["Sample", "met"]), "0");
}
