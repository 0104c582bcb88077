//! Guests that request large replies and read nothing: the data that waits for all of them together is bounded, and no
//! other guest is delayed.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use dae_tests::{Guest, process};
use serde_json::json;

use super::scene::{MODES, Mode, NAME, Scene};

/// The size of a large reply (bytes): more than a guest's share, so that only one of them is made at a time.
const LARGE_BYTES: usize = 9 << 20;
/// The most data that waits for all guests of a daemon beside one large reply (bytes).
const ROOM_BYTES: usize = 64 << 20;
/// The margin for copies of a reply on its way and for freed memory that the allocator keeps (bytes).
const SLACK_BYTES: usize = LARGE_BYTES;
/// The longest wait for a large reply. A debug build on a busy machine writes a few MB of it per second.
const REPLY_MAX: Duration = Duration::from_secs(60);
/// The longest wait of a guest that reads, with a margin for a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Returns the resident memory (bytes) of the host and of the daemon's process, if it has one, by process id.
fn resident(scene: &mut Scene, mode: Mode) -> Vec<(u32, u64)> {
    let mut processes = vec![scene.ecosystem.pid()];
    if mode == Mode::Subprocess {
        processes.push(scene.pid());
    }
    let resident = |process: u32| (process, process::resident_bytes(process));
    processes.into_iter().map(resident).collect()
}

/// Tests guests that each send many of these commands and read nothing. The data that waits stays within bounds while
/// another guest is answered. After that the first guest reads and gets everything.
#[track_caller]
fn bounded(mode: Mode, command: &str, bytes: usize, (guests, each): (usize, usize)) {
    let label = format!("{mode:?} {command} {bytes}");
    let mut scene = Scene::set_with(mode, &json!({"command_ms": 60_000}));
    let before = resident(&mut scene, mode);
    let (host, prober) = (scene.ecosystem.pid(), scene.prober());
    let mut deaf: Vec<_> = (0..guests).map(|_| scene.ecosystem.guest(NAME)).collect();
    for guest in &mut deaf {
        guest.send(format!("{command} [{bytes}]\n").repeat(each));
    }
    let most = (ROOM_BYTES + SLACK_BYTES) as u64;
    assert!(
        most < (guests * each * bytes) as u64,
        "{label}: that shows nothing"
    );
    for number in 0..100 {
        let asked = Instant::now();
        assert_eq!(scene.other.ask("echo", &json!([number])), number);
        let took = asked.elapsed();
        assert!(took < ANSWER_MAX, "{label}: another guest waited {took:?}");
        std::thread::sleep(Duration::from_millis(5));
        for (process, before) in &before {
            let grown = process::resident_bytes(*process).saturating_sub(*before);
            let whose = if *process == host {
                "host"
            } else {
                "daemon's process"
            };
            assert!(
                grown < most,
                "{label}: the {whose} has {grown} bytes more than before"
            );
        }
    }
    prober.expect_unharmed(&label);
    let mut first = deaf.swap_remove(0);
    drop(deaf);
    for _ in 0..each {
        let line = first.line_within(REPLY_MAX).expect("a reply");
        assert_eq!(
            line.len(),
            bytes + command.len() + r#" [""]"#.len(),
            "{label}"
        );
    }
    assert_eq!(first.ask("echo", &json!([1])), 1);
    scene.expect_same_instance();
    scene.ecosystem.stop();
}

/// For each kind of command, the first replies are complete at the same moment, on several threads.
#[test]
fn large_replies_that_nobody_reads_wait_one_at_a_time() {
    for mode in MODES {
        for command in ["give", "give_later", "give_slowly"] {
            bounded(mode, command, LARGE_BYTES, (6, 3));
        }
    }
}

/// Only one large reply is made at a time, so a guest that takes nothing of its own would block all others.
#[test]
fn a_guest_that_reads_nothing_of_a_large_reply_gives_way_to_others() {
    // More than the system's buffers of a connection hold.
    let bytes = 2 * LARGE_BYTES;
    for mode in MODES {
        for command in ["give", "give_later", "give_slowly"] {
            let settings = json!({"command_ms": 60_000, "half_line_ms": 500});
            let mut scene = Scene::set_with(mode, &settings);
            let deaf = scene.ecosystem.guest(NAME);
            (&mut deaf.stream())
                .write_all(format!("{command} [{bytes}]\n").repeat(2).as_bytes())
                .expect("it listens");
            deaf.stream()
                .set_read_timeout(Some(REPLY_MAX))
                .expect("a limit");
            deaf.stream().peek(&mut [0]).expect("its reply begins");
            let is_large = |line: String| line.len() > bytes;
            scene.other.send(format!("{command} [{bytes}]\n").repeat(2));
            for _ in 0..2 {
                let line = scene.other.line_within(REPLY_MAX);
                assert!(line.is_some_and(is_large), "{mode:?} {command}");
            }
            let taken =
                io::copy(&mut deaf.stream(), &mut io::sink()).expect("what was sent before");
            assert!(taken < bytes as u64, "closed in the middle of a reply");
            scene.expect_same_instance();
            scene.ecosystem.stop();
        }
    }
}

/// A regression test for a case that early users found.
#[test]
fn forty_replies_of_100_mib_that_nobody_reads_cost_one_of_them() {
    let mut scene = Scene::set_with(Mode::Subprocess, &json!({"command_ms": 60_000}));
    let before = resident(&mut scene, Mode::Subprocess);
    let mut deaf: Guest = scene.ecosystem.guest(NAME);
    deaf.send("return_much\n".repeat(40));
    for number in 0..100 {
        assert_eq!(scene.other.ask("echo", &json!([number])), number);
        std::thread::sleep(Duration::from_millis(5));
        for (process, before) in &before {
            let grown = process::resident_bytes(*process).saturating_sub(*before);
            assert!(grown < 320 << 20, "{grown} bytes more than before");
        }
    }
    scene.expect_same_instance();
}
