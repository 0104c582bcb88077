//! Commands that arrive together: a subprocess gets them as a batch, with the same results as one by one.

use std::fmt::Write as _;

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::json;

use super::{MODES, expect_echoes};

/// More commands than may be in flight for one guest, and more than fit in one batch.
const MANY: usize = 5_000;

/// Returns the next `count` lines.
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
        // The host answers `options`, which does not count as a call.
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
            // Some lines are long: the size of a batch is limited, too.
            let text = "x".repeat(if number % 500 == 0 { 100_000 } else { 5 });
            writeln!(sent, "echo [\"{number} {text}\"]").expect("a string takes all");
        }
        expect_echoes(&mut guest, &sent);
        assert_eq!(guest.ask("stats", &json!([]))["calls"], MANY);
    }
}

/// The time limit of a command holds when it blocks the thread, and so does that of each command behind it.
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
    // The host gets a panic's log record at once, together with the reply before it.
    guest.send("echo [1]\npanic#a\nabort [ ]\necho#b [2]\necho [3]\n");
    let all = lines(&mut guest, 5);
    assert!(all.contains(&"echo [1]".to_owned()), "{all:?}");
    let crashed = |line: &&String| line.contains(r#""code":"crashed""#);
    assert_eq!(all.iter().filter(crashed).count(), 4, "{all:?}");
    assert_eq!(guest.ask("echo", &json!([4])), 4);
}

/// A future may hold its thread when it goes on. The replies of those that ended before that are sent already. (In the
/// host's own process the one task that such a thread was about to run waits; see `threads/spare.rs`.)
#[test]
fn a_finished_reply_does_not_wait_for_a_future_that_holds_the_process() {
    let ecosystem = Ecosystem::start();
    let mut first = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    let mut second = ecosystem.guest("Misbehave");
    let file = ecosystem.scratch().join("answered");
    first.send("gather [2]\n");
    until(LIMIT, "it waits", || {
        ecosystem.guest("Misbehave").ask("gathered", &json!([])) == 1
    });
    second.send(format!("gather_and_hold [2, {}]\n", json!(file)));
    first.expect("gather []");
    std::fs::write(&file, []).expect("a file");
    second.expect("gather_and_hold [true]");
}
