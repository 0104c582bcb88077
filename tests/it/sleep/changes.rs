//! Changes of a daemon that sleeps, and the end of its host.

use std::net::{Ipv4Addr, TcpListener};

use dae_tests::{Ecosystem, Guest};
use serde_json::json;

use super::{MODES, NAME, expect_state, install, on_demand};

/// Installs it, has it add 5, and brings it to sleep.
#[track_caller]
fn asleep_with_five(ecosystem: &Ecosystem, flags: &[&str]) -> Guest {
    let settings = json!({"start": "on-demand", "idle_s": 1});
    let mut guest = install(ecosystem, (NAME, "keeper"), flags, &settings);
    assert_eq!(guest.ask("add", &json!([5])), 5);
    ecosystem.until_state(NAME, "asleep");
    guest
}

#[test]
fn changes_reach_a_daemon_that_sleeps_and_leave_it_asleep() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = asleep_with_five(&ecosystem, flags);
        let other_mode = match flags.is_empty() {
            true => "isolate",
            false => "embed",
        };
        let set = ["config", NAME, "set", "settings.health_ms=900"];
        for words in [&["reload", NAME][..], &[other_mode, NAME], &set] {
            let _ = ecosystem.cli(words).ok();
            expect_state(&ecosystem, NAME, "asleep", 1);
        }
        assert_eq!(guest.ask("total", &json!([])), 5);
        let mode = ecosystem.status(NAME)["mode"].clone();
        let expected = match other_mode {
            "isolate" => "subprocess",
            _ => "in-process",
        };
        assert_eq!(mode, expected);
    }
}

#[test]
fn a_taken_port_is_refused_and_leaves_it_asleep_where_it_was() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = asleep_with_five(&ecosystem, flags);
        let port = ecosystem.status(NAME)["port"].clone();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let taken = other.local_addr().expect("an address").port();
        let set = ["config", NAME, "set", &format!("port={taken}")];
        for _ in 0..2 {
            let refused = ecosystem.cli(&set).code(1);
            assert!(refused.says(&[&taken.to_string()]), "{refused:?}");
            expect_state(&ecosystem, NAME, "asleep", 1);
            assert_eq!(ecosystem.status(NAME)["port"], port);
        }
        assert_eq!(guest.ask("total", &json!([])), 5);
        assert_eq!(ecosystem.status(NAME)["port"], port);
        ecosystem.until_state(NAME, "asleep");
        drop(other);
        let _ = ecosystem.cli(&set).ok();
        assert_eq!(ecosystem.status(NAME)["port"], taken);
        assert_eq!(ecosystem.guest(NAME).ask("total", &json!([])), 5);
    }
}

#[test]
fn a_start_and_a_restart_wake_it_and_so_do_settings_by_which_nothing_sleeps() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = asleep_with_five(&ecosystem, flags);
        let _ = ecosystem.cli(&["start", NAME]).ok();
        expect_state(&ecosystem, NAME, "ready", 2);
        ecosystem.until_state(NAME, "asleep");
        let _ = ecosystem.cli(&["restart", NAME]).ok();
        expect_state(&ecosystem, NAME, "ready", 3);
        assert_eq!(guest.ask("total", &json!([])), 5);
        ecosystem.until_state(NAME, "asleep");
        // Nothing sleeps any more once the settings say so.
        let set = [
            "config",
            NAME,
            "set",
            "settings.start=at-once",
            "settings.idle_s=0",
        ];
        let _ = ecosystem.cli(&set).ok();
        assert_eq!(ecosystem.status(NAME)["state"], "ready");
        assert_eq!(guest.ask("total", &json!([])), 5);
    }
}

#[test]
fn one_that_sleeps_is_stopped_and_uninstalled_like_any_other() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = asleep_with_five(&ecosystem, flags);
        let _ = ecosystem.cli(&["stop", NAME]).ok();
        guest.expect_closed();
        assert_eq!(ecosystem.status(NAME)["state"], "stopped");
        let _ = ecosystem.cli(&["start", NAME]).ok();
        let mut guest = ecosystem.guest(NAME);
        assert_eq!(guest.ask("total", &json!([])), 5);
        ecosystem.until_state(NAME, "asleep");
        let _ = ecosystem.cli(&["uninstall", NAME]).ok();
        guest.expect_closed();
        let _ = ecosystem.cli(&["status", NAME]).code(4);
    }
}

#[test]
fn a_new_file_is_tried_and_starts_with_the_next_command() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = on_demand(&ecosystem, flags);
        let file = ecosystem.plugin("recipe");
        let file = file.to_str().expect("UTF-8");
        let _ = ecosystem.cli(&["install", NAME, file, "--replace"]).ok();
        expect_state(&ecosystem, NAME, "asleep", 0);
        assert!(guest.ask("options", &json!([]))["increment"].is_u64());
        assert_eq!(guest.ask("increment", &json!([1]))[2], 1);
    }
}

#[test]
fn the_hosts_end_and_start_leave_it_asleep_with_its_state() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        drop(asleep_with_five(&ecosystem, flags));
        ecosystem.stop();
        ecosystem.wake(&[]);
        ecosystem.until_state(NAME, "asleep");
        assert_eq!(ecosystem.status("Dae")["libraries"]["loaded"], 0);
        ecosystem.kill();
        ecosystem.wake(&[]);
        ecosystem.until_state(NAME, "asleep");
        assert_eq!(ecosystem.guest(NAME).ask("total", &json!([])), 5);
    }
}

#[test]
fn a_host_may_end_while_it_wakes() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start();
        let config = json!({"start_ms": 1_000}).to_string();
        let flags = [flags, &["--config", &config]].concat();
        let settings = json!({"start": "on-demand"});
        let mut guest = install(&ecosystem, ("Probe", "probe"), &flags, &settings);
        guest.send("echo [1]\n");
        ecosystem.until_state("Probe", "starting");
        ecosystem.stop();
        ecosystem.wake(&[]);
        ecosystem.until_state("Probe", "asleep");
        assert_eq!(ecosystem.guest("Probe").ask("echo", &json!([1])), 1);
    }
}
