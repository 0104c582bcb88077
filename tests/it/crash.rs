//! Crashes: `kill -9` of a daemon's process and of the host, under load and at any moment.
//!
//! The requirements are the same each time. A daemon's end closes no connection and loses no command: each command is
//! answered once, in order, by a reply or by `crashed`. A host's end leaves no process behind, and its next start
//! brings everything back. No processes, descriptors or memory accumulate.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dae_tests::program::ends_within;
use dae_tests::{Ecosystem, Guest, LIMIT, Load, Message, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The number of times that the daemon is killed under load. A kill and its restart take 10 to 30 ms with a debug host.
const KILLS: u64 = 1_000;

/// The kills before the host's memory and descriptors are first counted: by then every buffer and thread exists.
const KILLS_WARM: u64 = 100;

/// The most that the host's memory may grow over all the kills (bytes). The log's buffers and the allocator's slack
/// stay below it; a leak of 100 bytes per kill and connection would not.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// The number of times that the host is killed.
const HOST_KILLS: u32 = 100;

/// The latest moment of a host's life at which it is killed. A debug host has started everything after some 200 ms.
const HOST_LIFE_MAX: Duration = Duration::from_millis(400);

/// The longest time that a subprocess may outlive its host.
const ORPHAN_MAX: Duration = Duration::from_secs(2);

/// The number of rounds in which two hosts start at once.
const RACES: u32 = 20;

/// Returns settings that restart a daemon at once, without a limit on restarts.
fn never_tired() -> String {
    let restart = json!({
        "served_ms": 0, "healthy_ms": 0, "burst_max": 1_000_000, "slow_max": 1_000_000,
    });
    json!({ "restart": restart }).to_string()
}

/// Installs the fixture as a subprocess that is restarted without limit.
fn isolated(ecosystem: &Ecosystem, name: &str) -> Guest {
    let settings = never_tired();
    ecosystem.install(name, "probe", &["--isolate", "--settings", &settings])
}

/// Returns the process id that a daemon reports.
fn pid_of(guest: &mut Guest) -> u32 {
    let credential = guest.ask("dae", &json!([]));
    let pid = credential["pid"].as_u64().expect("a pid");
    u32::try_from(pid).expect("a pid")
}

#[test]
fn a_killed_daemon_keeps_its_guests_and_is_back_at_the_next_command() {
    let ecosystem = Ecosystem::start();
    let mut first = isolated(&ecosystem, "Probe");
    let killed = pid_of(&mut first);
    let mut guests: Vec<Guest> = (0..50).map(|_| ecosystem.guest("Probe")).collect();
    for guest in &mut guests {
        guest.send("slow [3600000]\nslow#tagged [3600000]\necho#now [1]\n");
    }
    // This reply shows that the daemon has received the two commands before it.
    guests
        .iter_mut()
        .for_each(|guest| guest.expect("echo#now [1]"));
    process::signal(killed, Signal::KILL);
    for guest in &mut guests {
        (0..2).for_each(|_| expect_lost(&guest.message()));
        // This is the very next command; the test waits for nothing in between.
        assert_eq!(guest.ask("echo", &json!([2])), 2);
        assert_ne!(pid_of(guest), killed);
    }
    let status = ecosystem.status("Probe");
    assert_eq!(
        (&status["generation"], &status["restarts"]),
        (&json!(2), &json!(1)),
        "{status}"
    );
    let cause = status["last_end"]["cause"].as_str().expect("a cause");
    assert!(cause.contains("signal 9"), "{cause}");
    assert_eq!(status["last_end"]["generation"], 1);
    assert_eq!(
        ecosystem
            .logged("Probe")
            .iter()
            .filter(|line| line.contains("panicked"))
            .count(),
        0
    );
}

/// Kills the daemon's current process that many times, each time as soon as it answers.
fn kill_repeatedly(guest: &mut Guest, times: u64) {
    let mut last = 0;
    for _ in 0..times {
        last = until_some(LIMIT, "the daemon is in a new process", || {
            let pid = pid_of(guest);
            (pid != last).then_some(pid)
        });
        process::signal(last, Signal::KILL);
    }
    until(LIMIT, "the last successor answers", || {
        pid_of(guest) != last
    });
}

/// Asserts that the message answers a `slow` whose process was killed while it ran.
#[track_caller]
fn expect_lost(message: &Message) {
    let fault = message.clone().result().expect_err("it was lost");
    let (code, command) = (fault.code.as_str(), fault.command.as_str());
    assert_eq!((code, command), ("crashed", "slow"), "{fault:?}");
    assert!(fault.message.contains("signal 9"), "{fault:?}");
}

#[test]
fn many_kills_under_load_lose_nothing_and_leave_nothing() {
    let ecosystem = Ecosystem::start();
    let mut killer = isolated(&ecosystem, "Probe");
    let (host, load) = (ecosystem.pid(), Load::on(ecosystem.port_of("Probe")));
    kill_repeatedly(&mut killer, KILLS_WARM);
    until(LIMIT, "a process in reserve", || {
        process::reserve_of(host).len() == 1
    });
    let before = Possessions::of(host);
    kill_repeatedly(&mut killer, KILLS - KILLS_WARM);
    nothing_is_left(host, before);
    let seen = load.end();
    assert!(seen.crashed > 0, "no kill has hit a command: {seen:?}");
    let status = ecosystem.status("Probe");
    assert_eq!(status["restarts"], KILLS, "one restart a kill: {status}");
    assert_eq!(status["generation"], KILLS + 1);
}

/// The resources of a process that could accumulate.
struct Possessions {
    descriptors: usize,
    resident_bytes: u64,
}

impl Possessions {
    fn of(process: u32) -> Self {
        Possessions {
            descriptors: process::descriptors(process).len(),
            resident_bytes: process::resident_bytes(process),
        }
    }
}

/// Asserts that the host has the process of one daemon and one in reserve, no more descriptors and little more memory than before.
fn nothing_is_left(host: u32, before: Possessions) {
    until(LIMIT, "two children are left", || {
        (
            process::children(host).len(),
            process::reserve_of(host).len(),
        ) == (2, 1)
    });
    until(LIMIT, "the descriptors of the dead are closed", || {
        process::descriptors(host).len() <= before.descriptors
    });
    let now = process::resident_bytes(host);
    let grown = now.saturating_sub(before.resident_bytes);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "the host has grown by {grown} bytes to {now}"
    );
}

/// Returns the daemons of the registry on disk.
#[track_caller]
fn registered(home: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(home.join("registry.json")).expect("a registry");
    let registry: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("the registry is broken ({error}): {text}"));
    let daemons = registry["daemons"].as_object().expect("daemons, by name");
    daemons.keys().cloned().collect()
}

/// Random moments, the same in each run (xorshift, 64 bits).
struct Moments(u64);

impl Moments {
    fn next(&mut self, max: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        max.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[test]
fn a_host_killed_at_any_moment_leaves_no_orphan_and_comes_back_whole() {
    const NAMES: [&str; 3] = ["One", "Three", "Two"];
    let mut ecosystem = Ecosystem::start();
    for name in NAMES {
        let _guest = isolated(&ecosystem, name);
    }
    let ports = NAMES.map(|name| ecosystem.port_of(name));
    ecosystem.kill();
    let mut moments = Moments(0x0DAE);
    let mut with_children = 0;
    for round in 0..HOST_KILLS {
        let life = moments.next(HOST_LIFE_MAX);
        let when = format!("round {round}, killed after {life:?}");
        let (host, had_children) = live_and_be_killed(&mut ecosystem, life);
        with_children += u32::from(had_children);
        until(
            ORPHAN_MAX,
            &format!("{when}: no child outlives its host"),
            || process::workers_of(host).is_empty(),
        );
        assert_eq!(registered(&ecosystem.home()), NAMES, "{when}");
    }
    assert!(
        with_children > HOST_KILLS / 4,
        "only {with_children} of {HOST_KILLS} hosts had children when they were killed"
    );
    ecosystem.wake(&[]);
    for (name, port) in NAMES.into_iter().zip(ports) {
        expect_back(&ecosystem, name, port);
    }
    let host = ecosystem.pid();
    assert_eq!(process::daemons_of(host).len(), NAMES.len());
    ecosystem.stop();
    let left = process::workers_of(host);
    assert!(
        left.is_empty(),
        "an orderly end leaves nothing either: {left:?}"
    );
}

/// Asserts that the daemon is as it was before the host was killed.
#[track_caller]
fn expect_back(ecosystem: &Ecosystem, name: &str, port: u16) {
    let status = ecosystem.until_state(name, "ready");
    assert_eq!(status["port"], port, "{status}");
    assert_eq!(status["mode"], "subprocess", "{status}");
    assert_eq!(ecosystem.guest(name).ask("echo", &json!([name])), name);
}

/// Starts a host, makes it write its registry again and again, and kills it after `life`. Returns its process id and
/// whether it had subprocesses at that moment.
fn live_and_be_killed(ecosystem: &mut Ecosystem, life: Duration) -> (u32, bool) {
    ecosystem.launch(&[]);
    let host = ecosystem.pid();
    let is_over = AtomicBool::new(false);
    let had_children = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // This fails while the host does not listen yet, and once it is killed.
                let _ = ecosystem.cli(&["restart", "Two"]);
            }
        });
        // The kill comes after a fixed time, not after an event.
        thread::sleep(life);
        let had_children = !process::workers_of(host).is_empty();
        process::kill_group(host);
        is_over.store(true, Ordering::Relaxed);
        had_children
    });
    ecosystem.kill();
    (host, had_children)
}

#[test]
fn of_two_hosts_started_at_once_exactly_one_runs() {
    let ecosystem = Ecosystem::asleep();
    for round in 0..RACES {
        let start = || {
            let mut command = ecosystem.command();
            command
                .args(["run", "--quiet"])
                .stderr(std::process::Stdio::null());
            command.spawn().expect("the host can be run")
        };
        let mut hosts = [start(), start()];
        let loser = until_some(LIMIT, "one of the two gives up", || {
            let mut ended = hosts
                .iter_mut()
                .map(|host| host.try_wait().expect("our child"));
            ended.position(|status| status.is_some())
        });
        let status = hosts[loser].wait().expect("our child");
        assert_eq!(
            status.code(),
            Some(6),
            "round {round}: the loser says that the home is held"
        );
        let winner = &mut hosts[1 - loser];
        until(LIMIT, "the other one answers", || {
            ecosystem.cli(&["list"]).status == 0
        });
        let list = ecosystem.cli(&["list", "--json"]).ok().json();
        assert_eq!(list[0]["pid"], winner.id(), "round {round}");
        process::signal(winner.id(), Signal::TERM);
        let end = ends_within(winner, LIMIT).expect("the winner ends on the signal");
        assert_eq!(end.code(), Some(0), "round {round}");
    }
}
