//! Third-party clients: `nc`, `telnet`, a socket in Python, and Node's net with an EventEmitter.
//!
//! A missing tool skips its test with a message. Under CI (the variable `CI` is set) it fails the test, so that no test
//! is skipped unnoticed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use dae_tests::{Ecosystem, LIMIT, Running, program};

/// Returns the tool's command, if the machine has the tool.
pub(crate) fn tool(name: &str, probe: &[&str]) -> Option<Command> {
    let found = Command::new(name)
        .args(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok() {
        return Some(Command::new(name));
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} is not installed; CI needs it"
    );
    eprintln!("SKIPPED: {name} is not installed");
    None
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("it/clients")
        .join(name)
}

/// Returns a file as the standard input of a program that reads it to its end.
fn input(text: &str) -> Stdio {
    use std::io::{Seek as _, SeekFrom};
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(text.as_bytes())
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .expect("a temporary file");
    file.into()
}

fn ecosystem() -> (Ecosystem, String) {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let port = ecosystem.port_of("Vectors").to_string();
    (ecosystem, port)
}

#[test]
fn netcat_with_half_close() {
    let Some(mut nc) = tool("nc", &["-h"]) else {
        return;
    };
    let (_ecosystem, port) = ecosystem();
    nc.args(["-N", "127.0.0.1", &port])
        .stdin(input("add [1,2]\nslow [100]\necho [\"last\"]"));
    let output = program::run(&mut nc, LIMIT).ok();
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[1..], ["slow [100]", "echo [\"last\"]"], "{output:?}");
    assert!(["add [3]", "add [3.0]"].contains(&lines[0]), "{output:?}");
}

#[test]
fn the_line_that_the_readme_prints() {
    let Some(_) = tool("nc", &["-h"]) else { return };
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let line = format!(
        "printf 'greet [\"Ada\"]\\n' | nc -N 127.0.0.1 {}",
        ecosystem.port_of("Sample")
    );
    let output = program::run(Command::new("sh").args(["-c", &line]), LIMIT).ok();
    assert!(
        output.stdout.starts_with("greet [") && output.stdout.contains("Ada"),
        "{output:?}"
    );
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
}

/// A person at telnet types, reads the answer and types on. Telnet ends when its standard input does.
#[test]
fn telnet_as_a_person_uses_it() {
    let Some(mut telnet) = tool("telnet", &["--no-such-option"]) else {
        return;
    };
    let (_ecosystem, port) = ecosystem();
    let (mut keyboard, stdin) = keyboard();
    let mut telnet = Running::start(
        telnet
            .args(["127.0.0.1", &port])
            .stdin(stdin)
            .stderr(Stdio::null()),
    );
    telnet.line_with("Escape character", LIMIT);
    for (typed, shown) in [
        ("echo [\"one\"]", "echo [\"one\"]"),
        ("nope", "unknown-command"),
        ("refuse not-found nothing", "bad-arguments"),
        (
            "refuse ['full', 'no room', {free: 0}]",
            r#""code":"full","message":"no room","data":{"free":0}}]"#,
        ),
        ("dae", "\"Vectors\""),
    ] {
        writeln!(keyboard.hand, "{typed}").expect("telnet reads");
        telnet.line_with(shown, LIMIT);
    }
}

/// The typing end of a pipe that is a program's standard input.
struct Keyboard {
    hand: ChildStdin,
    cat: Child,
}

/// Returns a pipe through `cat`: [`Running`] takes a command with its standard input, so it offers no pipe to write to.
fn keyboard() -> (Keyboard, Stdio) {
    let mut cat = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat");
    let hand = cat.stdin.take().expect("it was asked for");
    let stdin = cat.stdout.take().expect("it was asked for").into();
    (Keyboard { hand, cat }, stdin)
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = self.cat.kill();
        let _ = self.cat.wait();
    }
}

#[test]
fn a_socket_in_python() {
    let Some(mut python) = tool("python3", &["--version"]) else {
        return;
    };
    let (_ecosystem, port) = ecosystem();
    let output = program::run(
        python
            .env("PYTHONIOENCODING", "utf-8")
            .arg(script("guest.py"))
            .arg(&port),
        LIMIT,
    )
    .ok();
    let expected = ["Vectors", "3", "héllo 👾", "boom", "no such key", "and on"];
    assert_same_lines(&output.stdout, &expected);
}

#[test]
fn an_event_emitter_in_node() {
    let Some(mut node) = tool("node", &["--version"]) else {
        return;
    };
    let (_ecosystem, port) = ecosystem();
    let output = program::run(node.arg(script("guest.js")).arg(&port), LIMIT).ok();
    assert_same_lines(
        &output.stdout,
        &[
            "Vectors",
            "3",
            "héllo 👾",
            "boom",
            "no such key",
            "tick 0",
            "tick 1",
            "tick 2",
            "closed",
        ],
    );
}

#[test]
fn parts_in_python_and_node() {
    let (_ecosystem, port) = ecosystem();
    for (name, file) in [("python3", "parts.py"), ("node", "parts.js")] {
        let Some(mut tool) = tool(name, &["--version"]) else {
            continue;
        };
        let output = program::run(tool.arg(script(file)).arg(&port), LIMIT).ok();
        assert_same_lines(&output.stdout, &["item 1", "item 2", "item 3", "end []"]);
    }
}

/// Compares lines of output. Python shows a sum of floats as `3.0`, Node as `3`; both count as `3`.
#[track_caller]
fn assert_same_lines(stdout: &str, expected: &[&str]) {
    let lines: Vec<_> = stdout
        .lines()
        .map(|line| if line == "3.0" { "3" } else { line })
        .collect();
    assert_eq!(lines, expected);
}
