//! Calls to a daemon that knows no tags. Only their order tells its replies apart, so each must reach its own caller.
//!
//! The foreign daemon is part of the test, so that a test decides what it answers and when.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, Fault, Guest, LIMIT, Message, until};
use serde_json::{Value, json};

use super::flags;
use crate::discovery::scene::only;

/// The time after which the host no longer expects a reply, with a margin.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(62);
const GIVEN_UP_MAX: Duration = Duration::from_secs(120);

/// A foreign daemon in this process that knows no tags. It runs until the test's process ends.
struct Foreign {
    name: String,
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The number of `hold`s that may still be answered.
    released: Mutex<usize>,
    changed: Condvar,
    holding: AtomicUsize,
    /// The number of connections that have sent more than `dae`.
    connections: AtomicUsize,
}

impl Foreign {
    fn start() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        // Another test's hosts may find this daemon, so its name must be unique.
        let name = format!("Untagged-{}-{number}", std::process::id());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<State>::default();
        let credential = json!({"name": name, "pid": std::process::id(), "port": port});
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, credential) = (Arc::clone(&shared), credential.clone());
                std::thread::spawn(move || serve(&stream, &state, &credential));
            }
        });
        Foreign { name, port, state }
    }

    /// Lets one more `hold` be answered.
    fn release(&self) {
        *self.state.released.lock().expect("whole") += 1;
        self.state.changed.notify_all();
    }

    fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    fn holding(&self) -> usize {
        self.state.holding.load(Ordering::SeqCst)
    }
}

/// Answers one connection's lines in order, each by its name.
fn serve(stream: &TcpStream, state: &State, credential: &Value) {
    let mut writing = stream.try_clone().expect("a socket");
    let mut is_counted = false;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let (name, arguments) = line.split_once(' ').unwrap_or((&line, "[]"));
        if name != "dae" && !std::mem::replace(&mut is_counted, true) {
            state.connections.fetch_add(1, Ordering::SeqCst);
        }
        let reply = match name {
            "dae" => format!("dae [{credential}]\n"),
            "hold" | "hold_and_fail" => {
                state.holding.fetch_add(1, Ordering::SeqCst);
                let released = state.released.lock().expect("whole");
                let is_held = |released: &mut usize| *released == 0;
                let waited = state.changed.wait_while(released, is_held);
                *waited.expect("whole") -= 1;
                match name {
                    "hold" => format!("{name} {arguments}\n"),
                    _ => format!("error {}\n", json!([{"command": name}])),
                }
            }
            // This reply can't be read: it is not UTF-8.
            "spoil" => {
                let sent = writing.write_all(b"spoil [\"\xff\"]\n");
                if sent.is_err() {
                    return;
                }
                continue;
            }
            _ => format!("{name} {arguments}\n"),
        };
        if writing.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// Starts a host that finds that daemon, with a daemon `A` of the fixture `peer`. Adds `more` to the host's config.
fn scene(foreign: &Foreign, is_apart: bool, more: &Value) -> (Ecosystem, Guest) {
    let mut config = only(&[foreign.port]);
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let ecosystem = Ecosystem::start_configured(&config);
    let a = ecosystem.install("A", "peer", flags(is_apart));
    let _ = ecosystem.cli(&["scan"]).ok();
    (ecosystem, a)
}

#[test]
fn each_of_many_callers_gets_its_own_reply() {
    const GUESTS: usize = 8;
    const IN_FLIGHT: usize = 16;
    const ROUNDS: usize = 40;
    for is_apart in [false, true] {
        let foreign = Foreign::start();
        let (ecosystem, mut a) = scene(&foreign, is_apart, &json!({}));
        let number = a.ask("connect", &json!([foreign.name]));
        let mut guests: Vec<Guest> = (0..GUESTS).map(|_| ecosystem.guest("A")).collect();
        for (command, whom) in [("call", json!(foreign.name)), ("ask", number)] {
            let mut strangers = 0;
            for round in 0..ROUNDS {
                let value = |guest: usize, n: usize| json!(format!("{guest} {round} {n}"));
                for (at, guest) in guests.iter_mut().enumerate() {
                    let lines = (0..IN_FLIGHT)
                        .map(|n| format!("{command} {}\n", json!([whom, "echo", value(at, n)])));
                    guest.send(lines.collect::<String>());
                }
                for (at, guest) in guests.iter_mut().enumerate() {
                    for n in 0..IN_FLIGHT {
                        let answer = guest.message().result();
                        strangers += usize::from(answer != Ok(value(at, n)));
                    }
                }
            }
            let all = GUESTS * IN_FLIGHT * ROUNDS;
            assert_eq!(
                strangers, 0,
                "apart: {is_apart}, {command}: of {all} answers"
            );
        }
    }
}

/// A call that timed out or failed keeps its place in the order until its own reply has come.
#[test]
fn a_late_reply_goes_to_nobody_else() {
    for is_apart in [false, true] {
        let foreign = Foreign::start();
        let (ecosystem, mut a) = scene(&foreign, is_apart, &json!({"command_ms": 1000}));
        for late in ["hold", "hold_and_fail"] {
            let number = a.ask("connect", &json!([foreign.name]));
            for (command, whom) in [("call", json!(foreign.name)), ("ask", number)] {
                let label = format!("apart: {is_apart}, {command} {late}");
                let held = foreign.holding();
                let timed_out = a.ask_in_vain(command, &json!([whom, late, "first"]));
                assert!(
                    timed_out.code == "timeout" || timed_out.message.contains("timeout"),
                    "{label}: {timed_out:?}"
                );
                assert_eq!(foreign.holding(), held + 1, "{label}: it was sent");
                let mut other = ecosystem.guest("A");
                let second = json!([whom, late, "second"]);
                other.send(format!("{command} {second}\n"));
                foreign.release();
                foreign.release();
                let answer = other.message().result();
                // On a busy machine the second call may time out too, but it never gets the first one's reply.
                let is_own = match &answer {
                    Ok(value) => late == "hold" && value == "second",
                    Err(fault) => late != "hold" || fault.code == "timeout",
                };
                assert!(is_own, "{label}: {answer:?}");
                let after = a.ask(command, &json!([whom, "echo", "after"]));
                assert_eq!(after, "after", "{label}");
            }
        }
    }
}

/// Returns whether the guest has unread data.
fn has_come(guest: &Guest) -> bool {
    let stream = guest.stream();
    stream.set_nonblocking(true).expect("a socket option");
    let came = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a socket option");
    came.is_ok_and(|bytes| bytes > 0)
}

/// Asserts that each guest gets its own answer or a refusal, and then its own answer to the next call. Returns the
/// number of refusals.
fn refused_and_own(guests: &mut [Guest], number: &Value, is_apart: bool) -> usize {
    let mut refused = 0;
    for (n, guest) in guests.iter_mut().enumerate() {
        match guest.message().result() {
            Ok(value) => {
                let own = format!("{n} ");
                let is_own = value.as_str().is_some_and(|text| text.starts_with(&own));
                assert!(is_own, "apart: {is_apart}: {n} got another one's");
            }
            Err(refusal) => {
                // The connection refuses the call, or the worker does before it if it has too much to do.
                let is_known = ["doesn't read what it is sent", "too many wait already"];
                let is_known = is_known.iter().any(|text| refusal.message.contains(text));
                assert!(is_known, "apart: {is_apart}: {refusal:?}");
                refused += 1;
            }
        }
        let next = guest.ask("ask", &json!([number, "echo", n]));
        assert_eq!(next, n, "apart: {is_apart}");
    }
    refused
}

/// While the other side reads nothing, calls wait up to a bound. Calls past the bound are refused and never sent.
#[test]
fn a_call_that_was_refused_takes_nobodys_reply() {
    // Together these calls exceed the bound and the system's buffers.
    const GUESTS: usize = 40;
    let text = "x".repeat(500_000);
    for is_apart in [false, true] {
        let foreign = Foreign::start();
        let (ecosystem, mut a) = scene(&foreign, is_apart, &json!({"command_ms": 0}));
        let number = a.ask("connect", &json!([foreign.name]));
        // The foreign daemon reads nothing more until it is released.
        a.send(format!("ask [{number},\"hold\",\"held\"]\n"));
        until(LIMIT, "it holds", || foreign.holding() == 1);
        let mut guests: Vec<Guest> = (0..GUESTS).map(|_| ecosystem.guest("A")).collect();
        for (n, guest) in guests.iter_mut().enumerate() {
            guest.send(format!("ask [{number},\"echo\",\"{n} {text}\"]\n"));
        }
        until(LIMIT, "one is refused while nobody reads", || {
            guests.iter().any(has_come)
        });
        foreign.release();
        assert_eq!(a.message().result(), Ok(json!("held")), "apart: {is_apart}");
        let refused = refused_and_own(&mut guests, &number, is_apart);
        assert!(
            (1..GUESTS).contains(&refused),
            "apart: {is_apart}: {refused}"
        );
    }
}

/// A late reply to it could not be told from the reply to the next call of the same name.
#[test]
#[ignore = "takes the minute after which a call is given up"]
fn a_call_that_is_never_answered_has_the_connection_made_anew() {
    for is_apart in [false, true] {
        let foreign = Foreign::start();
        let (_ecosystem, mut a) = scene(&foreign, is_apart, &json!({"command_ms": 5000}));
        let timed_out = a.ask_in_vain("call", &json!([foreign.name, "hold", "first"]));
        assert!(
            timed_out.code == "timeout" || timed_out.message.contains("timeout"),
            "{timed_out:?}"
        );
        let began = Instant::now();
        until(GIVEN_UP_MAX, "it is given up", || {
            began.elapsed() > GIVEN_UP_AFTER
        });
        // The first connection's thread still holds and reads nothing, so this call needs another connection.
        a.send(format!(
            "call {}\n",
            json!([foreign.name, "hold", "second"])
        ));
        until(LIMIT, "it comes by another", || foreign.holding() == 2);
        foreign.release();
        foreign.release();
        let second = a.message().result();
        assert_eq!(second, Ok(json!("second")), "apart: {is_apart}");
        assert_eq!(foreign.connections(), 2, "apart: {is_apart}");
    }
}

#[test]
fn a_reply_that_can_not_be_read_answers_its_own_call() {
    for is_apart in [false, true] {
        let foreign = Foreign::start();
        let (_ecosystem, mut a) = scene(&foreign, is_apart, &json!({}));
        let spoilt = a.ask_in_vain("call", &json!([foreign.name, "spoil"]));
        assert!(spoilt.message.starts_with("not-utf8: "), "{spoilt:?}");
        let echoed = a.ask("call", &json!([foreign.name, "echo", 1]));
        assert_eq!(echoed, 1, "apart: {is_apart}");
    }
}

/// Makes a daemon ask this guest once per tag. Returns the questions in the order in which they came.
fn questions(guest: &mut Guest, tags: &[&str]) -> Vec<Value> {
    for tag in tags {
        guest.send(format!("ask_me#{tag} [\"question\",\"{tag}\"]\n"));
    }
    let mut asked = Vec::new();
    while asked.len() < tags.len() {
        let message = guest.message();
        if message.name == "question" {
            asked.push(message.arguments[0].clone());
        }
    }
    asked
}

/// Returns the results of the next `count` commands by their tags.
fn results(guest: &mut Guest, count: usize) -> BTreeMap<String, Result<Value, Fault>> {
    let answers = (0..count).map(|_| guest.message());
    let by_tag = |answer: Message| (answer.tag.clone().unwrap_or_default(), answer.result());
    answers.map(by_tag).collect()
}

/// The other direction: a daemon asks its guest, which answers in order, late, with an error, or unreadably.
#[test]
fn a_guests_replies_go_to_those_who_asked() {
    for is_apart in [false, true] {
        let ecosystem = Ecosystem::start_configured(&json!({"command_ms": 1500}));
        let mut guest = ecosystem.install("A", "peer", flags(is_apart));
        let asked = questions(&mut guest, &["a", "b", "c", "d"]);
        guest.send(format!("question [{}]\n", asked[0]));
        guest.send("error [{\"command\":\"question\",\"code\":\"failed\",\"message\":\"no\"}]\n");
        guest.send(b"question [\"\xff\"]\n");
        guest.send(format!("question [{}]\n", asked[3]));
        let ended = results(&mut guest, 4);
        for (at, expected) in [(0, None), (1, Some("failed: ")), (2, Some("not-utf8: "))] {
            let tag = asked[at].as_str().expect("a tag");
            match (expected, &ended[tag]) {
                (None, Ok(value)) => assert_eq!(*value, asked[at]),
                (Some(code), Err(fault)) => {
                    assert!(fault.message.starts_with(code), "{fault:?}");
                }
                (_, other) => panic!("apart: {is_apart}: {other:?}"),
            }
        }
        assert_eq!(
            ended[asked[3].as_str().expect("a tag")],
            Ok(asked[3].clone())
        );
        // One question times out, and its late reply comes before that to the next.
        let late = questions(&mut guest, &["late"]);
        let ended = results(&mut guest, 1);
        assert!(ended["late"].is_err(), "apart: {is_apart}: {ended:?}");
        let next = questions(&mut guest, &["next"]);
        guest.send(format!("question [{}]\nquestion [{}]\n", late[0], next[0]));
        let ended = results(&mut guest, 1);
        assert_eq!(ended["next"], Ok(json!("next")), "apart: {is_apart}");
    }
}
