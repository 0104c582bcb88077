//! Busy guests of a subprocess: they are handed off to it, which makes no difference to a guest but speed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{FOR_EVER_MS, expect_echoes, process_of};

/// The number of guests at a time in tests with many.
const GUESTS: usize = 20;
/// The number of times that a daemon is killed while it serves a guest directly.
const KILLS: usize = 40;
/// The latest moment of a kill after the commands were sent (µs); most kills hit running commands.
const MOMENTS_US: u64 = 8_000;
/// The number of commands in flight at a kill.
const AT_A_TIME: usize = 50;

fn sockets(process: u32) -> BTreeSet<PathBuf> {
    let all = process::descriptors(process).into_values();
    all.filter(|target| target.to_string_lossy().starts_with("socket:"))
        .collect()
}

/// Returns whether the daemon's process shares a socket with its host, which is a guest's.
pub(super) fn is_handed_off(ecosystem: &Ecosystem, worker: u32) -> bool {
    !sockets(worker).is_disjoint(&sockets(ecosystem.pid()))
}

/// Keeps the daemon busy until its guest is handed off.
#[track_caller]
fn make_busy(ecosystem: &Ecosystem, guest: &mut Guest, worker: u32) {
    make_busy_by("echo", ecosystem, guest, worker);
}

/// Keeps the daemon busy until its guest is handed off, by a command that returns its argument.
#[track_caller]
pub(super) fn make_busy_by(command: &str, ecosystem: &Ecosystem, guest: &mut Guest, worker: u32) {
    until(LIMIT, "the guest is handed off", || {
        for number in 0..20 {
            assert_eq!(guest.ask(command, &json!([number])), number);
        }
        is_handed_off(ecosystem, worker)
    });
}

/// Installs a daemon as a subprocess. Returns a guest that is handed off to it, and its process id.
#[track_caller]
fn handed_off(ecosystem: &Ecosystem, name: &str, library: &str, settings: &Value) -> (Guest, u32) {
    let settings = settings.to_string();
    let flags = ["--isolate", "--settings", &settings];
    let mut guest = ecosystem.install(name, library, &flags);
    let worker = process_of(ecosystem, name);
    make_busy(ecosystem, &mut guest, worker);
    (guest, worker)
}

fn calls(ecosystem: &Ecosystem, name: &str) -> u64 {
    let stats = ecosystem.guest(name).ask("stats", &json!([]));
    stats["calls"].as_u64().expect("a number")
}

#[test]
fn a_guest_is_handed_off_while_it_is_busy_and_each_command_of_it_is_counted() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, "Probe", "probe", &json!({}));
    let before = calls(&ecosystem, "Probe");
    for number in 0..500 {
        assert_eq!(guest.ask("echo", &json!([number])), number);
    }
    assert_eq!(calls(&ecosystem, "Probe"), before + 500);
    until(LIMIT, "a quiet guest is at home", || {
        !is_handed_off(&ecosystem, worker)
    });
    assert_eq!(guest.ask("echo", &json!(["again"])), "again");
    assert_eq!(ecosystem.status("Probe")["restarts"], 0);
}

#[test]
fn a_handed_off_guest_is_answered_as_any_other() {
    let script = "echo [1]\necho#a [2]\n\n  \nslow [30]\necho [3]\nnosuch\necho [4]\nadd [1, 2]\nadd [true]\n\
                  block [5]\nnothing\n{\noptions\nfail [\"it\"]\n\
                  refuse ['full', 'no', {n: 0.5}]\necho {a: 'json5'}\necho [5]\r\npanic\n\
                  ready [5]\necho [\"\\u00e9\"]\ndae\necho \u{e9}\necho [6]\n";
    let answers = [false, true].map(|is_handed_off| {
        let ecosystem = Ecosystem::start();
        let mut guest = match is_handed_off {
            true => handed_off(&ecosystem, "Vectors", "vectors", &json!({})).0,
            false => ecosystem.install("Vectors", "vectors", &["--isolate"]),
        };
        guest.send(script);
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "echo [6]") {
            lines.push(guest.line());
        }
        // The credential differs between the two, which is not part of this test.
        lines.retain(|line| !line.starts_with("dae "));
        lines
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].len(), 21, "{answers:?}");
    let coded = r#"error [{"command":"refuse","code":"full","message":"no","data":{"n":0.5}}]"#;
    assert!(answers[1].iter().any(|line| line == coded), "{answers:?}");
}

#[test]
fn a_handed_off_guest_may_ask_for_parts_and_is_handed_off_again() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    guest.send("echo [1]\ndae [{\"parts\":true}]\ncount#7 [2]\necho [2]\n");
    let lines: Vec<_> = (0..5).map(|_| guest.line()).collect();
    assert_eq!(lines[0], "echo [1]");
    let of_count: Vec<_> = lines.iter().filter(|line| line.contains("#7 ")).collect();
    assert_eq!(of_count[0], r#"part#7 [{"command":"count","item":1}]"#);
    assert_eq!(
        of_count[1..],
        [r#"part#7 [{"command":"count","item":2}]"#, "count#7 []"]
    );
    make_busy(&ecosystem, &mut guest, worker);
    guest.send("count#8 [1]\n");
    assert_eq!(guest.line(), r#"part#8 [{"command":"count","item":1}]"#);
    assert_eq!(guest.line(), "count#8 []");
}

#[test]
fn a_line_like_one_of_http_concerns_no_other_handed_off_guest() {
    let ecosystem = Ecosystem::start();
    let (mut first, worker) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    let mut second = ecosystem.guest("Vectors");
    for line in ["x: 1", "GET / HTTP/1.1"] {
        make_busy(&ecosystem, &mut first, worker);
        for number in 0..10 {
            assert_eq!(second.ask("echo", &json!([number])), number);
        }
        first.send(format!("{line}\n"));
        let fault = first.message().result().expect_err("no command");
        assert_eq!(fault.code, "unknown-command", "{fault:?}");
        assert_eq!(second.ask("echo", &json!([line])), line);
        assert_eq!(first.ask("echo", &json!([line])), line);
    }
}

#[test]
fn many_handed_off_guests_that_come_and_go_each_get_their_own_replies() {
    let ecosystem = Ecosystem::start();
    let (_guest, _) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    let port = ecosystem.port_of("Vectors");
    std::thread::scope(|scope| {
        for own in 0..GUESTS {
            scope.spawn(move || {
                for round in 0..10 {
                    let mut guest = Guest::connect(port);
                    for number in 0..50 {
                        // An event now and then recalls the guest in the middle of its work.
                        if number % 17 == own % 17 {
                            guest.send("push [1]\n");
                            guest.expect("tick [0]");
                            guest.expect("push [1]");
                        }
                        let word = format!("{own} {round} {number}");
                        assert_eq!(guest.ask("echo", &json!([word])), word);
                    }
                }
            });
        }
    });
    assert_eq!(ecosystem.status("Vectors")["restarts"], 0);
}

#[test]
fn a_guest_for_whom_a_slow_command_runs_is_served_meanwhile() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Vectors", "vectors", &["--isolate"]);
    guest.send(format!("slow#waiting [{FOR_EVER_MS}]\n"));
    for number in 0..100 {
        assert_eq!(guest.ask("echo", &json!([number])), number);
    }
}

#[test]
fn a_guest_that_is_to_be_handed_off_and_has_something_slow_under_way_is_read_again() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Probe", "probe", &["--isolate"]);
    for number in 0..20 {
        assert_eq!(guest.ask("echo", &json!([number])), number);
        // A slow command and half a line: the host gives up on neither when it tries to hand the guest off.
        guest.send("hold#held [30]\nec");
        guest.send("ho [1]\n");
        guest.expect("hold#held [30]");
        guest.expect("echo [1]");
    }
}

#[test]
fn an_event_for_a_handed_off_guest_stands_before_the_reply_of_its_command() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    for _ in 0..5 {
        make_busy(&ecosystem, &mut guest, worker);
        guest.send("echo [1]\npush [2]\necho [2]\n");
        for expected in ["echo [1]", "tick [0]", "tick [1]", "push [2]", "echo [2]"] {
            guest.expect(expected);
        }
    }
}

#[test]
fn lines_that_come_in_pieces_are_one_line() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    for _ in 0..5 {
        make_busy(&ecosystem, &mut guest, worker);
        guest.send("echo [1]\necho [\"ha");
        guest.expect("echo [1]");
        guest.send("lf\"]\necho [2]\nech");
        guest.expect("echo [\"half\"]");
        guest.expect("echo [2]");
        guest.send("o [3]\n");
        guest.expect("echo [3]");
    }
}

#[test]
fn a_handed_off_guest_that_does_not_read_loses_nothing() {
    let ecosystem = Ecosystem::start();
    let (mut guest, _) = handed_off(&ecosystem, "Vectors", "vectors", &json!({}));
    let mut sent = String::new();
    for number in 0..3_000 {
        // More data than a socket holds, and some lines longer than one read or one buffer.
        let text = "x".repeat(if number % 300 == 0 { 300_000 } else { 2_000 });
        writeln!(sent, "echo [\"{number} {text}\"]").expect("a string takes all");
    }
    expect_echoes(&mut guest, &sent);
}

/// Returns a batch that begins with that number, with a command in its middle that runs long enough to be hit.
fn batch(first: usize) -> Vec<String> {
    let echo = |number| format!("echo [{number}]");
    let mut lines: Vec<_> = (first..first + AT_A_TIME).map(echo).collect();
    lines.insert(AT_A_TIME / 2, "hold [5]".to_owned());
    lines
}

/// Asserts that each line gets its own reply or `crashed`. Returns the number of the latter.
#[track_caller]
pub(super) fn take_replies(guest: &mut Guest, lines: &[String]) -> usize {
    let mut crashed = 0;
    for expected in lines {
        let line = guest.line();
        if line != *expected {
            let name = expected.split(' ').next().expect("a name");
            let told = format!("{{\"command\":\"{name}\",\"code\":\"crashed\"");
            assert!(line.contains(&told), "{line} in place of {expected}");
            crashed += 1;
        }
    }
    crashed
}

#[test]
fn a_killed_process_loses_no_command_of_a_handed_off_guest_and_answers_none_twice() {
    let ecosystem = Ecosystem::start();
    let restart =
        json!({"served_ms": 0, "healthy_ms": 0, "burst_max": 1_000_000, "slow_max": 1_000_000});
    let (mut guest, mut worker) =
        handed_off(&ecosystem, "Probe", "probe", &json!({"restart": restart}));
    let (mut next, mut crashed) = (0, 0);
    for kill in 0..KILLS {
        let lines = batch(next);
        guest.send(lines.join("\n") + "\n");
        // The kill comes at a varying moment of the batch.
        std::thread::sleep(Duration::from_micros(kill as u64 * 1_700 % MOMENTS_US));
        process::signal(worker, Signal::KILL);
        crashed += take_replies(&mut guest, &lines);
        next += AT_A_TIME;
        worker = until_some(LIMIT, "the successor is there", || {
            let pid = ecosystem.status("Probe")["pid"].as_u64()?;
            u32::try_from(pid).ok().filter(|pid| *pid != worker)
        });
        make_busy(&ecosystem, &mut guest, worker);
    }
    // A guest that is handed off loses only the command that the daemon was running.
    assert!((1..=KILLS).contains(&crashed), "{crashed}");
}

#[test]
fn a_handed_off_guest_is_told_of_a_command_that_does_not_end_and_no_other_guest_waits() {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"command_ms": 300}));
    ecosystem.wake(&[]);
    let settings = json!({"health_ms": 200, "health_misses_max": 10});
    let (mut guest, worker) = handed_off(&ecosystem, "Probe", "probe", &settings);
    guest.send(format!("echo [1]\nhold [{FOR_EVER_MS}]\necho [2]\n"));
    guest.expect("echo [1]");
    let fault = guest.message().result().expect_err("it doesn't end");
    assert_eq!(
        (fault.code.as_str(), fault.command.as_str()),
        ("timeout", "hold"),
        "{fault:?}"
    );
    // The failed health checks kill the process; the command behind `hold` is answered in any case.
    let _ = guest.message();
    until(LIMIT, "the process is another", || {
        ecosystem.status("Probe")["pid"] != worker
    });
    assert_eq!(guest.ask("echo", &json!([3])), 3);
}

#[test]
fn a_reload_recalls_handed_off_guests_and_they_are_handed_off_again() {
    let ecosystem = Ecosystem::start();
    let (mut guest, worker) = handed_off(&ecosystem, "Probe", "probe", &json!({}));
    let _ = ecosystem.cli(&["reload", "Probe"]).ok();
    let next = process_of(&ecosystem, "Probe");
    assert_ne!(worker, next);
    make_busy(&ecosystem, &mut guest, next);
    let _ = ecosystem.cli(&["stop", "Probe"]).ok();
    guest.expect_closed();
}

#[test]
fn a_handed_off_guest_that_leaves_leaves_nothing_behind() {
    let ecosystem = Ecosystem::start();
    let (guest, worker) = handed_off(&ecosystem, "Probe", "probe", &json!({}));
    drop(guest);
    until(LIMIT, "its socket is closed on both sides", || {
        !is_handed_off(&ecosystem, worker)
    });
    let status = ecosystem.status("Probe");
    assert_eq!(
        (&status["guests"], &status["restarts"]),
        (&json!(0), &json!(0)),
        "{status}"
    );
}

#[test]
fn a_host_that_ends_closes_handed_off_guests() {
    let mut ecosystem = Ecosystem::start();
    let (mut guest, _) = handed_off(&ecosystem, "Probe", "probe", &json!({}));
    ecosystem.stop();
    guest.expect_closed();
}
