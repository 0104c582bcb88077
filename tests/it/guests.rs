//! Limits on guests (their number, the length of a line, the age of half a line, the wait for an instance), and access
//! for the owner, which guests can't take away.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use dae_tests::{Ecosystem, Guest, LIMIT, Message, process, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];
/// A time that is longer than any test (ms).
const FOR_EVER_MS: u64 = 3_600_000;
/// More connections than a host with few descriptors can hold.
const FLOOD: usize = 400;

/// Returns a host whose daemon `Probe` has just ended and does not restart by itself, with a guest of the daemon.
fn without_instance(config: &Value, flags: &[&str]) -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start_configured(config);
    let settings = json!({"on_panic": "restart", "restart": {
        "backoff_first_ms": FOR_EVER_MS, "backoff_max_ms": FOR_EVER_MS, "served_ms": FOR_EVER_MS,
    }});
    let settings = settings.to_string();
    let flags = [flags, &["--settings", &settings]].concat();
    let mut guest = ecosystem.install("Probe", "probe", &flags);
    let fault = guest.ask_in_vain("panic", &json!([]));
    assert_eq!(fault.code, "crashed");
    let _ = ecosystem.until_state("Probe", "backoff");
    (ecosystem, guest)
}

#[track_caller]
fn expect_fault(guest: &mut Guest, code: &str) {
    let fault = guest.message().result().expect_err("an error");
    assert_eq!(fault.code, code, "{fault:?}");
    assert!(!fault.message.is_empty(), "{fault:?}");
}

#[test]
fn no_more_guests_get_in_than_may_when_many_come_at_once() {
    let ecosystem = Ecosystem::start_configured(&json!({"guests_max": 2}));
    drop(ecosystem.install("Vectors", "vectors", &[]));
    until_guests(&ecosystem, "Vectors", 0);
    let port = ecosystem.port_of("Vectors");
    let mut guests: Vec<Guest> = (0..200).map(|_| Guest::connect(port)).collect();
    for guest in &guests {
        // A refused connection may be closed by now.
        let _ = guest.stream().write_all(b"echo [1]\n");
    }
    let mut let_in = 0;
    for guest in &mut guests {
        match guest.message() {
            message if message == Message::read("echo [1]") => let_in += 1,
            message => {
                let fault = message.result().expect_err("it is turned away");
                assert_eq!(fault.code, "too-many-guests");
                assert!(fault.message.contains("2 guests"), "{fault:?}");
                guest.expect_closed();
            }
        }
    }
    assert_eq!(let_in, 2);
    drop(guests);
    until_guests(&ecosystem, "Vectors", 0);
    ecosystem.guest("Vectors").expect_alive();
}

fn until_guests(ecosystem: &Ecosystem, name: &str, count: u64) {
    until(LIMIT, "the guests are counted", || {
        ecosystem.status(name)["guests"] == count
    });
}

#[test]
fn half_a_line_closes_its_connection_after_its_limit_and_no_other() {
    let ecosystem = Ecosystem::start_configured(&json!({"half_line_ms": 200}));
    for (name, flags) in ["Here", "Apart"].into_iter().zip(MODES) {
        let mut quiet = ecosystem.install(name, "vectors", flags);
        let mut half = ecosystem.guest(name);
        half.send("echo [1]\necho [\"ha");
        half.expect("echo [1]");
        half.expect_closed();
        quiet.expect_alive();
    }
}

#[test]
fn a_line_is_as_long_as_the_config_says() {
    let ecosystem = Ecosystem::start_configured(&json!({"line_bytes_max": 64}));
    for (name, flags) in ["Here", "Apart"].into_iter().zip(MODES) {
        let mut guest = ecosystem.install(name, "vectors", flags);
        let longest = format!("echo [\"{}\"]", "x".repeat(64 - "echo [\"\"]".len()));
        // After so many commands, a subprocess reads some of them directly from the guest.
        for _ in 0..50 {
            guest.send(format!("{longest}\n"));
            guest.expect(&longest);
        }
        guest.send(format!("{longest} \n{longest}\n"));
        expect_fault(&mut guest, "line-too-long");
        guest.expect(&longest);
    }
}

#[test]
fn dae_listens_where_the_config_says() {
    // Another program may take the port in between.
    let is_there = (0..5).any(|_| {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let ecosystem = Ecosystem::start_configured(&json!({"dae_port": port}));
        ecosystem.port_of("Dae") == port
    });
    assert!(is_there, "five ports in a row were others'");
}

#[test]
fn what_needs_no_instance_is_answered_while_there_is_none() {
    let config = json!({"instance_wait_ms": FOR_EVER_MS, "line_bytes_max": 64});
    for flags in MODES {
        let (ecosystem, mut guest) = without_instance(&config, flags);
        guest.send("#\n\n");
        expect_fault(&mut guest, "bad-name");
        guest.send(b"echo \xc3\n");
        expect_fault(&mut guest, "not-utf8");
        // The error comes as soon as the line is too long, before its end.
        guest.send("x".repeat(65));
        expect_fault(&mut guest, "line-too-long");
        let openings: [&[u8]; 3] = [
            b"GET / HTTP/1.1\r\necho [1]\n",
            b"\x16\x03\x01",
            b"EHLO x\r\necho [1]\n",
        ];
        for opening in openings {
            let mut other = ecosystem.guest("Probe");
            other.send(opening);
            other.expect_closed();
        }
        // Behind a line that waits, each line is answered in its place.
        guest.send(b"\necho [1]\n#\necho \xc3\necho [2]\n");
        let _ = ecosystem.cli(&["start", "Probe"]).ok();
        guest.expect("echo [1]");
        expect_fault(&mut guest, "bad-name");
        expect_fault(&mut guest, "not-utf8");
        guest.expect("echo [2]");
        for word in ["HTTP", "TLS", "SMTP"] {
            ecosystem.until_logged("Dae", word);
        }
    }
}

#[test]
fn each_wait_is_held_to_its_own_limit() {
    for flags in MODES {
        // Half a line comes before the wait. Its own limit, which is far off, must not replace the limit of the wait.
        let config = json!({"instance_wait_ms": 200, "half_line_ms": FOR_EVER_MS});
        let (_ecosystem, mut guest) = without_instance(&config, flags);
        guest.send("ec");
        guest.send("ho [1]\n#\necho#tag [2]\nec");
        expect_fault(&mut guest, "unavailable");
        expect_fault(&mut guest, "bad-name");
        let tagged = guest.message();
        assert_eq!(tagged.tag.as_deref(), Some("tag"));
        // The half line behind them continues, and its wait has a limit of its own.
        guest.send("ho [3]\n");
        expect_fault(&mut guest, "unavailable");

        // A waiting line does not count as half a line, however short that limit is. Half a line alone does.
        let config = json!({"instance_wait_ms": FOR_EVER_MS, "half_line_ms": 300});
        let (ecosystem, mut guest) = without_instance(&config, flags);
        let mut half = ecosystem.guest("Probe");
        guest.send("echo [1]\nec");
        half.send("ec");
        half.expect_closed();
        let _ = ecosystem.cli(&["start", "Probe"]).ok();
        guest.expect("echo [1]");
    }
}

#[test]
fn idle_connections_do_not_lock_the_owner_out() {
    allow_descriptors();
    let ecosystem = Ecosystem::start();
    for name in ["Flooded", "Other"] {
        drop(ecosystem.install(name, "sample", &[]));
    }
    process::set_bound(ecosystem.pid(), Resource::Nofile, 256);
    let flood = |name: &str| -> Vec<TcpStream> {
        let port = ecosystem.port_of(name);
        let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        (0..FLOOD).map(connect).collect()
    };
    let one = flood("Flooded");
    // One daemon's guests leave descriptors for those of others, and silent guests make way for those that speak.
    ecosystem.guest("Other").expect_alive();
    ecosystem.guest("Flooded").expect_alive();
    let all = [one, flood("Other"), flood("Dae")];
    let file = ecosystem.plugin("sample");
    let file = file.to_str().expect("UTF-8");
    let _ = ecosystem.cli(&["install", "Third", file, "--isolate"]).ok();
    assert_eq!(ecosystem.names(), ["Dae", "Flooded", "Other", "Third"]);
    let told = ecosystem.stderr().matches("could not be let in").count();
    // The flood may last longer than a minute on a machine under load.
    assert!(
        (1..=3).contains(&told),
        "{told} times:\n{}",
        ecosystem.stderr()
    );
    drop(all);
    for name in ["Flooded", "Other"] {
        until_guests(&ecosystem, name, 0);
        ecosystem.guest(name).expect_alive();
    }
}

#[test]
fn clients_of_the_control_socket_that_say_nothing_do_not_lock_the_owner_out() {
    allow_descriptors();
    let ecosystem = Ecosystem::start();
    process::set_bound(ecosystem.pid(), Resource::Nofile, 256);
    let mut spoken = ecosystem.control();
    spoken.send("status", &json!("Dae"));
    assert!(spoken.reply().is_ok());
    let path = ecosystem.sockets().remove(0);
    let connect = |_| UnixStream::connect(&path).expect("it listens");
    let silent: Vec<UnixStream> = (0..FLOOD).map(connect).collect();
    assert_eq!(ecosystem.names(), ["Dae"]);
    let file = ecosystem.plugin("sample");
    let file = file.to_str().expect("UTF-8");
    let _ = ecosystem
        .cli(&["install", "Sample", file, "--isolate"])
        .ok();
    // A client that has sent something stays connected.
    spoken.send("status", &json!("Sample"));
    assert!(spoken.reply().is_ok());
    drop(silent);
}

/// Raises this process's limit on descriptors to the most that the system allows.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).expect("up to the hard limit");
}
