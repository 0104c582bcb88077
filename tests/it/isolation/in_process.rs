//! Faults in-process that the host survives, each with its cost.

use std::time::Duration;

use dae_tests::{Guest, LIMIT, process, until};
use rustix::process::{Resource, Signal};
use serde_json::{Value, json};

use super::scene::{MODES, Mode, NAME, Scene};

/// The length of `return_much`'s reply (bytes).
const MUCH_BYTES: usize = 100 << 20;

/// The longest wait for that reply: a debug build passes it on at a few 10 MB/s.
const MUCH_MAX: Duration = Duration::from_secs(60);

/// Returns settings with frequent health checks, so that a test need not wait for long.
fn watched() -> Value {
    json!({"health_ms": 250, "health_misses_max": 3})
}

/// The host enforces a command's time limit, whatever the daemon does.
#[test]
fn sleeping_for_ever_where_it_may_is_a_timeout() {
    for mode in MODES {
        let mut scene = Scene::set_with(mode, &json!({"command_ms": 500}));
        let prober = scene.prober();
        for command in ["sleep_async", "sleep_blocking"] {
            let fault = scene.guest.ask_in_vain(command, &json!([]));
            assert_eq!(
                (fault.code.as_str(), fault.command.as_str()),
                ("timeout", command)
            );
            assert_eq!(scene.guest.ask("echo", &json!([1])), 1);
        }
        scene.expect_same_instance();
        prober.expect_unharmed(&format!("{mode:?} sleeps"));
        scene.expect_stops();
        scene.ecosystem.stop();
    }
}

/// Tests a handler that holds a thread of the host, which nothing can end. The host names the handler and the remedy.
/// The handler's own guest waits for ever but no other does, even with more such handlers than processors.
fn holds_threads(command: &str, many: usize) {
    let mut scene = Scene::set(Mode::InProcess, &watched());
    // These calls mark the command as quick.
    for _ in 0..10 {
        assert_eq!(scene.guest.ask(command, &json!([false])), Value::Null);
    }
    let prober = scene.prober();
    let mut stuck: Vec<Guest> = (0..many).map(|_| scene.ecosystem.guest(NAME)).collect();
    stuck
        .iter_mut()
        .for_each(|guest| guest.send(format!("{command} [true]\n")));
    let status = scene.ecosystem.until_state(NAME, "degraded");
    let reason = status["reason"].as_str().unwrap_or_default();
    for part in [command, "isolate"] {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
    // The daemon still serves its old and new guests.
    assert_eq!(scene.other.ask("echo", &json!([1])), 1);
    assert_eq!(scene.ecosystem.guest(NAME).ask("echo", &json!([2])), 2);
    scene.expect_same_instance();
    prober.expect_unharmed(&format!("in-process {many} x {command}"));
    scene.ecosystem.stop();
}

#[test]
fn an_endless_loop_is_named_and_takes_a_thread() {
    holds_threads("spin", 1);
}

/// Each poll of a future is watched like a handler.
#[test]
fn an_async_handler_that_never_yields_is_named_and_takes_a_thread() {
    holds_threads("spin_async", 2);
}

/// A spawned task can't be named, but costs no more than its thread either.
#[test]
fn a_spawned_task_that_never_yields_takes_a_thread() {
    let mut scene = Scene::set(Mode::InProcess, &watched());
    let prober = scene.prober();
    for _ in 0..2 {
        assert_eq!(scene.guest.ask("spin_spawned", &json!([])), Value::Null);
    }
    for number in 0..10 {
        assert_eq!(
            scene.ecosystem.guest(NAME).ask("echo", &json!([number])),
            number
        );
    }
    prober.expect_unharmed("in-process 2 x spin_spawned");
    scene.expect_stops();
    scene.ecosystem.stop();
}

#[test]
fn a_handler_that_sleeps_for_ever_is_named_and_takes_a_thread() {
    holds_threads("sleep_here", 1);
}

#[test]
fn many_handlers_that_never_return_take_as_many_threads() {
    holds_threads("sleep_here", 8);
}

/// Another thread serves the daemon's connection to itself.
#[test]
fn calling_itself_works_where_there_is_a_thread_left() {
    let mut scene = Scene::set(Mode::InProcess, &watched());
    let arguments = json!([scene.port]);
    for _ in 0..10 {
        assert_eq!(scene.guest.ask("call_itself", &arguments), "echo [1]");
    }
    assert_eq!(
        scene.guest.ask("call_itself_blocking", &arguments),
        "echo [1]"
    );
    scene.ecosystem.stop();
    let mut scene = Scene::set(Mode::Subprocess, &watched());
    let arguments = json!([scene.port]);
    assert_eq!(
        scene.guest.ask("call_itself_blocking", &arguments),
        "echo [1]"
    );
    scene.ecosystem.stop();
}

/// Without the spare threads, so many calls at once would hold all threads of the host.
#[test]
fn many_that_call_themselves_at_once_are_all_answered() {
    let mut scene = Scene::set(Mode::InProcess, &watched());
    let line = format!("call_itself [{}]\n", scene.port);
    for _ in 0..10 {
        assert_eq!(
            scene.guest.ask("call_itself", &json!([scene.port])),
            "echo [1]"
        );
    }
    let prober = scene.prober();
    let mut guests: Vec<Guest> = (0..8).map(|_| scene.ecosystem.guest(NAME)).collect();
    for _ in 0..20 {
        guests.iter_mut().for_each(|guest| guest.send(&line));
        guests
            .iter_mut()
            .for_each(|guest| guest.expect(r#"call_itself ["echo [1]"]"#));
    }
    prober.expect_unharmed("8 x call_itself");
    scene.ecosystem.stop();
}

/// Meanwhile no new guest of any daemon gets in; the present guests are served.
#[test]
fn opening_files_without_end_keeps_newcomers_out_of_the_whole_host() {
    let mut scene = Scene::set(Mode::InProcess, &json!({}));
    process::set_bound(scene.ecosystem.pid(), Resource::Nofile, 256);
    // A guest that has said nothing yet would be closed to make room.
    assert_eq!(scene.other.ask("echo", &json!([0])), 0);
    let prober = scene.prober();
    let opened = scene.guest.ask("open_files", &json!([])).as_u64();
    assert!(
        opened.is_some_and(|opened| (1..256).contains(&opened)),
        "{opened:?}"
    );
    // The kernel accepts the connection; the host can't.
    let mut newcomer = Guest::connect(scene.port);
    newcomer.send("echo [1]\n");
    assert_eq!(scene.other.ask("echo", &json!([2])), 2);
    assert_eq!(scene.guest.ask("close_files", &json!([])), Value::Null);
    newcomer.expect("echo [1]");
    scene.expect_same_instance();
    prober.expect_unharmed("in-process open_files");
    scene.ecosystem.stop();
}

/// The daemon's output is the host's own, and goes to its reader.
#[test]
fn printing_without_end_goes_where_the_hosts_output_goes() {
    let mut scene = Scene::set_with(Mode::InProcess, &json!({"command_ms": 500}));
    let prober = scene.prober();
    let fault = scene.guest.ask_in_vain("print", &json!([]));
    assert_eq!(fault.code, "timeout");
    assert_eq!(scene.guest.ask("echo", &json!([1])), 1);
    scene.expect_same_instance();
    prober.expect_unharmed("in-process print");
    scene.expect_stops();
    scene.ecosystem.stop();
}

#[test]
fn closing_the_hosts_standard_streams_ends_nothing() {
    let mut scene = Scene::set(Mode::InProcess, &json!({}));
    let prober = scene.prober();
    assert_eq!(scene.guest.ask("close_stdio", &json!([])), Value::Null);
    assert_eq!(scene.ecosystem.guest(NAME).ask("echo", &json!([1])), 1);
    scene.expect_same_instance();
    prober.expect_unharmed("in-process close_stdio");
    scene.ecosystem.stop();
}

/// The grandchild belongs to the host's process group and outlives its daemon: in-process, the host can't tell which
/// daemon started it. It inherits none of the host's descriptors, so it holds neither ports nor the home.
#[test]
fn a_grandchild_is_nobodys_and_holds_nothing() {
    let mut scene = Scene::set(Mode::InProcess, &json!({}));
    let pid = scene
        .guest
        .ask("spawn_grandchild", &json!([]))
        .as_u64()
        .expect("a number");
    let pid = u32::try_from(pid).expect("a process id");
    scene.expect_stops();
    assert!(
        !process::is_gone(pid),
        "somebody has cleaned up; then this can say so"
    );
    let _ = scene.ecosystem.cli(&["start", NAME]).ok();
    assert_eq!(Guest::connect(scene.port).ask("echo", &json!([1])), 1);
    scene.ecosystem.stop();
    scene.ecosystem.wake(&[]);
    scene.ecosystem.until_state(NAME, "ready");
    scene.ecosystem.stop();
    process::signal(pid, Signal::KILL);
}

/// The garbage reaches every connection of the host, even those of other daemons. The host still serves new
/// connections.
#[test]
fn garbage_to_every_descriptor_reaches_every_guest() {
    let mut scene = Scene::set(Mode::InProcess, &json!({}));
    let garbage: &[u8] = b"garbage, as a debug print to a wrong number might be\n";
    scene
        .guest
        .send(format!("write_everywhere {}\n", json!([garbage])));
    assert!(scene.other.line().starts_with("garbage"));
    for name in [NAME, "Witness"] {
        assert_eq!(scene.ecosystem.guest(name).ask("echo", &json!([1])), 1);
    }
    scene.expect_same_instance();
    let _ = scene.ecosystem.cli(&["logs"]).ok();
    scene.ecosystem.stop();
    scene.ecosystem.wake(&[]);
    scene.ecosystem.until_state(NAME, "ready");
}

/// The reply slows down no other daemon, and its memory is freed.
#[test]
fn a_reply_of_100_mib() {
    for mode in MODES {
        let mut scene = Scene::set(mode, &json!({}));
        let prober = scene.prober();
        let before = process::resident_bytes(scene.ecosystem.pid());
        scene.guest.send("return_much\n");
        let line = scene.guest.line_within(MUCH_MAX).expect("a reply");
        assert_eq!(
            line.len(),
            MUCH_BYTES + r#"return_much [""]"#.len(),
            "{mode:?}"
        );
        assert_eq!(scene.guest.ask("echo", &json!([1])), 1);
        until(LIMIT, "the host gives the memory back", || {
            process::resident_bytes(scene.ecosystem.pid()) < before + (64 << 20)
        });
        scene.expect_same_instance();
        prober.expect_unharmed(&format!("{mode:?} return_much"));
        scene.ecosystem.stop();
    }
}
