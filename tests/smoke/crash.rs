//! Daemons whose processes end: they are back, and each command has an answer.

use dae_tests::{Guest, Load, until_some};
use serde_json::{Value, json};

use crate::host::{Host, PATIENT};
use crate::program::{Program, System};

/// The number of times that the daemon's process is killed.
const KILLS: u64 = 20;

/// Returns settings that restart a daemon at once, without a limit on restarts.
fn never_tired() -> String {
    let restart = json!({
        "served_ms": 0, "healthy_ms": 0, "burst_max": 1_000_000, "slow_max": 1_000_000,
    });
    json!({ "restart": restart }).to_string()
}

#[test]
fn a_daemon_that_crashes_is_back_at_the_next_command() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let mut guest = host.install("Peer", "peer", &["--isolate"]);
    guest.send("echo_late [1, 3600000]\nabort []\n");
    for command in ["echo_late", "abort"] {
        let fault = guest.message().result().expect_err("its process has ended");
        assert_eq!((&*fault.code, &*fault.command), ("crashed", command));
        if program.system() == System::Windows {
            assert!(fault.message.contains("0xC0000409: abort"), "{fault:?}");
        }
    }
    assert_eq!(guest.ask("echo", &json!([2])), 2);
    let status = host.status("Peer");
    assert_eq!(
        (&status["generation"], &status["restarts"], &status["mode"]),
        (&json!(2), &json!(1), &json!("subprocess")),
        "{status}"
    );
    assert_eq!(status["last_end"]["generation"], 1, "{status}");
}

#[test]
fn twenty_kills_under_load_leave_no_command_without_an_answer() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let flags = ["--isolate", "--settings", &never_tired()];
    let mut killer = host.install("Peer", "peer", &flags);
    let load = Load::light(host.port("Peer"));
    let mut last = Value::Null;
    for _ in 0..KILLS {
        last = new_process(&mut killer, &last);
        end_process(program, &last);
    }
    new_process(&mut killer, &last);
    let seen = load.end();
    assert!(seen.crashed > 0, "no kill has hit a command: {seen:?}");
    let status = host.status("Peer");
    // Wine sometimes fails to make a process (error 1359). The next attempt then counts as a restart, too.
    let restarts = status["restarts"].as_u64();
    assert!(restarts >= Some(KILLS), "one restart a kill: {status}");
    assert_eq!(status["generation"], KILLS + 1, "{status}");
}

/// Waits until the daemon answers from another process than `last`, and returns its number.
fn new_process(guest: &mut Guest, last: &Value) -> Value {
    until_some(PATIENT, "the daemon is in a new process", || {
        let credential = guest.try_ask("dae", &json!([])).ok()?;
        let pid = credential["pid"].clone();
        (pid.is_u64() && pid != *last).then_some(pid)
    })
}

/// Ends a process by its number as the system sees it, as `taskkill` or `kill` does.
fn end_process(program: &'static Program, pid: &Value) {
    let mut command = match program.system() {
        System::Windows => {
            let mut command = program.windows_command("taskkill");
            command.args(["/F", "/PID"]);
            command
        }
        System::Linux => {
            let mut command = std::process::Command::new("kill");
            command.arg("-KILL");
            command
        }
    };
    let ended = command.arg(pid.to_string()).output();
    assert!(ended.is_ok_and(|output| output.status.success()), "{pid}");
}
