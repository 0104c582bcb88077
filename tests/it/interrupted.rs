//! Ctrl-C, and the other signals that end a command, while the command waits: each says in one sentence what becomes of its
//! work, or ends as its help says.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use dae_tests::{Ecosystem, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The config of a daemon whose start never ends.
const HANGING_START: &str = r#"{"start": "hang"}"#;

/// The config of a daemon whose stop never ends.
const HANGING_STOP: &str = r#"{"stop": "block"}"#;

/// A running command line and the files that it writes to.
struct Waiting {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A command line that a signal has ended.
#[derive(Debug)]
struct Interrupted {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Waiting {
    #[track_caller]
    fn start(ecosystem: &Ecosystem, words: &[&str]) -> Self {
        let file = |name: &str| ecosystem.scratch().join(name);
        let (stdout, stderr) = (file("waiting.stdout"), file("waiting.stderr"));
        let open = |path: &PathBuf| Stdio::from(File::create(path).expect("a file of our own"));
        let mut command = ecosystem.command();
        command
            .args(words)
            .stdout(open(&stdout))
            .stderr(open(&stderr));
        let child = command.spawn().expect("the program can be run");
        Waiting {
            child,
            stdout,
            stderr,
        }
    }

    #[track_caller]
    fn end_by(mut self, signal: Signal) -> Interrupted {
        process::signal(self.child.id(), signal);
        let status = program::ends_within(&mut self.child, LIMIT).expect("it ends");
        let text = |path: &PathBuf| fs::read_to_string(path).expect("a file of our own");
        Interrupted {
            status,
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Interrupted {
    /// Returns the one error object on standard error.
    #[track_caller]
    fn error(&self) -> Value {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        let document: Value = serde_json::from_str(&self.stderr).expect("one JSON document");
        document["error"].clone()
    }
}

#[track_caller]
fn until_told(ecosystem: &Ecosystem, part: &str, times: usize) {
    until(LIMIT, part, || {
        ecosystem.stderr().matches(part).count() >= times
    });
}

#[test]
fn a_call_is_cancelled_and_says_so() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _guest = ecosystem.install("Probe", "probe", flags);
        let guests = || ecosystem.status("Probe")["guests"].as_u64();
        let before = guests();
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            for is_json in [false, true] {
                let option: &[&str] = if is_json { &["--json"] } else { &[] };
                let words = [option, &["call", "Probe", "slow", "600000"]].concat();
                let call = Waiting::start(&ecosystem, &words);
                until(LIMIT, "it is connected", || guests() > before);
                let ended = call.end_by(signal);
                assert_eq!(ended.status.code(), Some(code), "{ended:?}");
                assert_eq!(ended.stdout, "");
                let told = match is_json {
                    true => {
                        let error = ended.error();
                        let shown = (&error["kind"], &error["exit_code"]);
                        assert_eq!(shown, (&json!("interrupted"), &json!(code)), "{error}");
                        error["message"].to_string()
                    }
                    false => ended.stderr.clone(),
                };
                let parts = ["Probe answered slow", "cancelled", "may have run"];
                assert!(parts.iter().all(|part| told.contains(part)), "{ended:?}");
                assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
                until(LIMIT, "the host has let it go", || guests() == before);
            }
        }
    }
}

#[test]
fn a_load_test_without_an_answer_has_no_latencies_and_cancels_its_calls() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let _guest = ecosystem.install("Probe", "probe", flags);
        let guests = || ecosystem.status("Probe")["guests"].as_u64();
        let before = guests();
        let load = "call --repeat 9 --concurrency 3 Probe slow 600000";
        let words: Vec<&str> = load.split(' ').collect();
        for option in [&[][..], &["--json"]] {
            let load = Waiting::start(&ecosystem, &[option, &words[..]].concat());
            until(LIMIT, "it is connected", || {
                guests() > before.map(|n| n + 2)
            });
            let ended = load.end_by(Signal::INT);
            assert_eq!(ended.status.code(), Some(130), "{ended:?}");
            match option.is_empty() {
                true => {
                    assert!(ended.stdout.contains("min -  p50 -"), "{ended:?}");
                    let told = "dae-host: SIGINT after 0 of 9 calls\n";
                    assert_eq!(ended.stderr, told);
                }
                false => {
                    let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
                    let shown = (&report["calls"], &report["p50_us"], &report["max_us"]);
                    assert_eq!(shown, (&json!(0), &json!(null), &json!(null)));
                    assert_eq!(ended.error()["kind"], "interrupted");
                }
            }
            until(LIMIT, "the host has let all go", || guests() == before);
        }
    }
}

/// Changes that wait for a start that never ends, each after `A` runs, `B` is stopped and `dae.toml` names a third one.
const CHANGES: [&[&str]; 6] = [
    &["install", "C", "FILE", "--config", HANGING_START],
    &["start", "B"],
    &["restart", "B"],
    &["start", "B", "B"],
    &["apply", "-f", "SET"],
    &["config", "A", "set", "config.start=hang"],
];

/// Runs a change in an ecosystem of its own, and interrupts it while a start hangs.
#[track_caller]
fn interrupted_change(words: &[&str], options: &[&str]) -> Interrupted {
    let ecosystem = Ecosystem::start_configured(&json!({"start_ms": 1000}));
    let file = ecosystem.plugin("lifecycle").display().to_string();
    let _guest = ecosystem.install("A", "lifecycle", &[]);
    let _ = ecosystem.cli(&["install", "B", &file]).ok();
    let _ = ecosystem.cli(&["stop", "B"]).ok();
    let later = ["config", "B", "set", "config.start=hang"];
    let _ = ecosystem.cli(&later).ok();
    let set = ecosystem.scratch().join("dae.toml");
    let text = format!("[daemons.C]\nfile = {file:?}\nconfig = {HANGING_START:?}\n");
    fs::write(&set, text).expect("a file of our own");
    let set = set.display().to_string();
    let word = |word: &&str| match *word {
        "FILE" => file.clone(),
        "SET" => set.clone(),
        word => word.to_owned(),
    };
    let words: Vec<String> = options.iter().chain(words).map(word).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let change = Waiting::start(&ecosystem, &words);
    // `A` and `B` have started once before.
    until_told(&ecosystem, "step: start", 3);
    let ended = change.end_by(Signal::INT);
    assert_eq!(
        ended.status.signal(),
        Some(Signal::INT.as_raw()),
        "{words:?}"
    );
    ended
}

#[test]
fn a_change_says_once_that_the_host_carries_it_through() {
    for words in CHANGES {
        let ended = interrupted_change(words, &[]);
        assert_eq!(ended.stderr.lines().count(), 1, "{words:?}: {ended:?}");
        assert!(ended.stderr.contains("carries it through"), "{ended:?}");
        let error = interrupted_change(words, &["--json"]).error();
        let shown = (&error["kind"], &error["exit_code"]);
        assert_eq!(shown, (&json!("interrupted"), &json!(null)), "{words:?}");
    }
}

#[test]
fn several_names_are_told_of_once() {
    for words in [["reload", "A", "B"], ["stop", "B", "A"]] {
        let ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 1500}));
        for name in ["A", "B"] {
            let _guest = ecosystem.install(name, "lifecycle", &["--config", HANGING_STOP]);
        }
        let change = Waiting::start(&ecosystem, &words);
        until_told(&ecosystem, "step: stop", 1);
        let ended = change.end_by(Signal::INT);
        assert_eq!(ended.stderr.lines().count(), 1, "{words:?}: {ended:?}");
        ecosystem.leaves("a stop that never ends");
    }
}

#[test]
fn a_wait_for_the_end_or_the_start_of_a_host_goes_on_without_the_command() {
    let mut ecosystem =
        Ecosystem::start_configured(&json!({"start_ms": 2000, "stop_grace_ms": 2000}));
    let _guest = ecosystem.install("A", "lifecycle", &["--config", HANGING_STOP]);
    let shutdown = Waiting::start(&ecosystem, &["shutdown"]);
    until_told(&ecosystem, "step: stop", 1);
    let ended = shutdown.end_by(Signal::INT);
    assert_eq!(
        ended.status.signal(),
        Some(Signal::INT.as_raw()),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("goes on ending"), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let _ = ecosystem.end();

    let file = ecosystem.plugin("lifecycle").display().to_string();
    let words = ["install", "B", &file, "--config", HANGING_START];
    let _ = ecosystem.cli(&words).ok();
    let start = Waiting::start(&ecosystem, &["run", "--detach"]);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    let ended = start.end_by(Signal::INT);
    assert!(
        ended.stderr.contains("the start of the host goes on"),
        "{ended:?}"
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let _ = ecosystem.cli(&["shutdown"]).ok();
}

/// Commands that end by Ctrl-C, as their help says.
const STREAMS: [&[&str]; 4] = [
    &["logs", "-f"],
    &["events", "-f"],
    &["listen", "Clock", "subscribe"],
    &["list", "--watch"],
];

#[test]
fn a_stream_ends_by_the_signal_and_has_nothing_to_say() {
    let ecosystem = Ecosystem::start();
    let config = ["--config", r#"{"every_ms": 50}"#];
    let _guest = ecosystem.install("Clock", "clock", &config);
    for words in STREAMS {
        let stream = Waiting::start(&ecosystem, words);
        until(LIMIT, "it has begun", || {
            fs::metadata(&stream.stdout).is_ok_and(|file| file.len() > 0)
        });
        let ended = stream.end_by(Signal::INT);
        assert_eq!(
            ended.status.signal(),
            Some(Signal::INT.as_raw()),
            "{words:?}"
        );
        assert_eq!(ended.stderr, "", "{words:?}");
    }
}
