//! Example plugins in which daemons talk: a clock that ticks to subscribers, and a relay that calls and forwards.

use dae_tests::{Ecosystem, Guest, LIMIT, Message, until};
use serde_json::{Value, json};

use super::{flags, heard};

/// A period that is short enough for a test, and long enough not to fill its logs.
const QUICK: &str = r#"{"every_ms":20}"#;

fn clock(host: &Ecosystem, is_apart: bool) -> Guest {
    let flags = [&["--config", QUICK], flags(is_apart)].concat();
    host.install("Clock", "clock", &flags)
}

/// Returns the number of the next tick, and asserts that the next line is a tick.
#[track_caller]
fn tick(guest: &mut Guest) -> u64 {
    let Message {
        name, arguments, ..
    } = guest.message();
    assert_eq!(name, "tick", "{arguments:?}");
    arguments[0].as_u64().expect("a number")
}

/// Returns the reply to a command, and skips the ticks before it.
#[track_caller]
fn ask_amid_ticks(guest: &mut Guest, line: &str) -> Value {
    let name = line.split(' ').next().unwrap_or(line);
    guest.send(format!("{line}\n"));
    loop {
        let message = guest.message();
        if message.name == name {
            return Value::from(message.arguments);
        }
        assert_eq!(message.name, "tick");
    }
}

#[test]
fn a_clock_ticks_to_those_who_asked_and_goes_on_over_a_reload() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut guest = clock(&host, is_apart);
        guest.ask("subscribe", &json!([]));
        let first = tick(&mut guest);
        let before = tick(&mut guest);
        assert!(before > first, "{first} {before}");
        let _ = host.cli(&["reload", "Clock"]).ok();
        let mut other = host.guest("Clock");
        assert!(other.ask("now", &json!([])).as_u64() > Some(1_700_000_000_000));
        let mut last = before;
        until(LIMIT, "it ticks on after the reload", || {
            last = tick(&mut guest);
            last > before + 20
        });
        ask_amid_ticks(&mut guest, "unsubscribe []");
        guest.expect_alive();
        other.expect_alive();
    }
}

#[test]
fn a_clock_takes_another_period_at_once_and_keeps_it() {
    let host = Ecosystem::start();
    let mut guest = host.install("Clock", "clock", &["--config", r#"{"every_ms":3600000}"#]);
    guest.ask("subscribe", &json!([]));
    guest.ask("every", &json!([10]));
    tick(&mut guest);
    let _ = host.cli(&["reload", "Clock"]).ok();
    let mut other = host.guest("Clock");
    other.ask("subscribe", &json!([]));
    tick(&mut other);
    let mut third = host.guest("Clock");
    let refused = third.ask_in_vain("every", &json!([0]));
    assert!(refused.message.contains("every 1 ms"), "{refused:?}");
}

#[test]
fn a_relay_asks_whomever_it_is_told_to() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let _counter = host.install("Counter", "counter", &[]);
        let mut relay = host.install("Relay", "relay", flags(is_apart));
        assert_eq!(relay.ask("ask", &json!(["Counter", "increment", 5])), 5);
        assert_eq!(relay.ask("ask", &json!(["Counter", "count"])), 5);
        let refused = relay.ask_in_vain("ask", &json!(["Counter", "increment", "x"]));
        assert_eq!(refused.code, "failed");
        let end = "(bad-arguments, increment at Counter)";
        assert!(refused.message.ends_with(end), "{refused:?}");
        let refused = relay.ask_in_vain("ask", &json!(["Nobody", "increment"]));
        assert!(refused.message.contains("unavailable"), "{refused:?}");
    }
}

#[test]
fn a_relay_forwards_events_and_goes_on_over_reloads_of_everybody() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let _clock = clock(&host, is_apart);
        let _peer = host.install("B", "peer", flags(is_apart));
        let mut relay = host.install("Relay", "relay", flags(is_apart));
        let route = json!(["Clock", "now_and_then", "B"]);
        relay.ask("forward", &route);
        assert_eq!(relay.ask("stop_forwarding", &route), true);
        assert_eq!(relay.ask("stop_forwarding", &route), false);
        relay.ask("forward", &json!(["Clock", "tick", "B"]));
        for reloaded in ["Relay", "Clock", "B"] {
            let _ = host.cli(&["reload", reloaded]).ok();
            let mut peer = host.guest("B");
            let before = heard(&mut peer).len();
            until(LIMIT, &format!("{reloaded} was reloaded"), || {
                heard(&mut peer).len() > before + 3
            });
        }
        let routes = relay.ask("routes", &json!([]));
        let route = json!({"from": "Clock", "event": "tick", "to": "B"});
        assert_eq!(routes, json!([route]));
    }
}

#[test]
fn a_ring_of_relays_counts_itself() {
    let host = Ecosystem::start();
    let names = ["R0", "R1", "R2", "R3", "R4"];
    let mut ring: Vec<Guest> = (0..names.len())
        .map(|n| {
            let next = names[(n + 1) % names.len()];
            let config = json!({ "next": next }).to_string();
            let flags = [&["--config", config.as_str()], flags(n == 2)].concat();
            host.install(names[n], "relay", &flags)
        })
        .collect();
    assert_eq!(ring[0].ask("pass", &json!([5])), 5);
    assert_eq!(ring[3].ask("pass", &json!([100])), 100);
}
