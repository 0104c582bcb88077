//! A stream that ends before its last item: by its guest, its time limit, a crash, a reload, a stop.

use dae_tests::{Ecosystem, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::json;

use super::{ASKS, MODES, both, part};

#[test]
fn a_guest_that_leaves_ends_its_stream() {
    both(|ecosystem, name, mut guest| {
        guest.send(ASKS);
        guest.send("endless#7\n");
        assert!(guest.line().starts_with("part#7 "));
        drop(guest);
        let mut other = ecosystem.guest(name);
        until(LIMIT, "the stream is dropped", || {
            other.ask("dropped", &json!([])) == 1
        });
    });
}

#[test]
fn the_time_limit_counts_from_the_last_part() {
    let mut ecosystem = Ecosystem::start_configured(&json!({"command_ms": 600}));
    for (name, flags) in MODES {
        let mut guest = ecosystem.install(name, "parts", flags);
        // Longer than the limit in all, though no pause is.
        guest.send(ASKS);
        guest.send("count#7 [8, 150]\n");
        for item in 1..=8 {
            assert_eq!(guest.line(), part("7", "count", item));
        }
        assert_eq!(guest.line(), "count#7 []");
        guest.send("work#8 [8, 150]\n");
        for _ in 1..=8 {
            assert!(guest.line().starts_with("part#8 "));
        }
        assert_eq!(guest.line(), "work#8 [80]");
        // Without parts, the host sees no progress.
        let fault = guest.try_ask("count", &json!([8, 150])).unwrap_err();
        assert_eq!(fault.code, "timeout");
        // One pause is longer than the limit.
        guest.send("count#9 [2, 60000]\n");
        let error = guest.message();
        assert_eq!(error.arguments[0]["code"], "timeout");
        assert_eq!(error.tag.as_deref(), Some("9"));
        until(LIMIT, "all three streams are dropped", || {
            guest.ask("dropped", &json!([])) == 3
        });
    }
    ecosystem.stop();
}

/// More streams than a subprocess may have requests in progress.
const UNREAD: [usize; 2] = [9, 1000];

#[test]
fn guests_that_never_read_hold_up_no_other_one() {
    let [guests, streams] = UNREAD;
    both(|ecosystem, name, mut modest| {
        let text = "x".repeat(1 << 10);
        let unread: Vec<_> = (0..guests)
            .map(|_| {
                let mut guest = ecosystem.guest(name);
                guest.send(ASKS);
                for tag in 0..streams {
                    guest.send(format!("repeat#{tag} [\"{text}\", 1000000]\n"));
                }
                guest
            })
            .collect();
        until(LIMIT, "every stream has made an item", || {
            modest.ask("made", &json!([])).as_u64() >= Some((guests * streams) as u64)
        });
        modest.send(ASKS);
        modest.send("work#7 [2, 1]\n");
        for _ in 0..2 {
            let part = modest.line();
            assert!(part.starts_with("part#7 "), "{part}");
        }
        assert_eq!(modest.line(), "work#7 [20]");
        drop(unread);
    });
}

#[test]
fn a_guest_that_never_reads_is_timed_out() {
    let mut ecosystem = Ecosystem::start_configured(&json!({"command_ms": 300}));
    for (name, flags) in MODES {
        let mut guest = ecosystem.install(name, "parts", flags);
        guest.send(ASKS);
        guest.send("endless#7\n");
        let mut other = ecosystem.guest(name);
        until(LIMIT, "the stream is dropped", || {
            other.ask("dropped", &json!([])) == 1
        });
        loop {
            let line = guest.line();
            if !line.starts_with("part#7 ") {
                assert!(line.contains("\"timeout\""), "{line}");
                break;
            }
        }
    }
    ecosystem.stop();
}

#[test]
fn a_stream_in_the_hands_of_a_process_that_dies_is_answered_crashed() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Apart", "parts", &["--isolate"]);
    let pid = guest.ask("dae", &json!([]))["pid"].as_i64().expect("a pid");
    guest.send(ASKS);
    guest.send("count#7 [1000000, 1]\n");
    assert_eq!(guest.line(), part("7", "count", 1));
    let pid = u32::try_from(pid).expect("a pid");
    process::signal(pid, Signal::KILL);
    loop {
        let message = guest.message();
        if message.name != "part" {
            assert_eq!(message.name, "error");
            assert_eq!(message.tag.as_deref(), Some("7"));
            assert_eq!(message.arguments[0]["code"], "crashed");
            break;
        }
    }
    // The connection still asks for parts, and the next instance sends them.
    guest.send("count#8 1\n");
    assert_eq!(guest.line(), part("8", "count", 1));
    assert_eq!(guest.line(), "count#8 []");
    ecosystem.stop();
}

#[test]
fn a_stream_that_ends_within_the_grace_period_ends_whole_over_a_reload() {
    both(|ecosystem, name, mut guest| {
        guest.send(ASKS);
        guest.send("count#7 [10, 100]\n");
        assert_eq!(guest.line(), part("7", "count", 1));
        let mut restarting = ecosystem.cli_running(&["restart", name]);
        for item in 2..=10 {
            assert_eq!(guest.line(), part("7", "count", item));
        }
        assert_eq!(guest.line(), "count#7 []");
        assert_eq!(restarting.end(LIMIT), Some(0));
        guest.send("count#8 1\n");
        assert_eq!(guest.line(), part("8", "count", 1));
        assert_eq!(guest.line(), "count#8 []");
    });
}

#[test]
fn a_stream_that_outlasts_the_grace_period_is_answered_unavailable() {
    let mut ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 200}));
    for (name, flags) in MODES {
        let mut guest = ecosystem.install(name, "parts", flags);
        guest.send(ASKS);
        guest.send("count#7 [1000000, 5]\n");
        assert_eq!(guest.line(), part("7", "count", 1));
        let _ = ecosystem.cli(&["restart", name]).ok();
        loop {
            let message = guest.message();
            if message.name != "part" {
                assert_eq!(message.name, "error");
                assert_eq!(message.arguments[0]["code"], "unavailable");
                break;
            }
        }
    }
    ecosystem.stop();
}
