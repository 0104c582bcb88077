//! The processes in reserve: what comes of one is what a new process would be, and none is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Variables that are the host's, the daemon's, or nobody's.
const VARIABLES: [&str; 5] = ["GREETING", "PATH", "HOME", "CARGO_MANIFEST_DIR", "TZ"];

/// Lines of `/proc/PID/status` that a process has from its start or from its parent.
const STATUS_LINES: [&str; 6] = [
    "Umask",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "NoNewPrivs",
    "Seccomp",
];

/// Everything that the kernel tells of a process and that could differ between a new one and one from the reserve.
#[derive(Debug, PartialEq)]
struct Nature {
    limits: String,
    nice: i32,
    status: Vec<String>,
    descriptors: BTreeMap<String, usize>,
    directory: PathBuf,
    command: Vec<u8>,
    name: String,
    group: bool,
    of_inside: Vec<Value>,
}

impl Nature {
    fn of(guest: &mut Guest) -> Self {
        let pid = pid_of(guest);
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).expect("a process");
        let text = |file: &str| String::from_utf8(read(file)).expect("UTF-8");
        let mut descriptors = BTreeMap::new();
        for target in process::descriptors(pid).into_values() {
            let kind = target
                .to_string_lossy()
                .split('[')
                .next()
                .map(str::to_owned);
            *descriptors.entry(kind.unwrap_or_default()).or_default() += 1;
        }
        Nature {
            limits: text("limits"),
            nice: process::nice(pid),
            status: STATUS_LINES
                .map(|name| process::status_line(pid.into(), name))
                .to_vec(),
            descriptors,
            directory: std::fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"),
            command: read("cmdline"),
            name: text("comm")
                .trim_end()
                .replace("New", "")
                .replace("Old", ""),
            group: rustix::process::getpgid(Some(process::pid(pid))).ok()
                == Some(process::pid(pid)),
            of_inside: VARIABLES
                .map(|name| guest.ask("variable", &json!([name])))
                .to_vec(),
        }
    }
}

#[track_caller]
fn pid_of(guest: &mut Guest) -> u32 {
    let pid = guest.ask("pid", &json!([])).as_u64();
    u32::try_from(pid.expect("a number")).expect("a process id")
}

/// Installs a daemon in a subprocess with those settings.
#[track_caller]
fn isolated(ecosystem: &Ecosystem, name: &str, settings: &Value) -> Guest {
    let flags = ["--isolate", "--settings", &settings.to_string()];
    ecosystem.install(name, "misbehave", &flags)
}

/// Waits for the process in reserve, and returns its id.
#[track_caller]
fn in_reserve(ecosystem: &Ecosystem) -> u32 {
    until_some(LIMIT, "a process in reserve", || {
        let shown = ecosystem.status("Dae")["reserve"]["pids"][0].as_u64();
        let pid = u32::try_from(shown?).ok()?;
        (process::reserve_of(ecosystem.pid()) == [pid]).then_some(pid)
    })
}

fn shown(ecosystem: &Ecosystem) -> Value {
    ecosystem.status("Dae")["reserve"].clone()
}

#[test]
fn a_process_from_the_reserve_is_what_a_new_one_is() {
    let ecosystem = Ecosystem::start();
    assert_eq!(
        shown(&ecosystem),
        json!({"pids": [], "max": 1, "memory_bytes": 0}),
        "before the first subprocess there is none"
    );
    let settings = json!({
        "env": {"GREETING": "ahoj", "PATH": "/usr/bin:/bin", "TZ": "Europe/Prague"},
        "bounds": {"files_max": 64, "cpu_s": 1000, "core_bytes": 0},
        "nice": 7,
    });
    let new = Nature::of(&mut isolated(&ecosystem, "New", &settings));
    let waiting = in_reserve(&ecosystem);
    let memory = shown(&ecosystem)["memory_bytes"].as_u64();
    assert!(
        (100_000..20_000_000).contains(&memory.expect("a size")),
        "{memory:?}"
    );
    let mut guest = isolated(&ecosystem, "Old", &settings);
    assert_eq!(pid_of(&mut guest), waiting, "it comes from the reserve");
    assert_eq!(Nature::of(&mut guest), new);
    assert_eq!(new.of_inside[0], "ahoj", "{new:?}");
    assert_eq!(new.of_inside[3], Value::Null, "the host's own: {new:?}");
    assert_ne!(in_reserve(&ecosystem), waiting, "it is filled again");
}

#[test]
fn a_crash_a_reload_and_a_start_take_from_the_reserve() {
    let ecosystem = Ecosystem::start();
    let mut guest = isolated(&ecosystem, "Old", &json!({}));
    for change in ["kill", "reload", "restart", "stop and start"] {
        let waiting = in_reserve(&ecosystem);
        match change {
            "kill" => {
                process::signal(pid_of(&mut guest), Signal::KILL);
                ecosystem.until_state("Old", "ready");
            }
            "stop and start" => {
                let _ = ecosystem.cli(&["stop", "Old"]).ok();
                let _ = ecosystem.cli(&["start", "Old"]).ok();
                guest = ecosystem.guest("Old");
            }
            _ => drop(ecosystem.cli(&[change, "Old"]).ok()),
        }
        until(LIMIT, change, || {
            guest
                .try_ask("pid", &json!([]))
                .is_ok_and(|pid| pid == waiting)
        });
    }
}

#[test]
fn a_daemon_with_a_variable_that_is_read_early_gets_a_new_process() {
    let ecosystem = Ecosystem::start();
    let _guest = isolated(&ecosystem, "Old", &json!({}));
    let waiting = in_reserve(&ecosystem);
    let settings = json!({"env": {"RUST_MIN_STACK": "4194304", "GREETING": "ahoj"}});
    let mut guest = isolated(&ecosystem, "New", &settings);
    let pid = pid_of(&mut guest);
    assert_ne!(pid, waiting);
    let environment = process::environment(pid);
    assert_eq!(environment["RUST_MIN_STACK"], "4194304");
    assert_eq!(environment["GREETING"], "ahoj");
    assert_eq!(in_reserve(&ecosystem), waiting, "it still waits");
}

/// The address space of a process counts from its beginning, and each of its threads takes 64 MiB of it.
#[test]
fn a_daemon_with_a_bound_on_its_memory_gets_a_new_process() {
    let ecosystem = Ecosystem::start();
    let _guest = isolated(&ecosystem, "Old", &json!({}));
    let waiting = in_reserve(&ecosystem);
    let settings = json!({"bounds": {"memory_bytes": 150_000_000}});
    let mut guest = isolated(&ecosystem, "New", &settings);
    assert_ne!(pid_of(&mut guest), waiting);
    assert_eq!(
        process::bound(pid_of(&mut guest), "Max address space"),
        "150000000"
    );
    assert_eq!(in_reserve(&ecosystem), waiting, "it still waits");
}

#[test]
fn a_process_that_ends_in_reserve_is_not_given_away() {
    let ecosystem = Ecosystem::start();
    let mut guest = isolated(&ecosystem, "Old", &json!({}));
    let waiting = in_reserve(&ecosystem);
    process::signal(waiting, Signal::KILL);
    until(LIMIT, "it is gone, and not shown", || {
        process::is_gone(waiting) && shown(&ecosystem)["pids"] == json!([])
    });
    until(LIMIT, "it is told", || {
        let told = "a process in reserve was killed by signal 9 (SIGKILL";
        ecosystem.stderr().contains(told)
    });
    process::signal(pid_of(&mut guest), Signal::KILL);
    ecosystem.until_state("Old", "ready");
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    assert_ne!(in_reserve(&ecosystem), waiting);
}

#[test]
fn the_reserve_is_as_large_as_the_setting_says() {
    let ecosystem = Ecosystem::start_configured(&json!({"reserve_processes": 0}));
    let mut guest = isolated(&ecosystem, "Old", &json!({}));
    process::signal(pid_of(&mut guest), Signal::KILL);
    ecosystem.until_state("Old", "ready");
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    let none = json!({"pids": [], "max": 0, "memory_bytes": 0});
    assert_eq!(shown(&ecosystem), none);
    for count in [3_usize, 1, 0] {
        ecosystem.configure(&json!({"reserve_processes": count}));
        let _ = ecosystem.cli(&["config", "reload"]).ok();
        until(LIMIT, "as many as it says", || {
            let pids = shown(&ecosystem)["pids"].as_array().map(Vec::len);
            (pids, process::reserve_of(ecosystem.pid()).len()) == (Some(count), count)
        });
        assert_eq!(shown(&ecosystem)["max"], count);
    }
    assert!(process::workers_of(ecosystem.pid()).len() == 1);
}

#[test]
fn the_reserve_ends_with_its_host() {
    for is_killed in [false, true] {
        let mut ecosystem = Ecosystem::start();
        let _guest = isolated(&ecosystem, "Old", &json!({}));
        let (waiting, host) = (in_reserve(&ecosystem), ecosystem.pid());
        match is_killed {
            true => ecosystem.kill(),
            false => ecosystem.stop(),
        }
        until(LIMIT, "nothing is left", || {
            process::is_gone(waiting) && process::workers_of(host).is_empty()
        });
        let records = ecosystem.home().join("run/workers");
        let left = || std::fs::read_dir(&records).map_or(0, Iterator::count);
        if !is_killed {
            assert_eq!(left(), 0, "no record is left");
        }
    }
}
