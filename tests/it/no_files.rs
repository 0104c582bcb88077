//! Pipes and devices in the place of files that a person names, or that lie in the home: nothing waits for them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use dae_tests::{Ecosystem, program};
use serde_json::json;

/// The message about a pipe in a file's place.
const TOLD: &str = "expected a regular file, got a pipe";

#[track_caller]
fn make_pipe(path: &Path) {
    // A file that is there is in the way.
    let _ = fs::remove_file(path);
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
}

/// Files of the home, each with command lines that read it, with or without a host.
const OF_HOME: [(&str, &[&str], bool); 8] = [
    ("config.json5", &["config", "reload"], true),
    ("config.json5", &["config", "Probe"], false),
    ("config.json5", &["run"], false),
    ("config.json5", &["explain", "Probe"], false),
    ("registry.json", &["run"], false),
    ("registry.json", &["config", "Probe"], false),
    ("logs/Probe.log", &["logs", "Probe"], false),
    ("logs/events/events.log", &["events"], false),
];

#[test]
fn a_pipe_in_the_home_is_told_and_not_waited_for() {
    for (file, words, has_host) in OF_HOME {
        let mut ecosystem = Ecosystem::start();
        let _guest = ecosystem.install("Probe", "probe", &[]);
        let path = ecosystem.home().join(file);
        let kept = fs::read(&path).expect("a file of the home");
        if !has_host {
            ecosystem.stop();
        }
        make_pipe(&path);
        let output = ecosystem.cli(words).code(1);
        assert!(output.says(&[TOLD]), "{words:?}: {output:?}");
        assert!(output.says(&[file]), "{words:?}: {output:?}");
        let doctor = ecosystem.cli(&["--json", "doctor"]);
        let is_seen = doctor.stdout.contains(TOLD);
        let is_checked = matches!(file, "config.json5" | "registry.json");
        assert_eq!(is_seen, is_checked, "{file}: {doctor:?}");
        fs::remove_file(&path).expect("our pipe");
        fs::write(&path, kept).expect("the file as it was");
    }
}

#[test]
fn a_host_starts_and_works_beside_pipes_that_it_needs_not_read() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Counter", "counter", &["--isolate"]);
    assert_eq!(guest.ask("increment", &json!([1])), 1);
    ecosystem.stop();
    for file in [
        "lock",
        "run/workers/1",
        "logs/events/events.log",
        "logs/Counter.log",
        "past/Gone@20261129T111044.343674Z.json",
    ] {
        make_pipe(&ecosystem.home().join(file));
    }
    // The lock is no file that a host could write its process into.
    let output = ecosystem.cli(&["run"]).code(1);
    assert!(output.says(&["lock"]), "{output:?}");
    fs::remove_file(ecosystem.home().join("lock")).expect("our pipe");
    ecosystem.wake(&[]);
    assert_eq!(ecosystem.guest("Counter").ask("count", &json!([])), 1);
    let state = ecosystem.home().join("states/Counter.json");
    let _ = ecosystem.cli(&["stop", "Counter"]).ok();
    make_pipe(&state);
    let output = ecosystem.cli(&["start", "Counter"]).code(1);
    assert!(output.says(&[TOLD]), "{output:?}");
    ecosystem.leaves("a pipe is open for the log of Counter");
}

#[test]
fn a_file_that_a_person_names_is_no_pipe_and_no_device() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    let pipe = ecosystem.scratch().join("pipe");
    make_pipe(&pipe);
    let pipe = pipe.display().to_string();
    let plugin = ecosystem.plugin("counter").display().to_string();
    let at = format!("@{pipe}");
    let set = ecosystem.scratch().join("dae.toml");
    let text = format!("[daemons.A]\nfile = {plugin:?}\nconfig = {at:?}\n");
    fs::write(&set, text).expect("a file of our own");
    let set = set.display().to_string();
    for words in [
        &["apply", "-f", &pipe][..],
        &["apply", "-f", &set],
        &["install", "A", &plugin, "--config", &at],
        &["install", "A", &plugin, "--settings", &at],
        &["install", "A", &plugin, "--config", "@/dev/zero"],
        &["state", "Counter", "--import", &pipe],
        &["state", "Counter", "--import", "/dev/zero"],
        &["upgrade", "Counter", &pipe],
        &["install", "A", &pipe],
        &["check", &pipe],
        &["client", &pipe],
    ] {
        let output = ecosystem.cli(words);
        assert_ne!(output.status, 0, "{words:?}: {output:?}");
        let parts = ["regular file", "no file", "a pipe", "not a file"];
        assert!(
            output.says(&parts) || output.stdout.contains("pipe"),
            "{words:?}: {output:?}"
        );
    }
    assert_eq!(ecosystem.names(), ["Dae", "Counter"]);
}

#[test]
fn the_output_of_a_command_may_stand_for_a_file() {
    let ecosystem = Ecosystem::start();
    let plugin = ecosystem.plugin("lifecycle").display().to_string();
    let ours = ecosystem.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf '{greeting: \"hi\"}' | \"$0\" \"$@\""])
        .arg(ours.get_program())
        .arg("--home")
        .arg(ecosystem.home())
        .args(["install", "A", &plugin, "--config", "@/dev/stdin"])
        .stdin(Stdio::null());
    let _ = program::run(&mut command, dae_tests::LIMIT).ok();
    let greeting = ecosystem.cli(&["call", "A", "greeting"]).ok();
    assert_eq!(greeting.stdout, "\"hi\"\n");
}
