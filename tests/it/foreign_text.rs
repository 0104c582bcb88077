//! Text from a foreign daemon: it is harmless at a terminal, and no wait for a silent daemon lasts for ever.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use dae_tests::{Ecosystem, Output};
use serde_json::json;

use crate::discovery::scene;

/// Control characters that clear the screen, switch to right-to-left text, and start a control sequence in one byte.
const HARMFUL: &str = "\u{1b}[2J\u{202e}\u{9b}31m";

/// A width that does not fit in 16 bits (characters).
const WIDE_CHARS: usize = 70_000;

/// Serves every guest of a port until the test's process ends. `answer` returns the reply to a line by its name and
/// arguments.
pub(crate) fn serve(answer: impl Fn(&str, &str) -> Option<String> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let credential =
        json!([{"name": "Strange", "version": HARMFUL, "pid": std::process::id(), "port": port}]);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (answer, credential) = (answer.clone(), credential.to_string());
            std::thread::spawn(move || converse(stream, &credential, answer));
        }
    });
    port
}

fn converse(stream: TcpStream, credential: &str, answer: impl Fn(&str, &str) -> Option<String>) {
    let mut replies = stream.try_clone().expect("a descriptor");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let (name, arguments) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match name {
            "dae" => Some(format!("dae {credential}")),
            name => answer(name, arguments),
        };
        let sent = reply.map_or(Ok(()), |reply| writeln!(replies, "{reply}"));
        if sent.is_err() {
            return;
        }
    }
}

/// Starts a host that has found the daemon `Strange` on that port.
pub(crate) fn host_beside(port: u16) -> Ecosystem {
    let ecosystem = Ecosystem::start_configured(&scene::only(&[port]));
    assert_eq!(scene::scan(&ecosystem), ["Strange"]);
    ecosystem
}

#[track_caller]
fn assert_harmless(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let harmful = |c: char| HARMFUL.contains(c) && (c.is_control() || c > '\u{2000}');
        assert!(
            !text.contains(harmful),
            "{:?}",
            text.chars().take(500).collect::<String>()
        );
        assert!(!text.contains("panicked"), "{text:.500}");
    }
}

#[test]
fn nothing_that_a_foreign_daemon_says_drives_the_terminal() {
    let wide = "w".repeat(WIDE_CHARS);
    let port = serve(move |name, _| match name {
        "options" => {
            let options = json!([{&wide: 1, (format!("odd{HARMFUL}")): wide}]);
            Some(format!("options {options}"))
        }
        "fail" => {
            let message = format!("first\nsecond{HARMFUL}{wide}");
            let error = json!([{"command": "fail", "code": HARMFUL, "message": message}]);
            Some(format!("error {error}"))
        }
        "garble" => Some(format!("garble [{HARMFUL}")),
        _ => None,
    });
    let ecosystem = host_beside(port);
    for (arguments, code) in [
        (&["list"][..], 0),
        (&["scan"], 0),
        (&["status", "Strange"], 0),
        (&["options", "Strange"], 0),
        (&["call", "Strange", "fail"], 1),
        (&["call", "Strange", "garble"], 1),
    ] {
        let output = ecosystem.cli(arguments).code(code);
        assert_harmless(&output);
    }
    let failed = ecosystem.cli(&["call", "Strange", "fail"]).code(1);
    assert!(
        failed.stderr.contains("first\\nsecond"),
        "{:.200}",
        failed.stderr
    );
    assert!(failed.stderr.len() < 10_000, "a long message is cut");
    // A program gets the exact value.
    let options = ecosystem.cli(&["options", "Strange", "--json"]).ok().json();
    assert_eq!(options["w".repeat(WIDE_CHARS)], 1);
}

#[test]
fn every_command_of_the_client_ends() {
    let port = serve(|_, _| None);
    let ecosystem = host_beside(port);
    let _guest = ecosystem.install("Sample", "sample", &[]);
    for name in ["Strange", "Sample", "Dae"] {
        for words in [
            &["dae", "1"][..],
            &["options", "1"],
            &["error", "1"],
            &["error"],
        ] {
            let arguments = [&["call", name], words].concat();
            let output = ecosystem.cli(&arguments).code(2);
            assert!(output.says(&["no daemon answers"]), "{output:#?}");
        }
    }
    // It answers `help` as little, which is not waited for.
    let arguments = ["call", "--timeout", "1s", "Strange", "nothing", "1"];
    let output = ecosystem.cli(&arguments).code(1);
    assert!(output.says(&["did not answer within 1 s"]), "{output:#?}");
    assert!(output.says(&["dae-host options Strange"]), "{output:#?}");
    let output = ecosystem.cli(&["call", "Sample", "dae"]).ok();
    assert_eq!(output.json()["name"], "Sample");
}
