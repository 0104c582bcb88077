//! The host as a process: one per home, signals, exit codes, the files that it leaves, and the return of all daemons.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use dae_tests::files::entries;
use dae_tests::{Ecosystem, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_second_host_of_the_same_home_says_who_holds_it() {
    let mut ecosystem = Ecosystem::start();
    let output = program::run(ecosystem.command().arg("run"), LIMIT).code(6);
    assert!(
        output.says(&[&ecosystem.pid().to_string()]),
        "it should name the holder's pid: {output:?}"
    );
    assert_eq!(ecosystem.names(), ["Dae"], "the first one goes on");
    ecosystem.stop();
    // The host's end releases the lock.
    ecosystem.wake(&[]);
}

#[test]
fn two_hosts_of_two_homes_live_side_by_side() {
    let (one, two) = (Ecosystem::start(), Ecosystem::start());
    assert_ne!(one.port_of("Dae"), two.port_of("Dae"));
    let _guest = one.install("Sample", "sample", &[]);
    assert_eq!(two.names(), ["Dae"]);
}

#[test]
fn the_home_may_be_named_by_flag_or_variable() {
    let ecosystem = Ecosystem::start();
    let home = ecosystem.home();
    let mut command = ecosystem.command();
    command
        .env_remove("DAE_HOME")
        .arg("--home")
        .arg(&home)
        .args(["list", "--json"]);
    let by_flag = program::run(&mut command, LIMIT).ok().json();
    assert_eq!(
        by_flag[0]["pid"],
        ecosystem.cli(&["list", "--json"]).ok().json()[0]["pid"]
    );
}

#[test]
fn no_host_is_said_with_a_code_of_its_own_and_how_to_start_one() {
    let ecosystem = Ecosystem::asleep();
    let questions: [&[&str]; 8] = [
        &["list"],
        &["list", "--json"],
        &["status", "Sample"],
        &["call", "Sample", "greet"],
        &["options", "Sample"],
        &["logs", "-f"],
        &["start", "Sample"],
        &["restart", "Sample"],
    ];
    for question in questions {
        let output = ecosystem.cli(question).code(7);
        assert!(
            output.says(&["dae-host"]) && output.says(&["run"]),
            "{question:?}: {output:?}"
        );
        assert!(output.stdout.is_empty(), "{question:?}: {output:?}");
    }
}

#[test]
fn sigterm_and_sigint_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Vectors", "vectors", &[]);
        ecosystem.signal(signal);
        assert_eq!(ecosystem.end(), 0, "{signal:?}");
        guest.expect_closed();
        let _ = ecosystem.cli(&["list"]).code(7);
    }
}

#[test]
fn a_running_command_is_waited_for_and_answered() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("slow#long [1500]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    ecosystem.signal(Signal::TERM);
    guest.expect("slow#long [1500]");
    assert_eq!(ecosystem.end(), 0);
}

#[test]
fn a_command_that_takes_too_long_is_given_up_after_the_grace() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    guest.send("slow#long [3600000]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    // `stop` waits for the host's end, with a limit.
    ecosystem.stop();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A host that waited for this grace would not end within the limit of this test.
    let mut ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 3_600_000}));
    let mut guest = ecosystem.install("Vectors", "vectors", &[]);
    let port = ecosystem.port_of("Vectors");
    guest.send("slow#long [3600000]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    ecosystem.signal(Signal::TERM);
    // The first signal has taken effect once new guests are refused or not answered.
    until(LIMIT, "no new commands", || !answers(port));
    ecosystem.signal(Signal::TERM);
    ecosystem.end();
}

/// Returns whether a new guest gets its echo back. A host that is ending refuses it, closes it, or sends `unavailable`.
fn answers(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut reply = [0; 8];
    let limit = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let asked = limit.and_then(|()| stream.write_all(b"echo [1]\n"));
    asked.and_then(|()| stream.read_exact(&mut reply)).is_ok() && &reply == b"echo [1]"
}

#[test]
fn everything_is_back_after_a_restart() {
    let mut ecosystem = Ecosystem::start();
    comes_back(&mut ecosystem, Ecosystem::stop);
}

#[test]
fn everything_is_back_after_kill_9() {
    let mut ecosystem = Ecosystem::start();
    comes_back(&mut ecosystem, Ecosystem::kill);
}

/// Asserts that three daemons, one of them stopped, come back with the same names, ports, configs and states.
fn comes_back(ecosystem: &mut Ecosystem, end: fn(&mut Ecosystem)) {
    let config = r#"{"greeting": "ahoj"}"#;
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let _guest = ecosystem.install("Polite", "lifecycle", &["--config", config]);
    let _guest = ecosystem.install("Asleep", "vectors", &[]);
    let _ = ecosystem.cli(&["stop", "Asleep"]).ok();
    let ports =
        |ecosystem: &Ecosystem| ["Dae", "Sample", "Polite"].map(|name| ecosystem.port_of(name));
    let before = ports(ecosystem);

    end(ecosystem);
    ecosystem.wake(&[]);
    ecosystem.until_state("Sample", "ready");
    ecosystem.until_state("Polite", "ready");
    let after = ports(ecosystem);
    // Dae takes the next free port, and other hosts on this machine come and go.
    assert_eq!(after[1..], before[1..]);
    assert_eq!(ecosystem.names(), ["Dae", "Asleep", "Polite", "Sample"]);
    assert_eq!(
        ecosystem.guest("Polite").ask("greeting", &json!([])),
        "ahoj"
    );
    ecosystem.guest("Sample").expect_alive();
    assert_eq!(ecosystem.status("Asleep")["state"], "stopped");
    let _ = ecosystem.cli(&["start", "Asleep"]).ok();
    ecosystem.guest("Asleep").expect_alive();
}

#[test]
fn a_daemon_that_no_longer_starts_does_not_keep_the_others_down() {
    let mut ecosystem = Ecosystem::start();
    let marker = r#"{"greeting": "here I am"}"#;
    let _guest = ecosystem.install("Fragile", "lifecycle", &["--config", marker]);
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    // People may read the registry, and edit it while no host runs.
    let (path, text) = registry_with(&ecosystem, "here I am");
    fs::write(
        &path,
        text.replace(r#""greeting": "here I am""#, r#""start": "fail""#),
    )
    .expect("the registry");
    ecosystem.wake(&[]);
    ecosystem.until_state("Sample", "ready");
    let failed = ecosystem.until_state("Fragile", "failed");
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("start was asked to fail"), "{failed}");
    let _ = ecosystem.cli(&["call", "Fragile", "greeting"]).code(3);
    let shown = ecosystem.cli(&["status", "Fragile"]).code(3).stdout;
    assert!(shown.contains("start was asked to fail"), "{shown}");
}

fn registry_with(ecosystem: &Ecosystem, part: &str) -> (PathBuf, String) {
    let texts = ecosystem
        .installed()
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, String::from_utf8(bytes).ok()?)));
    let mut found = texts.filter(|(_, text)| text.contains(part));
    found.next().expect("a registry that people can read")
}

#[test]
fn the_home_is_its_owners_alone() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    let sockets = ecosystem.sockets();
    assert!(!sockets.is_empty(), "the control socket lies in the home");
    for socket in sockets {
        assert_eq!(mode(&socket), 0o600, "{}", socket.display());
    }
    let inside = entries(&ecosystem.home())
        .into_iter()
        .filter(|path| path.is_dir());
    for directory in inside.chain([ecosystem.home()]) {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
    for file in ecosystem.installed().keys() {
        assert_eq!(mode(file) & 0o022, 0, "others may write {}", file.display());
    }
}

#[test]
fn a_socket_left_by_a_killed_host_is_in_nobodys_way() {
    let mut ecosystem = Ecosystem::start();
    ecosystem.kill();
    assert!(
        !ecosystem.sockets().is_empty(),
        "kill -9 leaves the socket, or this test shows nothing"
    );
    let _ = ecosystem.cli(&["list"]).code(7);
    ecosystem.wake(&[]);
}

#[test]
fn copies_of_earlier_hosts_are_swept() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let copies = |ecosystem: &Ecosystem| {
        let libraries = entries(&ecosystem.home())
            .into_iter()
            .filter(|path| path.is_file());
        libraries
            .filter(|path| path.to_string_lossy().contains(".so"))
            .count()
    };
    let before = copies(&ecosystem);
    for _ in 0..3 {
        ecosystem.kill();
        ecosystem.wake(&[]);
        ecosystem.until_state("Sample", "ready");
    }
    assert_eq!(
        copies(&ecosystem),
        before,
        "copies pile up: {:?}",
        entries(&ecosystem.home())
    );
}

#[test]
fn the_log_may_be_json_on_standard_error() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.wake(&["--log", "json"]);
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let stderr = ecosystem.stderr();
    assert!(!stderr.trim().is_empty(), "a host has something to say");
    for line in stderr.lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            record["message"].is_string() && record["level"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn it_lives_on_when_nobody_reads_its_standard_output() {
    lives_on(|host| drop(host.stdout.take()));
}

#[test]
fn it_lives_on_when_nobody_reads_its_log() {
    lives_on(|host| drop(host.stderr.take()));
}

/// Asserts that a host lives on after `close` has closed the other end of its standard output or error, so that every
/// write to it fails.
fn lives_on(close: fn(&mut Child)) {
    let ecosystem = Ecosystem::asleep();
    let mut command = ecosystem.command();
    let pipes = command
        .arg("run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut host = Ended(pipes.spawn().expect("the host"));
    close(&mut host.0);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    let mut guest = ecosystem.install("Lifecycle", "lifecycle", &[]);
    guest.ask("log", &json!(["error", "nobody hears this"]));
    guest.expect_alive();
    assert_eq!(host.terminate(), Some(0));
}

/// A host that was not started by an [`Ecosystem`].
struct Ended(Child);

impl Ended {
    fn terminate(mut self) -> Option<i32> {
        process::signal(self.0.id(), Signal::TERM);
        program::ends_within(&mut self.0, LIMIT).and_then(|status| status.code())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_manager_is_told_once_every_daemon_answers() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let path = ecosystem.scratch().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket of the test's");
    socket
        .set_read_timeout(Some(LIMIT))
        .expect("a limit for what follows");
    let mut command = ecosystem.command();
    let mut host = program::Running::start(command.arg("run").env("NOTIFY_SOCKET", &path));
    let mut message = [0; 256];
    let length = socket.recv(&mut message).expect("a word within the limit");
    assert_eq!(&message[..length], b"READY=1\n");
    assert_eq!(ecosystem.status("Sample")["state"], "ready");
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
}
