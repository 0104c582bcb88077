//! Two ecosystems in one process: each watches its own threads.

use std::thread::available_parallelism;
use std::time::Duration;

use dae_host::Dae;
use dae_tests::{Artefacts, Guest, LIMIT, until};
use serde_json::json;
use tokio::runtime::Runtime;

use super::start;

/// The number of other ecosystems that end beside the one that keeps running.
const ENDS: usize = 5;
const GRACE: Duration = Duration::from_millis(300);
/// The time between two commands: slightly longer than the interval at which blocked threads are looked for.
const BETWEEN: Duration = Duration::from_millis(60);

/// Tests that handlers which block all threads of one ecosystem are detected and relieved, although other ecosystems
/// end.
pub(super) fn stopping_one_of_two(runtime: &Runtime) {
    let config = json!({
        "stop_grace_ms": 300,
        "defaults": {"preflight": false, "health_ms": 100, "health_misses_max": 2},
    });
    let homes = [(); ENDS + 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let mut homes = homes.iter();
    let mut next = || runtime.block_on(start(homes.next().expect("a home").path(), &config));
    let one = next();
    let port = install(runtime, &one);
    let mut guest = Guest::connect(port);
    // The command first proves to be quick, so that it may run on a guest's thread.
    for _ in 0..10 {
        guest.ask("sleep_here", &json!([false]));
    }
    for _ in 0..ENDS {
        let other = next();
        install(runtime, &other);
        let ending = runtime.spawn(async move { other.shutdown(GRACE).await });
        // Each command wakes the watch for a moment, which then sleeps until the next one. The end may come at any such
        // time.
        while !ending.is_finished() {
            guest.ask("echo", &json!([0]));
            std::thread::sleep(BETWEEN);
        }
    }
    let beside = next();
    install(runtime, &beside);
    hold_all_threads(port);
    until_answered(&mut guest);
    until_told(&one);
    runtime.block_on(beside.shutdown(GRACE));
    until_answered(&mut guest);
    until_answered(&mut Guest::connect(port));
    runtime.block_on(one.shutdown(GRACE));
}

fn install(runtime: &Runtime, dae: &Dae) -> u16 {
    let plugin = Artefacts::of_tests().plugin("misbehave");
    let installed = runtime.block_on(dae.install("Misbehave", plugin));
    let port = installed.expect("it starts").port;
    port.expect("it has a port")
}

fn hold_all_threads(port: u16) {
    let count = available_parallelism().map_or(1, usize::from);
    let mut guests: Vec<Guest> = (0..count).map(|_| Guest::connect(port)).collect();
    guests.iter_mut().for_each(Guest::expect_alive);
    for guest in &mut guests {
        guest.send("sleep_here [true]\n");
    }
}

#[track_caller]
fn until_answered(guest: &mut Guest) {
    // Without another thread this takes forever.
    guest.send("echo [7]\n");
    let line = guest.line_within(LIMIT);
    assert_eq!(
        line.as_deref(),
        Some("echo [7]"),
        "no thread is left to answer it"
    );
}

#[track_caller]
fn until_told(dae: &Dae) {
    until(LIMIT, "the status tells of the stuck command", || {
        let status = dae.status("Misbehave").expect("it is installed");
        status.state == "degraded" && status.reason.contains("sleep_here")
    });
}
