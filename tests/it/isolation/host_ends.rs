//! Faults that end the host when the daemon runs in-process. Most of them are faults that a subprocess keeps to itself.
//!
//! The tests show the extent of the damage: the host and all connections are gone, and the next `run` brings everything
//! back on the same ports.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use dae_tests::{Guest, LIMIT, process, until};
use rustix::process::{Resource, Signal};
use serde_json::{Value, json};

use super::scene::{Mode, NAME, Scene};

/// The end of a process.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Signal(Signal),
    Code(i32),
}

const ABRT: End = End::Signal(Signal::ABORT);

/// The longest time that a subprocess may outlive its host.
const ORPHAN_MAX: Duration = Duration::from_secs(2);

#[track_caller]
fn ends_the_host(command: &str, arguments: &Value, expected: &End) {
    ends(
        Scene::set(Mode::InProcess, &json!({})),
        command,
        arguments,
        expected,
    );
}

#[track_caller]
fn ends(mut scene: Scene, command: &str, arguments: &Value, expected: &End) {
    scene.put_in_flight();
    scene.guest.send(format!("{command} {arguments}\n"));
    let status = scene.ecosystem.end_status();
    let signal = status.signal().and_then(Signal::from_named_raw);
    let end = signal.map_or_else(|| End::Code(status.code().unwrap_or(-1)), End::Signal);
    assert_eq!(
        &end,
        expected,
        "{command} in-process; the host wrote:\n{}",
        scene.ecosystem.stderr()
    );
    scene.guest.expect_closed();
    scene.other.expect_closed();
    comes_back(&mut scene);
}

/// Asserts that the next `run` brings both daemons back, each on its port.
#[track_caller]
fn comes_back(scene: &mut Scene) {
    scene.ecosystem.wake(&[]);
    for name in [NAME, "Witness"] {
        scene.ecosystem.until_state(name, "ready");
        scene.ecosystem.guest(name).expect_alive();
    }
    assert_eq!(Guest::connect(scene.port).ask("echo", &json!([1])), 1);
    scene.ecosystem.stop();
}

#[test]
fn abort() {
    ends_the_host("abort", &json!([]), &ABRT);
}

#[test]
fn segfault() {
    ends_the_host("segfault", &json!([]), &End::Signal(Signal::SEGV));
}

#[test]
fn stack_overflow() {
    ends_the_host("overflow_stack", &json!([]), &ABRT);
}

/// Even the exit code reports success.
#[test]
fn exit() {
    ends_the_host("exit", &json!([0]), &End::Code(0));
}

/// A failed allocation ends the process.
#[test]
fn allocating_without_end() {
    let scene = Scene::set(Mode::InProcess, &json!({}));
    // A little more than the host has now: to fill gigabytes takes longer than a command's limit on a busy machine.
    let host = scene.ecosystem.pid();
    let bound = process::address_space_bytes(host) + (512 << 20);
    process::set_bound(host, Resource::As, bound);
    ends(scene, "allocate", &json!([]), &ABRT);
}

/// A subprocess's parent is the host, so this kills the host's own group. Only a different user id could prevent that.
/// The daemon ends with its host.
#[test]
fn killing_the_parents_group() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({}));
    let (host, child) = (scene.ecosystem.pid(), scene.pid());
    let arguments = json!([host, Signal::KILL.as_raw()]);
    scene
        .guest
        .send(format!("signal_parents_group {arguments}\n"));
    assert_eq!(
        scene.ecosystem.end_status().signal(),
        Some(Signal::KILL.as_raw())
    );
    until(ORPHAN_MAX, "the child is gone with its host", || {
        process::is_gone(child)
    });
    comes_back(&mut scene);
}

/// A process started by a subprocess ends with the host, even if the subprocess is stopped (SIGSTOP) at that time.
#[test]
fn what_a_subprocess_has_started_is_gone_soon_after_a_killed_host() {
    for is_stopped in [false, true] {
        let mut scene = Scene::set(Mode::Subprocess, &json!({"health_ms": 0}));
        let (child, started) = (scene.pid(), started_by(&mut scene));
        if is_stopped {
            process::signal(child, Signal::STOP);
            until(LIMIT, "it is stopped", || {
                process::state(child) == Some('T')
            });
        }
        scene.ecosystem.kill();
        for process in [child, started] {
            until(LIMIT, "it is gone", || process::is_gone(process));
        }
        comes_back(&mut scene);
    }
}

/// If neither the host nor the subprocess is left to end it, the next host does.
#[test]
fn what_a_killed_subprocess_of_a_killed_host_has_started_is_gone_at_the_next_start() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({}));
    let (child, started) = (scene.pid(), started_by(&mut scene));
    // A stopped host doesn't notice the subprocess's end.
    scene.ecosystem.signal(Signal::STOP);
    process::signal(child, Signal::KILL);
    until(LIMIT, "it has ended", || process::is_gone(child));
    scene.ecosystem.kill();
    assert!(!process::is_gone(started), "nobody was left to end it");
    comes_back(&mut scene);
    until(LIMIT, "it is gone", || process::is_gone(started));
    let records = scene.ecosystem.home().join("run/workers");
    assert!(dae_tests::files::entries(&records).is_empty());
}

/// Makes the daemon start a process, and returns that process's id.
fn started_by(scene: &mut Scene) -> u32 {
    let started = scene.guest.ask("spawn_grandchild", &json!([]));
    u32::try_from(started.as_u64().expect("a number")).expect("a process id")
}

/// The host takes this SIGTERM for a person's and ends in order.
#[test]
fn terminating_the_parents_group() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({}));
    let (host, child) = (scene.ecosystem.pid(), scene.pid());
    let arguments = json!([host, Signal::TERM.as_raw()]);
    scene
        .guest
        .send(format!("signal_parents_group {arguments}\n"));
    assert_eq!(scene.ecosystem.end_status().code(), Some(0));
    assert!(process::is_gone(child), "the child has outlived its host");
    comes_back(&mut scene);
}

/// The signal stops the whole process, so nothing in it can report that. SIGCONT resumes it, and nothing is lost.
#[test]
fn sigstop() {
    let mut scene = Scene::set(Mode::InProcess, &json!({}));
    let host = scene.ecosystem.pid();
    scene.guest.send("stop_itself\n");
    until(LIMIT, "the host is stopped", || {
        process::state(host) == Some('T')
    });
    scene.other.send("echo [1]\n");
    scene.ecosystem.signal(Signal::CONT);
    scene.other.expect("echo [1]");
    scene.guest.expect("stop_itself []");
    scene.ecosystem.stop();
}
