//! Daemons that talk to each other: in every mode, on one host or two, by every route.
//!
//! The daemons under test are `Peer`s, which talk to others as a test asks. Tests of how two daemons talk run for each
//! kind of pair: both in-process, one or both as subprocesses, and the second in another ecosystem on the same machine,
//! where it is a foreign daemon to the first.

mod bounds;
mod closing;
mod errors;
mod events;
mod guests;
mod ring;
mod shown;
mod steady;
mod talk;
mod topics;
mod untagged;
mod wrong;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::discovery::scene::only;
use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::{Value, json};

/// The grace of a stop and a reload (ms). It is longer than any wait in these tests, so an operation that waits for all
/// of it fails its test.
const GRACE_MS: u64 = 30_000;

/// Two daemons, and a guest of each that makes it talk.
struct Pair {
    here: Ecosystem,
    /// The second daemon's host, if it has another one.
    elsewhere: Option<Ecosystem>,
    /// A guest of the first daemon, `A`.
    a: Guest,
    /// A guest of the second daemon.
    b: Guest,
    /// The second daemon's name.
    other: String,
    label: String,
}

impl Pair {
    /// Returns a pair of each kind.
    fn all() -> impl Iterator<Item = Pair> {
        let here = [(false, false), (true, false), (false, true), (true, true)];
        here.into_iter()
            .map(|(a, b)| Pair::here(a, b))
            .chain([false, true].map(Pair::apart))
    }

    /// Starts a pair in one host. The flags say which of the two is a subprocess.
    fn here(a_apart: bool, b_apart: bool) -> Pair {
        let here = Ecosystem::start_configured(&json!({"stop_grace_ms": GRACE_MS}));
        let a = here.install("A", "peer", flags(a_apart));
        let b = here.install("B", "peer", flags(b_apart));
        Pair {
            elsewhere: None,
            other: "B".to_owned(),
            label: format!("A apart: {a_apart}, B apart: {b_apart}"),
            here,
            a,
            b,
        }
    }

    /// Starts a pair in two hosts.
    fn apart(a_apart: bool) -> Pair {
        // Another test's hosts may find this daemon too, so its name must be unique.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let other = format!("B-{}-{number}", std::process::id());
        let elsewhere = Ecosystem::start();
        let b = elsewhere.install(&other, "peer", &[]);
        // The host asks this port only: other tests count who asks their daemons.
        let mut config = only(&[elsewhere.port_of(&other)]);
        config["stop_grace_ms"] = json!(GRACE_MS);
        let here = Ecosystem::start_configured(&config);
        let a = here.install("A", "peer", flags(a_apart));
        let _ = here.cli(&["scan"]).ok();
        Pair {
            label: format!("A apart: {a_apart}, B in another ecosystem"),
            elsewhere: Some(elsewhere),
            other,
            here,
            a,
            b,
        }
    }

    /// Returns the second daemon's host.
    fn host_of_b(&self) -> &Ecosystem {
        self.elsewhere.as_ref().unwrap_or(&self.here)
    }

    /// Connects `A` to `B`, and returns the connection's number.
    fn connect(&mut self) -> Value {
        let other = json!([self.other]);
        self.a.ask("connect", &other)
    }

    /// Waits until `A` has heard exactly that.
    fn until_a_heard(&mut self, expected: &[&str]) {
        until_heard(&mut self.a, expected, &self.label);
    }
}

fn flags(is_apart: bool) -> &'static [&'static str] {
    match is_apart {
        true => &["--isolate"],
        false => &[],
    }
}

fn heard(peer: &mut Guest) -> Vec<String> {
    serde_json::from_value(peer.ask("heard", &json!([]))).expect("texts")
}

#[track_caller]
fn until_heard(peer: &mut Guest, expected: &[&str], label: &str) {
    until(LIMIT, &format!("{label}: {expected:?} is heard"), || {
        heard(peer) == expected
    });
}
