//! Faults in a subprocess: each costs that process and nothing else.

use dae_tests::{Guest, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::scene::{Mode, NAME, Scene};

/// Bytes that announce a frame of 4 GiB.
const NOT_A_LENGTH: [u8; 16] = [0xff; 16];
/// The length of a valid frame of some 256 MB, with nothing after it.
const LENGTH_256_MB: [u8; 4] = [0, 0, 0, 0x0f];
/// A memory bound (bytes), of which a debug build's worker needs a fraction.
const MEMORY_BYTES: u64 = 1 << 30;
/// The most lines of a subprocess's output that the host keeps per second.
const LINES_A_SECOND_MAX: usize = 1_000;

/// Returns settings with health checks that are frequent enough to keep tests short, and rare enough not to take a
/// daemon on a loaded machine for a hanging one.
fn watched() -> Value {
    json!({"health_ms": 250, "health_misses_max": 3})
}

/// Asserts that the fault ends the daemon's process and nothing else, and that each guest that waits gets an answer.
#[track_caller]
fn dies_alone(settings: &Value, command: &str, arguments: &Value, cause: &str) {
    dies(
        Scene::set(Mode::Subprocess, settings),
        command,
        arguments,
        cause,
    );
}

#[track_caller]
fn dies(mut scene: Scene, command: &str, arguments: &Value, cause: &str) {
    let (host, child) = (scene.ecosystem.pid(), scene.pid());
    assert_ne!(host, child);
    let prober = scene.prober();
    scene.put_in_flight();
    let fault = scene.guest.ask_in_vain(command, arguments);
    assert_eq!(
        (fault.code.as_str(), fault.command.as_str()),
        ("crashed", command),
        "{fault:?}"
    );
    scene.expect_in_flight_crashed();
    assert_ne!(scene.pid(), child, "another process answers");
    scene.expect_replaced(cause);
    assert!(process::is_gone(child), "the old process is left over");
    prober.expect_unharmed(command);
    scene.ecosystem.stop();
}

#[test]
fn abort() {
    dies_alone(&json!({}), "abort", &json!([]), "SIGABRT");
}

#[test]
fn segfault() {
    dies_alone(&json!({}), "segfault", &json!([]), "SIGSEGV");
}

#[test]
fn stack_overflow() {
    dies_alone(&json!({}), "overflow_stack", &json!([]), "SIGABRT");
}

#[test]
fn exit() {
    dies_alone(&json!({}), "exit", &json!([0]), "exited with code 0");
}

#[test]
fn endless_loop() {
    dies_alone(&watched(), "spin", &json!([true]), "health checks");
}

#[test]
fn sleeping_for_ever_where_it_must_not_block() {
    dies_alone(&watched(), "sleep_here", &json!([true]), "health checks");
}

#[test]
fn sigstop() {
    dies_alone(&watched(), "stop_itself", &json!([]), "health checks");
}

/// The only thread that could answer waits for the answer.
#[test]
fn calling_itself_while_it_holds_its_thread() {
    let scene = Scene::set(Mode::Subprocess, &watched());
    let arguments = json!([scene.port]);
    dies(scene, "call_itself", &arguments, "health checks");
}

/// The cause names the memory bound, as far as the kernel reports it.
#[test]
fn allocating_without_end() {
    let settings = json!({"bounds": {"memory_bytes": MEMORY_BYTES}});
    dies_alone(&settings, "allocate", &json!([]), "memory");
}

#[test]
fn garbage_to_every_descriptor() {
    let garbage: &[u8] = b"garbage, as a debug print to a wrong number might be\n";
    dies_alone(
        &json!({}),
        "write_everywhere",
        &json!([garbage]),
        "nonsense",
    );
}

#[test]
fn a_frame_of_4_gib() {
    dies_alone(
        &json!({}),
        "write_everywhere",
        &json!([NOT_A_LENGTH]),
        "nonsense",
    );
}

/// The host takes the worker's later messages for the rest of that frame, so the worker never answers again.
#[test]
fn a_length_that_never_comes() {
    dies_alone(
        &watched(),
        "write_everywhere",
        &json!([LENGTH_256_MB]),
        "health checks",
    );
}

/// A crash with many commands in flight counts once: their errors don't count against the next instance.
#[test]
fn many_in_flight_are_one_crash() {
    // The restart is immediate, so that the next instance runs while the errors are still being counted.
    let settings = json!({"on_panic": "restart", "restart": {"served_ms": 0}});
    let mut scene = Scene::set(Mode::Subprocess, &settings);
    let mut guests: Vec<Guest> = (0..20).map(|_| scene.ecosystem.guest(NAME)).collect();
    for guest in &mut guests {
        guest.send("sleep_async#held\necho#after [1]\n");
        guest.expect("echo#after [1]");
    }
    scene.guest.ask_in_vain("abort", &json!([]));
    for guest in &mut guests {
        let fault = guest.message().result().expect_err("it was in flight");
        assert_eq!(fault.code, "crashed");
        assert_eq!(guest.ask("echo", &json!([2])), 2);
    }
    scene.expect_replaced("SIGABRT");
    scene.ecosystem.stop();
}

/// The process needs no further files to answer.
#[test]
fn opening_files_without_end() {
    let settings = json!({"bounds": {"files_max": 64}});
    let mut scene = Scene::set(Mode::Subprocess, &settings);
    let prober = scene.prober();
    let opened = scene.guest.ask("open_files", &json!([])).as_u64();
    assert!(
        opened.is_some_and(|opened| (1..64).contains(&opened)),
        "{opened:?}"
    );
    assert_eq!(scene.ecosystem.guest(NAME).ask("echo", &json!([1])), 1);
    scene.expect_same_instance();
    prober.expect_unharmed("open_files");
    scene.ecosystem.stop();
}

/// The host reads this output for ever and keeps a bounded part of it.
#[test]
fn printing_without_end() {
    let mut scene = Scene::set(Mode::Subprocess, &watched());
    let prober = scene.prober();
    scene.other.send("print\n");
    let start = std::time::Instant::now();
    scene.ecosystem.until_logged(NAME, "were left out");
    assert_eq!(scene.guest.ask("echo", &json!([1])), 1);
    let lines = scene.ecosystem.logged(NAME);
    let kept = lines
        .iter()
        .filter(|line| line.starts_with("line "))
        .count();
    // The host counts in seconds that don't begin with this clock's.
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("not that long") + 2;
    assert!(
        kept <= LINES_A_SECOND_MAX * seconds,
        "{kept} lines in {seconds} s"
    );
    assert!(
        lines.iter().all(|line| line.len() <= 8 << 10),
        "a line was kept whole"
    );
    scene.expect_same_instance();
    prober.expect_unharmed("print");
    scene.expect_stops();
    scene.ecosystem.stop();
}

#[test]
fn closing_its_standard_streams() {
    let mut scene = Scene::set(Mode::Subprocess, &watched());
    let prober = scene.prober();
    assert_eq!(scene.guest.ask("close_stdio", &json!([])), Value::Null);
    assert_eq!(scene.ecosystem.guest(NAME).ask("echo", &json!([1])), 1);
    // Log records don't use the standard streams.
    scene.guest.ask_in_vain("panic", &json!([]));
    scene.ecosystem.until_logged(NAME, "asked to panic");
    scene.expect_same_instance();
    prober.expect_unharmed("close_stdio");
    scene.ecosystem.stop();
}

/// A grandchild belongs to the daemon's process group, which ends when the daemon is stopped.
#[test]
fn a_grandchild_that_ignores_sigterm() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({}));
    let grandchild = spawn_grandchild(&mut scene);
    scene.expect_stops();
    assert!(
        process::is_gone(grandchild),
        "it outlived the daemon that is stopped"
    );
    scene.ecosystem.stop();
}

/// A grandchild doesn't outlive a killed daemon either, and the next instance starts only after its end.
#[test]
fn a_grandchild_of_a_daemon_that_is_killed() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({}));
    let (child, grandchild) = (scene.pid(), spawn_grandchild(&mut scene));
    process::signal(child, Signal::KILL);
    until(LIMIT, "another process answers", || {
        // Commands that the old process has are answered `crashed`.
        scene
            .guest
            .try_ask("pid", &json!([]))
            .is_ok_and(|pid| pid != child)
    });
    assert!(
        process::is_gone(grandchild),
        "it outlived the daemon that was killed"
    );
    scene.expect_replaced("SIGKILL");
    scene.ecosystem.stop();
}

#[track_caller]
fn spawn_grandchild(scene: &mut Scene) -> u32 {
    let pid = scene.guest.ask("spawn_grandchild", &json!([])).as_u64();
    let pid = u32::try_from(pid.expect("a number")).expect("a process id");
    // Only the new program ignores SIGTERM, so the test waits for it.
    until_some(LIMIT, "the grandchild runs its program", || {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "sleep").then_some(pid)
    })
}

/// The kernel enforces a bound on CPU time.
#[test]
fn a_loop_past_its_bound_of_cpu_time() {
    let settings = json!({"health_ms": 0, "bounds": {"cpu_s": 1}});
    dies_alone(&settings, "spin", &json!([true]), "CPU time");
}

/// Health checks are off, so nothing ends the hanging process before the stop does.
#[test]
fn stopping_one_that_hangs() {
    let mut scene = Scene::set(Mode::Subprocess, &json!({"health_ms": 0}));
    let child = scene.pid();
    scene.guest.send("stop_itself\n");
    until(LIMIT, "the child is stopped", || {
        process::state(child) == Some('T')
    });
    scene.expect_stops();
    assert!(process::is_gone(child));
    scene.ecosystem.stop();
}
