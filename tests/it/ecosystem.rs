//! Daemons that talk to each other: whoever calls whom, wherever either runs, by whichever route.
//!
//! The daemons under test are `Peer`s, which say to others what they are told to say. Every test that asks how something
//! goes between two of them asks it of each pair that there is: both in the host's process, either in one of its own, and
//! the other one in another ecosystem on the same machine, which is a foreign daemon to the first.

mod bounds;
mod closing;
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

/// The grace of a stop and a reload, in milliseconds: longer than anything here is waited for, so that what waits for it
/// fails.
const GRACE_MS: u64 = 30_000;

/// Two daemons, and a guest of each who tells it what to say.
struct Pair {
    here: Ecosystem,
    /// The other one's host, where that is another.
    elsewhere: Option<Ecosystem>,
    /// Tells `A` what to do.
    a: Guest,
    /// Tells the other one.
    b: Guest,
    /// What the other one is called.
    other: String,
    label: String,
}

impl Pair {
    /// Each pair there is.
    fn all() -> impl Iterator<Item = Pair> {
        let here = [(false, false), (true, false), (false, true), (true, true)];
        here.into_iter()
            .map(|(a, b)| Pair::here(a, b))
            .chain([false, true].map(Pair::apart))
    }

    /// Of one host; whether each is in a process of its own.
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

    /// Of two hosts.
    fn apart(a_apart: bool) -> Pair {
        // Every ecosystem of the machine is found, that of another test too: only one may have this name.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let other = format!("B-{}-{number}", std::process::id());
        let elsewhere = Ecosystem::start();
        let b = elsewhere.install(&other, "peer", &[]);
        // And nobody else is asked: other tests count who asks them.
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

    /// Whose host `B` is of.
    fn host_of_b(&self) -> &Ecosystem {
        self.elsewhere.as_ref().unwrap_or(&self.here)
    }

    /// Has `A` connect to `B`; the connection's number.
    fn connect(&mut self) -> Value {
        let other = json!([self.other]);
        self.a.ask("connect", &other)
    }

    /// What `A` heard, once that is as expected.
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
