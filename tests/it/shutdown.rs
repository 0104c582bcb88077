//! The orderly end of a host: every state is saved, the service manager grants the time, and a daemon that hangs costs
//! no other its state.

use std::fs;
use std::os::unix::net::UnixDatagram;

use dae_tests::{Ecosystem, Guest, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The number of in-process daemons, all of one file.
const HERE: u64 = 200;
/// The number of subprocesses.
const APART: u64 = 8;

/// Flags of `install` for each mode.
const PLACES: [&[&str]; 2] = [&[], &["--isolate"]];

/// Returns a home with that many counters. No host runs.
fn home_of_counters() -> Ecosystem {
    let mut ecosystem = Ecosystem::start();
    drop(ecosystem.install("Here", "counter", &[]));
    drop(ecosystem.install("Apart", "counter", &["--isolate"]));
    ecosystem.stop();
    let path = ecosystem.home().join("registry.json");
    let mut registry = registry(&ecosystem);
    for (name, count) in [("Here", HERE), ("Apart", APART)] {
        let mut entry = registry["daemons"][name].take();
        entry.as_object_mut().expect("an entry").remove("port");
        let daemons = registry["daemons"].as_object_mut().expect("daemons");
        daemons.remove(name);
        let all = (0..count).map(|number| (format!("{name}-{number}"), entry.clone()));
        daemons.extend(all);
    }
    fs::write(path, registry.to_string()).expect("no host runs");
    ecosystem
}

fn registry(ecosystem: &Ecosystem) -> Value {
    let text = fs::read(ecosystem.home().join("registry.json")).expect("a registry");
    serde_json::from_slice(&text).expect("JSON")
}

fn kept_count(ecosystem: &Ecosystem, name: &str) -> Option<u64> {
    let path = ecosystem.home().join("states").join(format!("{name}.json"));
    let kept: Value = serde_json::from_slice(&fs::read(path).ok()?).expect("JSON");
    kept["state"]["data"]["count"].as_u64()
}

/// Returns the host's log line with that text.
#[track_caller]
fn logged(ecosystem: &Ecosystem, text: &str) -> String {
    let stderr = ecosystem.stderr();
    let line = stderr.lines().find(|line| line.contains(text));
    line.unwrap_or_else(|| panic!("the host logged nothing about {text:?}"))
        .to_owned()
}

#[test]
fn every_state_of_many_daemons_is_saved() {
    let mut ecosystem = home_of_counters();
    ecosystem.wake(&[]);
    let mut ports = Vec::new();
    until(LIMIT, "all daemons are ready", || {
        let list = ecosystem.cli(&["list", "--json"]).ok().json();
        let all = list.as_array().expect("a list").iter();
        let ready = all.filter(|one| one["state"] == "ready" && one["name"] != "Dae");
        ports = ready
            .map(|one| {
                (
                    one["name"].as_str().expect("a name").to_owned(),
                    one["port"].as_u64(),
                )
            })
            .collect();
        ports.len() as u64 == HERE + APART
    });
    for ((name, port), count) in ports.iter().zip(1_u64..) {
        let port = port.and_then(|port| u16::try_from(port).ok());
        let mut guest = Guest::connect(port.unwrap_or_else(|| panic!("{name} has no port")));
        assert_eq!(guest.ask("increment", &json!([count])), count);
    }
    ecosystem.stop();
    for ((name, _), count) in ports.iter().zip(1_u64..) {
        assert_eq!(kept_count(&ecosystem, name), Some(count), "{name}");
    }
    assert!(!ecosystem.stderr().contains("not saved"));
}

/// Runs the host under a service manager that reads all its messages, ends it once it is ready, and returns them.
fn messages_of_a_stop(ecosystem: &Ecosystem) -> Vec<String> {
    const LAST: &str = "the test has seen the host end";
    let path = ecosystem.scratch().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket of the test's");
    let limited = socket.set_read_timeout(Some(LIMIT));
    limited.expect("a socket option");
    let next = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("a word within the limit");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = ecosystem.command();
    let mut host = program::Running::start(command.arg("run").env("NOTIFY_SOCKET", &path));
    assert_eq!(next(), "READY=1\n");
    std::thread::scope(|scope| {
        let messages = scope.spawn(|| {
            let all = std::iter::repeat_with(next);
            all.take_while(|message| message != LAST).collect()
        });
        process::signal(host.pid(), Signal::TERM);
        assert_eq!(host.end(LIMIT), Some(0));
        let sender = UnixDatagram::unbound().expect("a socket of the test's");
        sender.send_to(LAST.as_bytes(), &path).expect("it is read");
        messages.join().expect("messages")
    })
}

/// Starts a host with the daemon `Hangs`, whose `stop` never ends.
fn with_a_hang(grace_ms: u32, flags: &[&str]) -> Ecosystem {
    let ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": grace_ms}));
    let file = ecosystem.plugin("lifecycle").to_owned();
    let file = file.to_str().expect("UTF-8");
    let hangs = ["install", "Hangs", file, "--config", r#"{"stop":"block"}"#];
    let _ = ecosystem.cli(&[&hangs, flags].concat()).ok();
    ecosystem
}

#[test]
fn the_owner_sees_what_a_shutdown_waits_for() {
    for flags in PLACES {
        let mut ecosystem = with_a_hang(3_000, flags);
        ecosystem.signal(Signal::TERM);
        until(LIMIT, "the stop is under way", || {
            ecosystem.stderr().contains("step: stop")
        });
        assert_eq!(ecosystem.names(), ["Dae", "Hangs"], "{flags:?}");
        let refused = ecosystem.cli(&["restart", "Hangs"]).code(1);
        assert!(refused.says(&["the host is ending"]), "{refused:?}");
        assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
    }
}

/// systemd does so by default (`KillMode=control-group`).
#[test]
fn a_signal_to_every_process_of_the_host_loses_no_state() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Counter", "counter", &["--isolate"]);
        assert_eq!(guest.ask("increment", &json!([5])), 5);
        let worker = ecosystem.status("Counter")["pid"].as_u64();
        let worker = worker.and_then(|pid| u32::try_from(pid).ok());
        process::signal(worker.expect("it has a process"), signal);
        // It serves on until its host ends it.
        assert_eq!(guest.ask("increment", &json!([1])), 6, "{signal:?}");
        ecosystem.signal(signal);
        assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
        ecosystem.wake(&[]);
        let count = ecosystem.guest("Counter").ask("count", &json!([]));
        assert_eq!(count, 6, "{signal:?}: {}", ecosystem.stderr());
    }
}

#[test]
fn a_service_manager_gives_the_time_that_saving_takes() {
    let mut ecosystem = Ecosystem::start();
    let mut names = Vec::new();
    for (place, flags) in PLACES.iter().enumerate() {
        for save_ms in [700, 1400, 4000] {
            let config = json!({ "save_ms": save_ms }).to_string();
            let flags = [*flags, &["--config", &config]].concat();
            let name = format!("Slow-{place}-{save_ms}");
            let mut guest = ecosystem.install(&name, "recipe", &flags);
            guest.ask("increment", &json!([0]));
            names.push(name);
        }
    }
    ecosystem.stop();
    fs::remove_dir_all(ecosystem.home().join("states")).expect("no host runs");
    let messages = messages_of_a_stop(&ecosystem);
    assert_eq!(messages[0], "STOPPING=1\n");
    // The longest `save` goes on after the others, and the host asks for more time meanwhile.
    let while_saving = messages
        .iter()
        .filter(|message| message.contains("-4000 (its `save`)"));
    assert!(while_saving.clone().count() >= 2, "{messages:#?}");
    for message in while_saving {
        let us = message
            .lines()
            .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
        let us: u64 = us.and_then(|us| us.parse().ok()).expect(message);
        assert!(us >= 15_000_000, "less than the host's limit: {message}");
    }
    for name in names {
        assert!(kept_count(&ecosystem, &name).is_some(), "{name}");
    }
}

#[test]
fn one_that_hangs_while_it_saves_costs_no_other_its_state() {
    for flags in PLACES {
        let mut ecosystem = Ecosystem::start_configured(&json!({ "stop_grace_ms": 1000 }));
        let config = json!({ "save_ms": 3_600_000 }).to_string();
        let hangs = [flags, &["--config", &config]].concat();
        let mut guests = vec![ecosystem.install("Hangs", "recipe", &hangs)];
        for name in ["Before", "Later", "Zulu"] {
            guests.push(ecosystem.install(name, "recipe", flags));
        }
        for guest in &mut guests {
            guest.ask("increment", &json!([0]));
        }
        ecosystem.stop();
        for name in ["Before", "Later", "Zulu"] {
            assert_eq!(kept_count(&ecosystem, name), Some(1), "{name}");
        }
        assert_eq!(kept_count(&ecosystem, "Hangs"), None);
        let line = logged(&ecosystem, "state was not saved, and");
        assert!(line.contains("count=1") && line.contains("Hangs"), "{line}");
        let line = logged(
            &ecosystem,
            "its state was not saved: its `save` took longer",
        );
        assert!(line.contains("Hangs"), "{line}");
        let line = logged(&ecosystem, "the host is ending");
        assert!(line.contains("Hangs (its `save`)"), "{line}");
    }
}

#[test]
fn a_state_that_the_disk_does_not_take_is_named_at_the_end_and_the_others_are_written() {
    let mut ecosystem = Ecosystem::start();
    let mut guests: Vec<Guest> = ["First", "Second"]
        .map(|name| ecosystem.install(name, "counter", &[]))
        .into();
    for guest in &mut guests {
        guest.ask("increment", &json!([]));
    }
    // A directory in the file's place stands for a disk that accepts no writes.
    fs::create_dir_all(ecosystem.home().join("states/First.json/full")).expect("our own home");
    ecosystem.stop();
    assert_eq!(kept_count(&ecosystem, "Second"), Some(1));
    let line = logged(&ecosystem, "state was not saved, and");
    assert!(line.contains("First") && !line.contains("Second"), "{line}");
}

#[test]
fn the_command_ends_a_host_in_order_and_returns_after_its_end() {
    let mut ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Counter", "counter", &["--isolate"]);
    assert_eq!(guest.ask("increment", &json!([7])), 7);
    let pid = ecosystem.pid();
    let ended = ecosystem.cli(&["shutdown", "--json"]).ok().json();
    assert_eq!(ended["pid"], pid);
    assert_eq!(ended["home"], json!(ecosystem.home()));
    assert!(ended["ms"].is_u64(), "{ended}");
    assert_eq!(kept_count(&ecosystem, "Counter"), Some(7));
    let second = ecosystem.cli(&["shutdown"]).code(7);
    assert!(second.says(&["no host runs"]), "{second:?}");
    assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
    let line = logged(&ecosystem, "the host ends, as its owner asked");
    assert!(line.contains("INFO"), "{line}");
    ecosystem.wake(&[]);
    let count = ecosystem.guest("Counter").ask("count", &json!([]));
    assert_eq!(count, 7, "the next host has the home");
    let said = ecosystem.cli(&["shutdown"]).ok().stdout;
    let expected = format!("the host with pid {} has ended (", ecosystem.pid());
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
}

#[test]
fn the_command_waits_for_a_daemon_that_hangs_and_may_be_repeated() {
    for flags in PLACES {
        let mut ecosystem = with_a_hang(2_000, flags);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| ecosystem.cli(&["shutdown"]));
            until(LIMIT, "the stop is under way", || {
                ecosystem.stderr().contains("step: stop")
            });
            // It joins the wait, and doesn't cut the end short as a second signal does.
            let second = ecosystem.cli(&["shutdown"]).ok();
            assert!(second.stdout.contains("has ended"), "{flags:?}: {second:?}");
            let first = first.join().expect("a command that ends").ok();
            assert!(first.stdout.contains("has ended"), "{flags:?}: {first:?}");
        });
        assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
    }
}

/// A service manager sends a signal to a service whose own command to stop takes long.
#[test]
fn the_first_signal_after_the_command_cuts_nothing_short_and_the_second_does() {
    for (is_repeated, expected) in [(false, 0), (true, 130)] {
        let mut ecosystem = with_a_hang(2_000, &["--isolate"]);
        let mut guest = ecosystem.install("Counter", "counter", &[]);
        assert_eq!(guest.ask("increment", &json!([3])), 3);
        std::thread::scope(|scope| {
            let command = scope.spawn(|| ecosystem.cli(&["shutdown"]));
            until(LIMIT, "the stop is under way", || {
                ecosystem.stderr().contains("step: stop")
            });
            ecosystem.signal(Signal::TERM);
            if is_repeated {
                // Signals that come close together count as one.
                until(LIMIT, "its end at once", || {
                    ecosystem.signal(Signal::TERM);
                    process::is_gone(ecosystem.pid())
                });
            }
            let _ = command.join().expect("a command that ends");
        });
        assert_eq!(ecosystem.end(), expected, "{}", ecosystem.stderr());
        if !is_repeated {
            assert_eq!(kept_count(&ecosystem, "Counter"), Some(3));
        }
    }
}

#[test]
fn the_command_finds_no_host_where_none_has_run() {
    let ecosystem = Ecosystem::asleep();
    let refused = ecosystem.cli(&["shutdown"]).code(7);
    assert!(refused.says(&["no host runs"]), "{refused:?}");
    let _ = ecosystem.cli(&["shutdown", "Counter"]).code(2);
}
