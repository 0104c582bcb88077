//! Slow, odd or endless work of one daemon, which must not hold up any other.

use std::thread;
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::{Value, json};

use super::{GRACE_MS, Pair, flags, heard};

/// The longest reload. A good one takes well under a second; one that waits in vain takes the grace, which is longer.
const RELOAD_MAX: Duration = LIMIT;

#[test]
fn a_handler_that_holds_its_thread_holds_up_no_process_that_called_it() {
    for b_apart in [false, true] {
        let mut pair = Pair::here(true, b_apart);
        pair.a.ask("call", &json!(["B", "echo", 1]));
        // This holds its thread for longer than the limit on waiting for an answer.
        pair.a.send("call#slow [\"B\",\"block\",60000]\n");
        for _ in 0..100 {
            pair.a.ask("number", &json!([]));
        }
        pair.here.leaves("B holds a thread for a minute");
    }
}

#[test]
fn futures_that_are_dropped_lose_no_event() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("follow_restlessly", &json!([number]));
        for n in 0..300 {
            pair.a.ask("ask", &json!([number, "tell_me", "tick", n]));
        }
        let label = pair.label.clone();
        let all: Vec<String> = (0..300).map(|n| format!("tick [{n}]")).collect();
        until(LIMIT, &format!("{label}: all are heard"), || {
            heard(&mut pair.a) == all
        });
    }
}

#[test]
fn events_that_nobody_answers_are_not_refused() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("ask", &json!([number, "hear_me", "gossip"]));
        pair.a.ask("say_many", &json!([number, "gossip", 5000]));
        until(LIMIT, &format!("{label}: all are heard"), || {
            heard(&mut pair.b).len() == 5000
        });
        assert_eq!(pair.a.ask("ask", &json!([number, "echo", 1])), 1, "{label}");
    }
}

#[test]
fn a_reload_amid_events_that_take_their_time_is_not_held_up() {
    for mut pair in [Pair::here(false, false), Pair::here(true, true)] {
        let number = pair.connect();
        pair.a
            .ask("say", &json!([number, "echo_late", "first", 500]));
        let Pair { here, a, label, .. } = &mut pair;
        let took = thread::scope(|scope| {
            let reloading = scope.spawn(|| {
                let began = Instant::now();
                let _ = here.cli(&["reload", "B"]).ok();
                began.elapsed()
            });
            while !reloading.is_finished() {
                a.ask("say", &json!([number, "echo_late", "behind", 500]));
                thread::sleep(Duration::from_millis(20));
            }
            reloading.join().expect("it doesn't panic")
        });
        assert!(took < RELOAD_MAX, "{label}: {took:?}");
    }
}

#[test]
fn a_reload_while_a_guest_is_received_is_not_held_up() {
    for is_apart in [false, true] {
        let host = Ecosystem::start_configured(&json!({"stop_grace_ms": GRACE_MS}));
        let slow = [&["--config", r#"{"greet_ms":700}"#], flags(is_apart)].concat();
        let _first = host.install("B", "peer", &slow);
        for _ in 0..3 {
            let mut guest = host.guest("B");
            guest.send("number\n");
            let began = Instant::now();
            let _ = host.cli(&["reload", "B"]).ok();
            let took = began.elapsed();
            assert!(took < RELOAD_MAX, "apart: {is_apart}: {took:?}");
            let own = guest.message();
            assert!(own.arguments[0].is_u64(), "{own:?}");
        }
    }
}

#[test]
fn nothing_of_a_daemon_is_run_before_it_is_known() {
    for (a_apart, b_apart) in [(false, false), (true, false), (false, true), (true, true)] {
        let host = Ecosystem::start();
        let slow = [&["--config", r#"{"greet_ms":300}"#], flags(b_apart)].concat();
        let _b = host.install("B", "peer", &slow);
        let mut a = host.install("A", "peer", flags(a_apart));
        let number = a.ask("connect", &json!(["B"]));
        for _ in 0..3 {
            let _ = host.cli(&["reload", "B"]).ok();
            let own = a.ask("ask", &json!([number, "number"]));
            let present = a.ask("ask", &json!([number, "present"]));
            let is_known = |all: &Vec<Value>| all.contains(&own);
            assert!(present.as_array().is_some_and(is_known), "{own}: {present}");
        }
    }
}

#[test]
fn a_daemon_can_be_asked_while_it_is_received() {
    for (a_apart, b_apart) in [(false, false), (true, false), (false, true), (true, true)] {
        let host = Ecosystem::start();
        let mut a = host.install("A", "peer", flags(a_apart));
        let asks = [&["--config", r#"{"greet_asks":true}"#], flags(b_apart)].concat();
        install_unasked(&host, &asks);
        let number = a.ask("connect", &json!(["B"]));
        let heard = a.ask("ask", &json!([number, "heard"]));
        assert_eq!(heard, json!(["A has come"]), "{a_apart} {b_apart}");
    }
}

/// Installs `B` without connecting to it: `B` asks each guest who it is, and would record this one.
fn install_unasked(host: &Ecosystem, flags: &[&str]) {
    let file = host.plugin("peer");
    let file = file.to_str().expect("a path in UTF-8");
    let _ = host.cli(&[&["install", "B", file], flags].concat()).ok();
}
