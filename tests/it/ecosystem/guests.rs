//! `#[on(connect)]` and `#[on(disconnect)]`: a daemon knows its guests in both modes and across reloads.

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::json;

use super::{Pair, flags};

#[track_caller]
fn until_present(peer: &mut Guest, expected: &[u64]) {
    until(LIMIT, &format!("{expected:?} are present"), || {
        peer.ask("present", &json!([])) == json!(expected)
    });
}

fn number(guest: &mut Guest) -> u64 {
    guest.ask("number", &json!([])).as_u64().expect("a number")
}

#[test]
fn it_knows_who_is_there_before_their_first_command() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut first = host.install("B", "peer", flags(is_apart));
        let first_number = number(&mut first);
        for _ in 0..20 {
            let mut guest = host.guest("B");
            let own = number(&mut guest);
            let present = guest.ask("present", &json!([]));
            assert!(
                present
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(own))),
                "{own} is not among {present}"
            );
        }
        until_present(&mut first, &[first_number]);
    }
}

#[test]
fn one_who_says_nothing_is_known_too() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut first = host.install("B", "peer", flags(is_apart));
        let own = number(&mut first);
        let silent = host.guest("B");
        until(LIMIT, "the silent one is known", || {
            first
                .ask("present", &json!([]))
                .as_array()
                .is_some_and(|all| all.len() == 2)
        });
        drop(silent);
        until_present(&mut first, &[own]);
    }
}

#[test]
fn a_successor_is_told_of_those_who_are_still_there() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut first = host.install("B", "peer", flags(is_apart));
        let own = number(&mut first);
        let mut second = host.guest("B");
        let other = number(&mut second);
        let _ = host.cli(&["reload", "B"]).ok();
        until(LIMIT, "both are known to the new one", || {
            let present = first.ask("present", &json!([]));
            let mut present: Vec<u64> = serde_json::from_value(present).expect("numbers");
            present.sort_unstable();
            present == [own, other]
        });
        drop(second);
        until_present(&mut first, &[own]);
    }
}

#[test]
fn a_daemon_that_comes_is_a_guest_like_any_other() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let count = |pair: &mut Pair| {
            let present = pair.b.ask("present", &json!([]));
            present.as_array().map_or(0, Vec::len)
        };
        let number = pair.connect();
        until(LIMIT, &format!("{label}: it is known"), || {
            count(&mut pair) == 2
        });
        let _ = pair.host_of_b().cli(&["reload", &pair.other]).ok();
        until(
            LIMIT,
            &format!("{label}: it is known to the successor"),
            || count(&mut pair) == 2,
        );
        pair.a.ask("close", &json!([number]));
        until(LIMIT, &format!("{label}: its going is known"), || {
            count(&mut pair) == 1
        });
    }
}
