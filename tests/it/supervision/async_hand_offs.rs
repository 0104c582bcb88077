//! Busy guests of a subprocess whose commands are futures: they are handed off as others are, and a future that waits
//! comes home with its guest.

use std::time::Duration;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::hand_offs::{is_handed_off, make_busy_by, take_replies};
use super::process_of;

/// The number of times that a daemon is killed.
const KILLS: usize = 40;
/// The latest moment of a kill after the commands were sent (µs).
const MOMENTS_US: u64 = 4_000;
/// The number of commands in flight at a kill.
const AT_A_TIME: usize = 50;

/// Keeps the daemon busy with futures until its guest is handed off.
#[track_caller]
fn make_busy(ecosystem: &Ecosystem, guest: &mut Guest, worker: u32) {
    make_busy_by("ready", ecosystem, guest, worker);
}

/// Installs a daemon as a subprocess. Returns a guest that is handed off to it, and its process id.
#[track_caller]
fn handed_off(ecosystem: &Ecosystem, settings: &Value) -> (Guest, u32) {
    let settings = settings.to_string();
    let flags = ["--isolate", "--settings", &settings];
    let mut guest = ecosystem.install("Vectors", "vectors", &flags);
    let worker = process_of(ecosystem, "Vectors");
    make_busy(ecosystem, &mut guest, worker);
    (guest, worker)
}

fn replies(guest: &mut Guest, until: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != until) {
        lines.push(guest.line());
    }
    lines
}

#[test]
fn futures_that_end_at_once_are_answered_in_the_process_and_counted() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, &json!({}));
    let count = || {
        let stats = ecosystem.guest("Vectors").ask("stats", &json!([]));
        stats["commands"]["ready"]["calls"]
            .as_u64()
            .expect("a number")
    };
    let before = count();
    let sent = (0..5_000).map(|number| format!("ready [{number}]\n"));
    guest.send(sent.collect::<String>());
    for number in 0..5_000 {
        guest.expect(&format!("ready [{number}]"));
    }
    assert_eq!(count(), before + 5_000);
    make_busy(&ecosystem, &mut guest, worker);
    until(LIMIT, "a quiet guest is at home", || {
        !is_handed_off(&ecosystem, worker)
    });
}

#[test]
fn a_handed_off_guest_of_futures_is_answered_as_any_other() {
    let script = "ready [1]\nready#a [2]\nslow [30]\nready [3]\nslow#b [20]\nslow [1]\nready {a: 'json5'}\necho [4]\n\
                  ready []\nready [\n panic_later [1]\nready [5]\nslow_none [1]\nslow [2]\nslow [3]\nready [6]\n";
    let mut answers = [false, true].map(|is_handed_off| {
        let ecosystem = Ecosystem::start();
        let mut guest = match is_handed_off {
            true => handed_off(&ecosystem, &json!({})).0,
            false => ecosystem.install("Vectors", "vectors", &["--isolate"]),
        };
        guest.send(script);
        replies(&mut guest, "ready [6]")
    });
    // A tagged reply stands where it is ready.
    let tagged = answers.each_mut().map(|lines| {
        lines
            .extract_if(.., |line| line.contains('#'))
            .collect::<Vec<_>>()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].len(), 14, "{answers:?}");
    for tagged in tagged {
        assert_eq!(tagged, ["ready#a [2]", "slow#b [20]"]);
    }
}

#[test]
fn a_future_that_waits_comes_home_and_holds_nobody_up() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, &json!({}));
    let mut other = ecosystem.guest("Vectors");
    make_busy(&ecosystem, &mut other, worker);
    // It ends long after everything else, whose tags let it be answered before.
    guest.send("slow#last [3000]\nready#1 [1]\necho#2 [2]\n");
    // A tagged reply comes when it is ready, in whatever order.
    let mut first = [guest.line(), guest.line()];
    first.sort();
    assert_eq!(first, ["echo#2 [2]", "ready#1 [1]"]);
    for number in 0..200 {
        assert_eq!(other.ask("ready", &json!([number])), number);
    }
    assert_eq!(guest.line(), "slow#last [3000]");
    make_busy(&ecosystem, &mut guest, worker);
}

#[test]
fn a_future_that_came_home_has_the_limit_of_any_command_and_goes_with_its_guest() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"command_ms": 300}));
    ecosystem.wake(&[]);
    let (mut guest, worker) = handed_off(&ecosystem, &json!({}));
    guest.send("slow [3600000]\nready [1]\n");
    let fault = guest.message().result().expect_err("it doesn't end");
    assert_eq!(
        (fault.code.as_str(), fault.command.as_str()),
        ("timeout", "slow")
    );
    guest.expect("ready [1]");
    make_busy(&ecosystem, &mut guest, worker);
    guest.send("slow [3600000]\n");
    drop(guest);
    until(LIMIT, "its socket is closed on both sides", || {
        !is_handed_off(&ecosystem, worker)
    });
    let mut next = ecosystem.guest("Vectors");
    assert_eq!(next.ask("ready", &json!([1])), 1);
    assert_eq!(ecosystem.status("Vectors")["restarts"], 0);
}

/// A reload waits for a command that runs, and the guest is served by the next generation.
#[test]
fn a_reload_waits_for_a_future_that_came_home() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, &json!({}));
    guest.send("slow [400]\nready [1]\n");
    let _ = ecosystem.cli(&["reload", "Vectors"]).ok();
    guest.expect("slow [400]");
    guest.expect("ready [1]");
    let next = process_of(&ecosystem, "Vectors");
    assert_ne!(worker, next);
    make_busy(&ecosystem, &mut guest, next);
}

#[test]
fn killed_processes_lose_no_future_and_none_is_answered_twice() {
    let ecosystem = Ecosystem::start();
    let restart =
        json!({"served_ms": 0, "healthy_ms": 0, "burst_max": 1_000_000, "slow_max": 1_000_000});
    let (mut guest, mut worker) = handed_off(&ecosystem, &json!({"restart": restart}));
    let mut crashed = 0;
    for kill in 0..KILLS {
        let first = kill * AT_A_TIME;
        let mut lines: Vec<String> = (first..first + AT_A_TIME)
            .map(|number| format!("ready [{number}]"))
            .collect();
        // Every other time, futures wait in between.
        if kill % 2 == 1 {
            lines.insert(AT_A_TIME / 2, "slow [2]".to_owned());
            lines.insert(AT_A_TIME / 4, "slow [1]".to_owned());
        }
        guest.send(lines.join("\n") + "\n");
        // The kill comes at a varying moment of the batch.
        std::thread::sleep(Duration::from_micros(kill as u64 * 1_700 % MOMENTS_US));
        process::signal(worker, Signal::KILL);
        crashed += take_replies(&mut guest, &lines);
        worker = until_some(LIMIT, "the successor is there", || {
            let pid = ecosystem.status("Vectors")["pid"].as_u64()?;
            u32::try_from(pid).ok().filter(|pid| *pid != worker)
        });
        make_busy(&ecosystem, &mut guest, worker);
    }
    assert!(crashed > 0, "a kill hits a command");
}
