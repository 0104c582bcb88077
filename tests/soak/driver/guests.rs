//! Guests that stay connected through everything that must not close a connection, and guests that misbehave.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dae_tests::{Guest, until};
use serde_json::{Value, json};

use super::Driver;
use super::patience::patience;
use crate::model::{Name, Nuisance, World};

/// The number of staying guests of one daemon.
const STAYING_MAX: usize = 3;

/// The largest number of bytes from a guest that reads nothing: more than the kernel and the host buffer for it.
const SILENT_BYTES_MAX: usize = 8 << 20;

/// The time without progress after which the connection counts as blocked.
const BLOCKED: Duration = Duration::from_millis(100);

/// The guests of one daemon.
#[derive(Default)]
pub struct Guests {
    staying: Vec<Guest>,
    silent: Option<TcpStream>,
    asked: u64,
}

impl Guests {
    /// Checks that the host closes the staying guests, and sends nothing before that.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        for guest in &mut self.staying {
            assert_eq!(guest.line_within(patience()), None, "it should be closed");
        }
        self.leave();
    }

    /// Drops the guests after their host has ended.
    pub fn leave(&mut self) {
        self.staying.clear();
        self.silent = None;
    }

    /// Asks for version and count on each staying guest, and checks that nothing else has arrived.
    #[track_caller]
    pub fn ask_each(&mut self) -> Vec<(u64, u64)> {
        self.asked += 1;
        let number = self.asked;
        let ask = |guest: &mut Guest, command: &str| {
            let command = format!("{command}#{number}");
            guest.send(format!("{command}\n"));
            let line = guest.line_within(patience());
            let line = line.unwrap_or_else(|| panic!("a guest that stays was closed"));
            let reply = line.strip_prefix(&format!("{command} ["));
            let reply = reply.and_then(|reply| reply.strip_suffix(']')?.parse().ok());
            reply.unwrap_or_else(|| panic!("the reply to {command} was expected, and {line} came"))
        };
        let both = |guest: &mut Guest| (ask(guest, "version"), ask(guest, "count"));
        self.staying.iter_mut().map(both).collect()
    }
}

impl Driver<'_> {
    /// Connects a guest that stays.
    pub(super) fn connect(&mut self, name: Name) {
        let guest = self.guest(name);
        let staying = &mut self.known(name).guests.staying;
        if staying.len() == STAYING_MAX {
            staying.remove(0);
        }
        staying.push(guest);
    }

    /// Sends some commands at once on one connection, and checks their replies.
    pub(super) fn call(&mut self, name: Name, count: u64, world: &World) {
        let version = world.daemons[&name].version;
        let known = self.known(name);
        let before = known.ledger.count();
        let guest = known.guests.staying.last_mut().expect("one that stays");
        let marks = before + 1..=before + count;
        let lines: String = marks
            .clone()
            .map(|mark| format!("increment [{mark}]\n"))
            .collect();
        guest.send(lines);
        for mark in marks {
            let line = guest.line_within(patience());
            // The mark equals the expected count.
            assert_eq!(line, Some(format!("increment [[{mark},{version},{mark}]]")));
        }
        known.ledger.live = Some(super::ledger::Range::exactly(before + count));
    }

    pub(super) fn disturb(&mut self, name: Name, how: Nuisance) {
        let mut guest = self.guest(name);
        match how {
            Nuisance::Malformed => {
                guest.send(b"\xff\xfe [1]\n9 lives\nincrement {\n");
                for _ in 0..3 {
                    let line = guest.line_within(patience()).unwrap_or_default();
                    assert!(
                        line.starts_with("error "),
                        "an error was expected, and {line:?} came"
                    );
                }
                let version: Value = guest.ask("version", &json!([]));
                assert!(version.is_u64(), "it is served as before: {version}");
            }
            Nuisance::Http => {
                guest.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                until(patience(), "its connection is closed", || {
                    guest.line_within(patience()).is_none()
                });
            }
            Nuisance::HalfLine => guest.send("increm"),
            Nuisance::ReadsNothing => {
                let stream = guest.stream().try_clone().expect("a descriptor");
                send_until_blocked(&stream);
                self.known(name).guests.silent = Some(stream);
            }
        }
    }
}

fn send_until_blocked(mut stream: &TcpStream) {
    stream.set_nonblocking(true).expect("a socket option");
    let lines = "version\n".repeat(1 << 10);
    let (mut sent, mut last) = (0, Instant::now());
    // The last line may be incomplete, as with any stalled guest.
    while sent < SILENT_BYTES_MAX && last.elapsed() < BLOCKED {
        match stream.write(lines.as_bytes()) {
            Ok(bytes) => (sent, last) = (sent + bytes, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(BLOCKED / 20);
            }
            Err(error) => panic!("a guest that reads nothing was closed: {error}"),
        }
    }
}
