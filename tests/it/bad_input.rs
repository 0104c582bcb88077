//! Tests of bad input: each gets a clear answer and changes nothing.
//!
//! The tests hand every kind of bad plugin, name and config to `install`. Each must end with exit code 1 and a message
//! that names the cause, leave the home byte for byte as it was, and leave the running daemon alive.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dae_tests::{Ecosystem, Guest, Output, spoil};
use serde_json::json;

/// An ecosystem with one good daemon, and the files of its home from before the test.
struct Witness {
    ecosystem: Ecosystem,
    guest: Guest,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Witness {
    fn new() -> Self {
        let ecosystem = Ecosystem::start();
        let guest = ecosystem.install("Witness", "sample", &[]);
        let before = ecosystem.installed();
        assert!(
            !before.is_empty(),
            "an installed daemon leaves files in its home"
        );
        Witness {
            ecosystem,
            guest,
            before,
        }
    }

    /// Asserts that installing `file` as `name` fails and changes nothing.
    #[track_caller]
    fn refuses(&mut self, name: &str, file: &Path, flags: &[&str]) -> Output {
        let arguments = [&["install", name, file.to_str().expect("UTF-8")], flags].concat();
        // An empty name is a usage error, as is a missing one.
        let code = if name.is_empty() { 2 } else { 1 };
        let output = self.ecosystem.cli(&arguments).code(code);
        assert!(
            output.stdout.is_empty(),
            "a failure prints no data: {output:?}"
        );
        assert!(
            !output.says(&["panicked at src", "RUST_BACKTRACE"]),
            "that is no message: {output:?}"
        );
        self.unharmed();
        output
    }

    #[track_caller]
    fn unharmed(&mut self) {
        self.guest.expect_alive();
        assert_eq!(self.ecosystem.names(), ["Dae", "Witness"]);
        let now = self.ecosystem.installed();
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert!(
            now == self.before,
            "what is installed has changed: {:?}, then {:?}",
            names(&self.before),
            names(&now)
        );
    }

    fn plugin(&self) -> Vec<u8> {
        fs::read(self.ecosystem.plugin("vectors")).expect("a plugin")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        spoil::write(&self.ecosystem.scratch(), name, bytes)
    }
}

#[test]
fn command_names_that_nobody_could_call_are_refused() {
    let mut witness = Witness::new();
    for (from, to, part) in [
        ("slow", "help", "every host answers itself"),
        ("panic", "ready", "two commands named ready"),
        ("add", "a d", "without blanks"),
        ("add", "   ", "without blanks"),
    ] {
        let name = |name: &str| format!("{{\"name\":\"{name}\"").into_bytes();
        let bytes = spoil::replace_all(witness.plugin(), &name(from), &name(to));
        let file = witness.file("commands.so", &bytes);
        for flags in [&[][..], &["--isolate"]] {
            let output = witness.refuses("Bad", &file, flags);
            assert!(output.says(&[part]), "{output:?}");
        }
        let file = file.to_str().expect("UTF-8");
        let checked = witness.ecosystem.cli(&["check", file]).code(1);
        assert!(checked.says(&[part]), "{checked:?}");
    }
}

/// The spoiled manifest lists one more command than the code has. It takes its space from a doc comment.
#[test]
fn a_command_that_the_code_does_not_have_is_answered() {
    let ecosystem = Ecosystem::start();
    let plain = fs::read(ecosystem.plugin("vectors")).expect("a plugin");
    let doc = r#""doc":"Holds a thread for `ms`, then returns it.","kind":"blocking""#;
    for kind in ["blocking", "sync", "async"] {
        let more = format!(r#""kind":"sync"}},{{"name":"extra","kind":"{kind}""#);
        let more = format!("{more:<width$}", width = doc.len());
        let bytes = spoil::replace_all(plain.clone(), doc.as_bytes(), more.as_bytes());
        let file = spoil::write(&ecosystem.scratch(), &format!("{kind}.so"), &bytes);
        let file = file.to_str().expect("UTF-8");
        for flags in [&[][..], &["--isolate"]] {
            let name = format!("V-{kind}{}", flags.len());
            let arguments = [&["install", &name, file], flags].concat();
            let _ = ecosystem.cli(&arguments).ok();
            let fault = ecosystem.guest(&name).ask_in_vain("extra", &json!([1]));
            assert_eq!(fault.code, "unknown-command", "{kind} {flags:?}");
            assert!(fault.message.contains("extra"), "{fault:?}");
        }
    }
}

#[test]
fn every_bad_file_has_a_message_of_its_own() {
    let mut witness = Witness::new();
    let scratch = witness.ecosystem.scratch();
    let good = witness.plugin();
    let cases: [(PathBuf, &[&str]); 11] = [
        (
            scratch.join("missing.so"),
            &[
                "no such file",
                "not there",
                "does not exist",
                "doesn't exist",
                "no file",
                "missing",
                "not found",
            ],
        ),
        (scratch.clone(), &["directory"]),
        (
            witness.file("text.so", b"These are some notes.\n"),
            &["library", "text"],
        ),
        (witness.file("empty.so", b""), &["empty"]),
        (
            witness.file(
                "elsewhere.so",
                &spoil::of_another_architecture(good.clone()),
            ),
            &[
                "architecture",
                "aarch64",
                "machine",
                "compiled for",
                "built for",
            ],
        ),
        (
            witness.file("half.so", &good[..good.len() / 2]),
            &["truncated", "incomplete", "cut", "half", "whole", "end"],
        ),
        (
            witness.file("stub.so", &good[..40]),
            &["truncated", "incomplete", "cut", "half", "whole", "end"],
        ),
        (
            witness.ecosystem.plugin("no_daemon"),
            &["no daemon", "not a daemon", "isn't a daemon", "manifest"],
        ),
        (
            witness.file("older.so", &spoil::of_abi(good.clone(), 0)),
            &["older", "abi"],
        ),
        (
            witness.file("newer.so", &spoil::of_abi(good.clone(), 9)),
            &["newer", "abi"],
        ),
        (
            witness.file("abort.so", &spoil::of_panic_abort(good)),
            &["abort"],
        ),
    ];
    let mut messages = BTreeMap::new();
    for (file, words) in cases {
        let output = witness.refuses("Bad", &file, &[]);
        assert!(
            output.says(words),
            "{}: none of {words:?} in {output:?}",
            file.display()
        );
        // The message names the file's path, or the name from its manifest if that could be read.
        assert!(
            output.says(&[file.to_str().expect("UTF-8"), "Vectors"]),
            "the message does not name the plugin: {output:?}"
        );
        let text = output.stderr.replace(file.to_str().expect("UTF-8"), "FILE");
        if let Some(other) = messages.insert(text.clone(), file.clone()) {
            // A file cut off early and one cut off late count as the same fault.
            let both_cut = file.ends_with("stub.so") && other.ends_with("half.so");
            assert!(
                both_cut,
                "{} and {} have the same message: {text}",
                file.display(),
                other.display()
            );
        }
    }
}

#[test]
fn a_special_file_is_refused_and_not_waited_for() {
    let mut witness = Witness::new();
    let output = witness.refuses("Bad", Path::new("/dev/zero"), &[]);
    assert!(
        output.says(&["regular", "device", "not a file"]),
        "{output:?}"
    );
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let mut witness = Witness::new();
    let plugin = witness.plugin();
    let words: &[&str] = &["writ", "permission", "others", "mode"];

    let open = witness.file("open.so", &plugin);
    fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("our own file");
    let output = witness.refuses("Bad", &open, &[]);
    assert!(output.says(words), "{output:?}");

    let directory = witness.ecosystem.scratch().join("open");
    fs::create_dir(&directory).expect("our own directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("our own directory");
    let inside = spoil::write(&directory, "v.so", &plugin);
    fs::set_permissions(&inside, Permissions::from_mode(0o755)).expect("our own file");
    let output = witness.refuses("Bad", &inside, &[]);
    assert!(output.says(words), "{output:?}");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let mut witness = Witness::new();
    let file = witness.ecosystem.plugin("vectors");
    let too_long = "n".repeat(65);
    for name in [
        "",
        "two words",
        "a/b",
        "../up",
        "größe",
        "a#b",
        "a\nb",
        &too_long,
        "Dae",
    ] {
        let output = witness.refuses(name, &file, &[]);
        assert!(output.says(&["name"]), "{name:?}: {output:?}");
    }
    let longest = "n".repeat(64);
    let _ = witness
        .ecosystem
        .cli(&["install", &longest, file.to_str().expect("UTF-8")])
        .ok();
    assert!(witness.ecosystem.names().contains(&longest));
}

#[test]
fn a_start_that_fails_or_panics_says_so() {
    let mut witness = Witness::new();
    let file = witness.ecosystem.plugin("lifecycle");
    let failed = witness.refuses("Bad", &file, &["--config", r#"{"start": "fail"}"#]);
    assert!(failed.says(&["start was asked to fail"]), "{failed:?}");
    let panicked = witness.refuses("Bad", &file, &["--config", r#"{"start": "panic"}"#]);
    assert!(
        panicked.says(&["panic"]) && panicked.says(&["start was asked to panic"]),
        "{panicked:?}"
    );
}

#[test]
fn a_start_that_waits_for_ever_is_given_up() {
    let mut witness = Witness::new();
    let file = witness.ecosystem.plugin("lifecycle");
    let output = witness.refuses("Bad", &file, &["--config", r#"{"start": "hang"}"#]);
    assert!(
        output.says(&["10 s", "10s", "10000 ms", "within", "timed out", "limit"]),
        "{output:?}"
    );
}

#[test]
fn a_start_that_holds_its_thread_is_given_up_and_holds_up_nobody() {
    let mut witness = Witness::new();
    let file = witness.ecosystem.plugin("lifecycle");
    let output = witness.refuses("Bad", &file, &["--config", r#"{"start": "block"}"#]);
    assert!(
        output.says(&["10 s", "10s", "10000 ms", "within", "timed out", "limit"]),
        "{output:?}"
    );
    // That thread never returns, but the host must still end.
    witness.ecosystem.stop();
}

#[test]
fn a_config_that_does_not_fit_is_refused() {
    let mut witness = Witness::new();
    let file = witness.ecosystem.plugin("lifecycle");
    let unknown = witness.refuses("Bad", &file, &["--config", r#"{"colour": "red"}"#]);
    assert!(unknown.says(&["colour"]), "{unknown:?}");
    let wrong = witness.refuses("Bad", &file, &["--config", r#"{"greeting": 7}"#]);
    assert!(wrong.says(&["string"]), "{wrong:?}");
    let file = file.to_str().expect("UTF-8");
    for not_an_object in ["[]", "Ada", "{"] {
        let output = witness
            .ecosystem
            .cli(&["install", "Bad", file, "--config", not_an_object])
            .code(2);
        assert!(output.says(&["object"]), "{output:?}");
        witness.unharmed();
    }
}

#[test]
fn bad_files_are_refused_with_no_host_too() {
    let ecosystem = Ecosystem::asleep();
    let good = fs::read(ecosystem.plugin("vectors")).expect("a plugin");
    let half = spoil::write(&ecosystem.scratch(), "half.so", &good[..good.len() / 2]);
    let newer = spoil::write(&ecosystem.scratch(), "newer.so", &spoil::of_abi(good, 9));
    for file in [
        half,
        newer,
        ecosystem.plugin("no_daemon"),
        ecosystem.scratch(),
    ] {
        let output = ecosystem
            .cli(&["install", "Bad", file.to_str().expect("UTF-8")])
            .code(1);
        assert!(output.says(&[file.to_str().expect("UTF-8")]), "{output:?}");
    }
    let output = ecosystem
        .cli(&[
            "install",
            "no name",
            ecosystem.plugin("vectors").to_str().expect("UTF-8"),
        ])
        .code(1);
    assert!(output.says(&["name"]), "{output:?}");
}

#[test]
fn check_tells_good_from_bad_and_runs_nothing() {
    let ecosystem = Ecosystem::asleep();
    let good = ecosystem.plugin("vectors");
    let output = ecosystem
        .cli(&["check", good.to_str().expect("UTF-8")])
        .ok();
    for word in ["Vectors", "add", "unwind"] {
        assert!(output.stdout.contains(word), "{word} in {output:?}");
    }
    let report = ecosystem
        .cli(&["check", good.to_str().expect("UTF-8"), "--json"])
        .ok()
        .json();
    assert!(
        report.to_string().contains("The sum of two numbers"),
        "{report}"
    );
    let bad = ecosystem.plugin("no_daemon");
    let output = ecosystem
        .cli(&["check", bad.to_str().expect("UTF-8")])
        .code(1);
    assert!(output.says(&["daemon"]), "{output:?}");
}

#[test]
fn a_registry_that_cannot_be_read_is_left_alone() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let registry = registry_file(&ecosystem);
    for broken in ["{ not json", r#"{"version": 999, "daemons": {}}"#] {
        fs::write(&registry, broken).expect("the registry's file");
        let mut command = ecosystem.command();
        let output = dae_tests::program::run(command.arg("run"), dae_tests::LIMIT).code(1);
        assert!(
            output.says(&[registry.to_str().expect("UTF-8")]),
            "{output:?}"
        );
        assert_eq!(
            fs::read_to_string(&registry).expect("it is still there"),
            broken
        );
    }
}

/// Returns the file of the home that lists the daemon `Sample`.
fn registry_file(ecosystem: &Ecosystem) -> PathBuf {
    let named = |bytes: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(bytes)
            .is_ok_and(|json| json["daemons"]["Sample"] != json!(null))
    };
    let mut files = ecosystem
        .installed()
        .into_iter()
        .filter(|(_, bytes)| named(bytes))
        .map(|(path, _)| path);
    files.next().expect("a registry that people can read")
}
