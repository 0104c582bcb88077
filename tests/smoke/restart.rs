//! Ends and starts of daemons and of the host: what was installed is back, with its state.

use serde_json::json;

use crate::host::Host;
use crate::program::Program;

#[test]
fn a_state_outlives_reload_stop_and_start_and_each_mode() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let mut guest = host.install("Counter", "counter", &[]);
    let mut count = 0;
    for change in [
        &["reload", "Counter"][..],
        &["isolate", "Counter"],
        &["restart", "Counter"],
        &["embed", "Counter"],
        &["restart", "Counter"],
    ] {
        count += 1;
        assert_eq!(guest.ask("increment", &json!([])), count);
        let _ = host.cli(change).ok();
        assert_eq!(guest.ask("count", &json!([])), count, "after {change:?}");
    }
    let _ = host.cli(&["stop", "Counter"]).ok();
    guest.expect_closed();
    let _ = host.cli(&["call", "Counter", "count"]).code(3);
    let _ = host.cli(&["start", "Counter"]).ok();
    assert_eq!(host.call(&["Counter", "count"]), count.to_string());
}

#[test]
fn everything_is_back_after_a_restart_of_the_host() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::start(program);
    let mut counter = host.install("Counter", "counter", &["--isolate"]);
    let _ = host.install("Sample", "sample", &["--port", "4123"]);
    assert_eq!(counter.ask("increment", &json!([7])), 7);
    let (names, port) = (host.names(), host.port("Counter"));
    host.shut_down();
    counter.expect_closed();
    host.wake();
    host.until_state("Counter", "ready");
    host.until_state("Sample", "ready");
    assert_eq!(host.names(), names);
    assert_eq!((host.port("Counter"), host.port("Sample")), (port, 4123));
    assert_eq!(host.call(&["Counter", "count"]), "7");
    assert_eq!(host.status("Counter")["mode"], "subprocess");
}

#[test]
fn a_host_that_was_killed_takes_its_workers_along_and_starts_again() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut host = Host::start(program);
    let mut isolated = host.install("Peer", "peer", &["--isolate"]);
    let _ = host.install("Counter", "counter", &[]);
    host.call(&["Counter", "increment", "3"]);
    let port = host.port("Peer");
    host.kill();
    isolated.expect_closed();
    let _ = host.cli(&["list"]).code(7);
    host.wake();
    host.until_state("Peer", "ready");
    assert_eq!(host.port("Peer"), port);
    assert_eq!(host.guest("Peer").ask("echo", &json!(["x"])), "x");
    host.until_state("Counter", "ready");
}
