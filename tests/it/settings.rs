//! Settings at their limits: senseless values are refused with the member's name, and no number is too large.

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::json;

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

#[test]
fn what_makes_no_sense_is_refused_with_the_members_name() {
    let mut ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("misbehave");
    let mut control = ecosystem.control();
    for (settings, member) in [
        (json!({"panics_max": 0}), "panics_max"),
        (json!({"nice": 100}), "nice"),
        (json!({"env": {"A=B": "x"}}), "env"),
        (json!({"env": {"A": "x\u{0}"}}), "env.A"),
        (json!({"restart": {"burst_ms": -1}}), "restart.burst_ms"),
        (json!({"bounds": {"files_max": 0}}), "bounds.files_max"),
        (json!(5), "object"),
    ] {
        let request = json!({"name": "M", "file": file, "settings": settings});
        let fault = control
            .ask("install", &request)
            .expect_err("it makes no sense");
        assert!(fault.message.contains(member), "{settings}: {fault:?}");
    }
    ecosystem.stop();
    for (config, member) in [
        (json!({"guests_max": 0}), "guests_max"),
        (
            json!({"scan_ports_never": ["9000-8000"]}),
            "scan_ports_never[0]",
        ),
        (
            json!({"daemons": {"M": {"health_misses_max": 0}}}),
            "daemons.M: health_misses_max",
        ),
    ] {
        ecosystem.configure(&config);
        let refused = ecosystem.cli(&["run"]).code(1);
        assert!(refused.says(&[member]), "{config}: {refused:#?}");
    }
}

#[test]
fn no_time_is_too_long_to_compute_with() {
    let most = u64::MAX;
    let defaults = json!({
        "checkpoint_s": most, "rollback_window_ms": most, "health_ms": most, "preflight_ms": most, "after_ms": most,
        "restart": {
            "backoff_first_ms": most, "backoff_max_ms": most, "served_ms": most, "healthy_ms": most,
            "burst_ms": most, "slow_ms": most,
        },
    });
    let mut ecosystem = Ecosystem::start_configured(&json!({
        "command_ms": most, "instance_wait_ms": most, "half_line_ms": most, "start_ms": most,
        "stop_grace_ms": most, "drop_in_poll_ms": most, "scan_ms": most, "scan_ports_never": ["1-65535"],
        "defaults": defaults,
    }));
    let settings = json!({"bounds": {"cpu_s": most}, "on_panic": "restart"}).to_string();
    for (number, flags) in MODES.into_iter().enumerate() {
        let (counts, falls) = (format!("Recipe{number}"), format!("Misbehave{number}"));
        let mut counter = ecosystem.install(&counts, "recipe", flags);
        let flags = [flags, &["--settings", &settings]].concat();
        let mut guest = ecosystem.install(&falls, "misbehave", &flags);
        // Half a line, a wait and a command: each has a limit.
        guest.send("echo [");
        guest.send("1]\n");
        guest.expect("echo [1]");
        assert_eq!(counter.ask("increment", &json!([1]))[2], 1);
        let _ = ecosystem.cli(&["restart", &counts]).ok();
        assert_eq!(counter.ask("count", &json!([])), 1, "the state went over");
        assert_eq!(guest.ask_in_vain("panic", &json!([])).code, "crashed");
        until(LIMIT, "it waits for its next start", || {
            ecosystem.status(&falls)["state"] == "backoff"
        });
        let _ = ecosystem.cli(&["start", &falls]).ok();
        ecosystem.guest(&falls).expect_alive();
    }
    ecosystem.stop();
}
