//! Commands that come together: in a process of its own a daemon gets them together, and nobody may notice.

use std::fmt::Write as _;

use dae_tests::{Ecosystem, Guest};
use serde_json::json;

use super::{MODES, expect_echoes};

/// More than may be under way for one guest, and more than goes over in one piece.
const MANY: usize = 5_000;

/// The next so many lines.
fn lines(guest: &mut Guest, count: usize) -> Vec<String> {
    (0..count).map(|_| guest.line()).collect()
}

#[test]
fn lines_of_one_write_are_answered_in_their_order_whatever_they_run_as() {
    let script = "echo [1]\necho#a [2]\nslow [100]\necho [3]\nslow#b [1]\nnosuch\necho#c [4]\nadd [1, 2]\n\
                  add [true]\nblock [20]\nnothing\n{\noptions#d\nfail [\"it\"]\nslow [1]\nready [5]\necho [6]\n";
    let answers = MODES.map(|flags| {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Vectors", "vectors", flags);
        guest.send(script);
        let all = lines(&mut guest, script.lines().count());
        // `options` is answered by the host, and no call.
        assert_eq!(guest.ask("stats", &json!([]))["calls"], all.len() - 1);
        let (tagged, ordered): (Vec<_>, Vec<_>) = all.into_iter().partition(|line| {
            let (name, _) = line.split_once(' ').expect("a line with arguments");
            name.contains('#')
        });
        assert!(tagged.iter().any(|line| line == "echo#c [4]"), "{tagged:?}");
        assert_eq!(tagged.len(), 4, "{tagged:?}");
        ordered
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1].last().map(String::as_str), Some("echo [6]"));
}

#[test]
fn what_a_command_emits_comes_before_its_reply_among_many() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Vectors", "vectors", flags);
        guest.send("echo [1]\npush [2]\necho#a [2]\npush#b [1]\necho [3]\n");
        let all = lines(&mut guest, 8);
        let at = |line: &str| all.iter().position(|one| one == line);
        let ticks = all.iter().filter(|line| line.starts_with("tick "));
        assert_eq!(ticks.count(), 3, "{all:?}");
        let second = all.iter().rposition(|line| line == "tick [0]");
        assert!(at("tick [1]") < at("push [2]"), "{all:?}");
        assert!(second < at("push#b [1]"), "{all:?}");
        assert!(at("push [2]") < at("echo [3]"), "{all:?}");
    }
}

#[test]
fn a_flood_of_lines_loses_none_and_keeps_their_order() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Vectors", "vectors", flags);
        let mut sent = String::new();
        for number in 0..MANY {
            // Some of them long: a batch is bounded by what it weighs, too.
            let text = "x".repeat(if number % 500 == 0 { 100_000 } else { 5 });
            writeln!(sent, "echo [\"{number} {text}\"]").expect("a string takes all");
        }
        expect_echoes(&mut guest, &sent);
        assert_eq!(guest.ask("stats", &json!([]))["calls"], MANY);
    }
}

/// Nothing that holds the thread for ever is waited for longer than a command may take; what stands behind it neither.
#[test]
fn all_behind_one_that_holds_the_thread_are_told_in_time() {
    let ecosystem = Ecosystem::start_configured(
        &json!({"command_ms": 300, "stop_grace_ms": 300, "defaults": {"health_ms": 0}}),
    );
    let mut guest = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    let mut other = ecosystem.guest("Misbehave");
    guest.send("echo [1]\n");
    guest.expect("echo [1]");
    guest.send("sleep_here [true]\necho#a [2]\necho [3]\n");
    for _ in 0..3 {
        let fault = guest.message().result().expect_err("the thread is held");
        assert_eq!(fault.code, "timeout", "{fault:?}");
    }
    assert_eq!(other.ask_in_vain("echo", &json!([4])).code, "timeout");
}

#[test]
fn a_crash_takes_with_it_what_was_not_answered_and_no_more() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    // What the panic logs goes out at once, and the reply before it with it.
    guest.send("echo [1]\npanic#a\nabort [ ]\necho#b [2]\necho [3]\n");
    let all = lines(&mut guest, 5);
    assert!(all.contains(&"echo [1]".to_owned()), "{all:?}");
    let crashed = |line: &&String| line.contains(r#""code":"crashed""#);
    assert_eq!(all.iter().filter(crashed).count(), 4, "{all:?}");
    assert_eq!(guest.ask("echo", &json!([4])), 4);
}
