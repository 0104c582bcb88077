//! `dae-host new`: each template is made, tested, installed, called and reloaded; and what is refused leaves nothing.
//!
//! The crates lie in a temporary directory, as an author's do. They share the target directory and the profile of the
//! workspace, so that most of their dependencies are built already.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Ecosystem, Guest, LIMIT, Output, program};
use serde_json::json;

/// The longest build: perhaps the first of all dependencies, on a busy machine.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// Makes a crate in the ecosystem's scratch directory, and returns its directory.
#[track_caller]
fn made(ecosystem: &Ecosystem, name: &str, options: &[&str]) -> PathBuf {
    let directory = ecosystem.scratch().join(name);
    let place = directory.to_str().expect("a path in UTF-8");
    let words = [&["new", place, "--json"], options].concat();
    let made = ecosystem.cli(&words).ok().json();
    assert_eq!(made["name"], name);
    assert_eq!(made["directory"], place);
    let next = made["next"].as_str().expect("a command line");
    assert!(next.ends_with(&format!(" dev {place}")), "{next}");
    // The same versions as here, so that nothing has to be fetched.
    fs::copy(workspace().join("Cargo.lock"), directory.join("Cargo.lock")).expect("our own");
    directory
}

/// Runs cargo in a crate, and expects it to succeed without a warning.
#[track_caller]
fn cargo(directory: &Path, words: &[&str]) -> Output {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(words)
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    assert!(!output.says(&["warning"]), "{output:#?}");
    output
}

/// Runs the crate's tests and builds its plugin. Returns the plugin's file.
#[track_caller]
fn tested(directory: &Path, tests: usize) -> String {
    let output = cargo(directory, &["test"]);
    let passed = format!("test result: ok. {tests} passed");
    assert!(output.stdout.contains(&passed), "{output:#?}");
    let _ = cargo(directory, &["build"]);
    let name = directory.file_name().and_then(|name| name.to_str());
    let name = name.expect("a name in UTF-8").replace('-', "_");
    let file = target_directory().join(format!("debug/lib{name}.so"));
    file.to_str().expect("a path in UTF-8").to_owned()
}

/// Tries a crate's plugin in the host's process and in a subprocess.
fn tried(ecosystem: &mut Ecosystem, file: &str, name: &str, test: impl Fn(&Ecosystem, &mut Guest)) {
    ecosystem.wake(&[]);
    for flags in [&[][..], &["--isolate"]] {
        let _ = ecosystem.cli(&[&["install", file], flags].concat()).ok();
        let mut guest = ecosystem.guest(name);
        test(ecosystem, &mut guest);
        let _ = ecosystem.cli(&["uninstall", name, "--purge"]).ok();
    }
}

#[test]
fn the_plain_template_is_tested_and_goes_on_counting_after_a_reload() {
    let mut ecosystem = Ecosystem::asleep();
    let file = tested(&made(&ecosystem, "made-plain", &[]), 1);
    tried(&mut ecosystem, &file, "MadePlain", |ecosystem, guest| {
        let first = guest.ask("greet", &json!(["Ada"]));
        assert_eq!(first, "Hello, Ada! You are number 1.");
        let _ = ecosystem.cli(&["reload", "MadePlain"]).ok();
        let second = guest.ask("greet_later", &json!(["Bob", 1]));
        assert_eq!(second, "Hello, Bob! You are number 2.");
    });
}

#[test]
fn the_tokio_template_is_tested_and_goes_on_counting_after_a_reload() {
    let mut ecosystem = Ecosystem::asleep();
    let file = tested(&made(&ecosystem, "made-tokio", &["--tokio"]), 1);
    tried(&mut ecosystem, &file, "MadeTokio", |ecosystem, guest| {
        let first = guest.ask("greet", &json!(["Ada"]));
        assert_eq!(first, "Hello, Ada! You are number 1.");
        let _ = ecosystem.cli(&["reload", "MadeTokio"]).ok();
        let second = guest.ask("greet_later", &json!([1, "Bob"]));
        assert_eq!(second, json!(["Hello, Bob! You are number 2."]));
    });
}

#[test]
fn the_state_template_is_tested_and_remembers_after_a_reload() {
    let mut ecosystem = Ecosystem::asleep();
    let file = tested(&made(&ecosystem, "made-state", &["--state"]), 2);
    tried(&mut ecosystem, &file, "MadeState", |ecosystem, guest| {
        let first = guest.ask("greet", &json!(["Ada"]));
        assert_eq!(first, "Hello, Ada! This is greeting number 1.");
        let _ = ecosystem.cli(&["reload", "MadeState"]).ok();
        let second = guest.ask("greet_later", &json!(["Ada", 1]));
        assert_eq!(second, "Hello, Ada! This is greeting number 2.");
        let state = ecosystem.cli(&["state", "MadeState"]).ok().json();
        assert_eq!(state["version"], 2);
    });
}

#[test]
fn the_http_template_is_tested_and_its_page_stays_at_its_port_over_reloads() {
    let mut ecosystem = Ecosystem::asleep();
    let file = tested(&made(&ecosystem, "made-http", &["--http"]), 1);
    tried(&mut ecosystem, &file, "MadeHttp", |ecosystem, guest| {
        let url = guest.ask("url", &json!([]));
        let address = url.as_str().and_then(|url| url.strip_prefix("http://"));
        let address = address.expect("a URL").trim_end_matches('/').to_owned();
        for visit in 1..=5 {
            // The second command is answered once the first one waits.
            guest.send("next_visit#n\nvisits#v\n");
            guest.expect(&format!("visits#v [{}]", visit - 1));
            assert!(visited(&address).contains(&format!("visit number {visit}.")));
            guest.expect(&format!("next_visit#n [{visit}]"));
            let _ = ecosystem.cli(&["reload", "MadeHttp"]).ok();
            assert_eq!(guest.ask("url", &json!([])), url);
        }
    });
}

/// Returns the answer of a web server. The server may close the connection without an end, so any error is the end.
fn visited(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the page is there");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

#[test]
fn a_crate_in_a_workspace_is_read_by_cargo_whether_it_is_listed_or_not() {
    let ecosystem = Ecosystem::asleep();
    let scratch = ecosystem.scratch();
    let manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n";
    fs::write(scratch.join("Cargo.toml"), manifest).expect("our own");
    fs::create_dir(scratch.join("plugins")).expect("our own");
    for (name, is_own) in [("plugins/member", false), ("stranger", true)] {
        let directory = scratch.join(name);
        let place = directory.to_str().expect("a path in UTF-8");
        let _ = ecosystem.cli(&["new", place]).ok();
        let _ = cargo(&directory, &["metadata", "--no-deps", "--format-version=1"]);
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).expect("a manifest");
        assert_eq!(manifest.contains("[workspace]"), is_own, "{manifest}");
    }
}

/// Returns the names in the ecosystem's scratch directory, sorted.
fn left(ecosystem: &Ecosystem) -> Vec<String> {
    let entries = fs::read_dir(ecosystem.scratch()).expect("our own");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_refused_crate_leaves_nothing_and_says_why() {
    let ecosystem = Ecosystem::asleep();
    let scratch = ecosystem.scratch();
    let place = |name: &str| scratch.join(name).to_str().expect("UTF-8").to_owned();
    fs::create_dir(place("taken")).expect("our own");
    fs::write(place("a-file"), "").expect("our own");
    for (name, code, reason) in [
        ("taken", 1, "is there already"),
        ("a-file", 1, "is there already"),
        ("nowhere/greeter", 1, "make it first"),
        ("a-file/greeter", 1, "a part of that path is a file"),
        ("MyDaemon", 2, "did you mean my-daemon?"),
        ("test", 2, "a crate of Rust"),
        ("string", 2, "hide another String"),
    ] {
        let output = ecosystem.cli(&["new", &place(name)]).code(code);
        assert!(output.says(&[reason]), "{name}: {output:?}");
    }
    let output = ecosystem.cli(&["new", &place("greeter"), "--api", &place("taken")]);
    assert!(output.code(2).says(&["holds no crate dae-plugin-api"]));
    let output = ecosystem.cli(&["new", &place("greeter"), "--http", "--tokio"]);
    assert!(output.code(2).says(&["cannot be used with"]));
    assert_eq!(left(&ecosystem), ["a-file", "taken"]);
}

#[test]
fn a_crate_that_the_system_refuses_leaves_nothing_and_says_what_to_do() {
    let ecosystem = Ecosystem::asleep();
    // Nobody may make a directory there, not even root.
    let output = ecosystem.cli(&["new", "/sys/greeter"]).code(1);
    let reasons = ["in which you may write", "read-only"];
    assert!(output.says(&reasons), "{output:?}");

    // Files of at most 1 KiB, of which the source has more; so have the files that take the program's output.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 2; exec \"$0\" new \"$1\""])
        .arg(ecosystem.command().get_program())
        .arg(ecosystem.scratch().join("greeter"))
        .env("DAE_HOME", ecosystem.home());
    let output = program::run(&mut limited, LIMIT).code(1);
    assert!(output.says(&["nothing is left"]), "{output:?}");
    assert!(output.says(&["ulimit -f"]), "{output:?}");
    assert_eq!(left(&ecosystem), [""; 0]);
}

/// A script that interrupts the program stands in for cargo, which `new` asks whether a workspace lists the crate.
#[test]
fn an_interrupt_leaves_a_whole_crate() {
    let ecosystem = Ecosystem::asleep();
    let scratch = ecosystem.scratch();
    fs::write(scratch.join("Cargo.toml"), "[workspace]\n").expect("our own");
    let cargo = scratch.join("cargo");
    program::write_script(&cargo, "#!/bin/sh\nkill -INT $PPID\n");
    let mut command = ecosystem.command();
    command.args(["new", "greeter"]).current_dir(&scratch);
    let output = program::run(command.env("CARGO", &cargo), LIMIT);
    assert_eq!((output.status, &*output.stdout), (-1, ""), "{output:?}");
    assert_eq!(left(&ecosystem), ["Cargo.toml", "cargo", "greeter"]);
    for file in [".gitignore", "Cargo.toml", "README.md", "src/lib.rs"] {
        let file = scratch.join("greeter").join(file);
        assert!(file.is_file(), "{}", file.display());
    }
}
