//! A plugin with a tokio runtime of its own: `tokio::spawn`, timers, sockets and `spawn_blocking` work as usual.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Ecosystem, Guest, LIMIT, program, until};
use serde_json::json;

/// The longest build of `dae-plugin-api` with its dependencies on two busy cores, with a margin.
const BUILD_MAX: Duration = Duration::from_secs(600);

fn async_io() -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start();
    let guest = ecosystem.install("AsyncIo", "async_io", &[]);
    (ecosystem, guest)
}

#[test]
fn tasks_timers_and_blocking_threads() {
    let (ecosystem, mut guest) = async_io();
    assert_eq!(guest.ask("spawned", &json!([100])), json!(5050));
    assert_eq!(guest.ask("pause", &json!([20])), json!(20));
    assert_eq!(guest.ask("block", &json!([20])), json!(20));
    guest.ask("spawn_and_log", &json!(["from a task of tokio's"]));
    ecosystem.until_logged("AsyncIo", "from a task of tokio's");
}

#[test]
fn other_daemons_can_be_asked_from_any_thread() {
    for flags in [&[][..], &["--isolate"]] {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("AsyncIo", "async_io", flags);
        let _other = ecosystem.install("Other", "async_io", &[]);
        for ms in [0, 30] {
            let asked = guest.ask("ask_from_everywhere", &json!(["Other", ms]));
            assert_eq!(asked, json!([ms, ms, ms]), "{flags:?}");
        }
    }
}

#[test]
fn background_work_goes_on_by_its_own_clock() {
    let (_ecosystem, mut guest) = async_io();
    until(LIMIT, "the interval has come round ten times", || {
        guest.ask("ticks", &json!([])).as_u64() >= Some(10)
    });
}

#[test]
fn sockets_of_the_plugins_own() {
    let (_ecosystem, mut guest) = async_io();
    assert_eq!(
        guest.ask("loop_back", &json!(["through itself"])),
        "through itself"
    );

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the plugin connects");
        let mut line = String::new();
        BufReader::new(&stream)
            .read_line(&mut line)
            .expect("the plugin sends a line");
        stream
            .write_all(format!("heard {line}").as_bytes())
            .expect("the plugin reads");
    });
    assert_eq!(
        guest.ask("exchange", &json!([port, "hello"])),
        "heard hello"
    );
    server.join().expect("the server of this test");
}

#[test]
fn a_daemon_calls_another_one_as_its_guest() {
    let (ecosystem, mut guest) = async_io();
    let _guest = ecosystem.install("Vectors", "vectors", &[]);
    let port = ecosystem.port_of("Vectors");
    assert_eq!(
        guest.ask("exchange", &json!([port, "echo [\"from a daemon\"]"])),
        "echo [\"from a daemon\"]"
    );
}

#[test]
fn many_wait_at_once_on_one_thread() {
    let (_ecosystem, mut guest) = async_io();
    // All of these are pending when the last command is answered.
    for i in 0..100 {
        guest.send(format!("pause#{i} [3600000]\n"));
    }
    guest.send("pause#last [1]\n");
    guest.expect("pause#last [1]");
}

#[test]
fn it_stops_and_starts_again_with_its_runtime() {
    let (mut ecosystem, mut guest) = async_io();
    guest.send("pause#long [3600000]\nspawned#now [3]\n");
    guest.expect("spawned#now [6]");
    drop(guest);
    for _ in 0..3 {
        let _ = ecosystem.cli(&["restart", "AsyncIo"]).ok();
        assert_eq!(
            ecosystem.guest("AsyncIo").ask("spawned", &json!([10])),
            json!(55)
        );
    }
    ecosystem.stop();
}

#[test]
fn a_daemon_with_tokio_runs_in_a_test_host() {
    // The workspace leaves the feature out; see `dae_tests::artefacts`.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["test", "--package", "dae-plugin-api"])
        .args(["--features", "testing,tokio", "--test", "testing_tokio"])
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", target_directory());
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    assert!(output.stdout.contains("ok. 2 passed"), "{output:#?}");
}
