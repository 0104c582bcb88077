//! Signals to a host, and signals that its parent has blocked or ignored.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use dae_tests::{Ecosystem, Guest, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::json;

/// Signals that end a host in order, whatever their usual meaning.
const ENDING: [Signal; 7] = [
    Signal::HUP,
    Signal::QUIT,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::XCPU,
    Signal::POWER,
    Signal::INT,
];

#[test]
fn a_signal_that_would_kill_ends_the_host_in_order_and_no_state_is_lost() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    let _ = ecosystem.install("Apart", "counter", &["--isolate"]);
    for (signal, count) in ENDING.into_iter().zip(1..) {
        for name in ["Counter", "Apart"] {
            ecosystem.until_state(name, "ready");
            let counted = ecosystem.guest(name).ask("increment", &json!([1]));
            assert_eq!(counted, count, "{name}, before {signal:?}");
        }
        ecosystem.signal(signal);
        if signal == Signal::HUP {
            // When a terminal closes, the kernel and the shell each send one.
            ecosystem.signal(signal);
        }
        assert_eq!(ecosystem.end(), 0, "{signal:?}: {}", ecosystem.stderr());
        ecosystem.wake(&[]);
    }
}

#[test]
fn a_signal_without_meaning_changes_nothing() {
    let mut ecosystem = Ecosystem::start();
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::CHILD] {
        ecosystem.signal(signal);
    }
    assert_eq!(ecosystem.names(), ["Dae"]);
    ecosystem.stop();
}

/// Starts a host through `env`, whose options set the signals that the host inherits as blocked or ignored.
fn started_by_env(ecosystem: &Ecosystem, options: &[&str]) -> program::Running {
    let ours = ecosystem.command();
    let mut command = Command::new("env");
    command
        .args(options)
        .arg(ours.get_program())
        .args(["run", "--home"])
        .arg(ecosystem.home())
        .stdin(Stdio::null());
    let running = program::Running::start(&mut command);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    running
}

#[test]
fn what_the_starter_has_blocked_or_ignored_keeps_no_host_from_its_work_or_its_end() {
    let ecosystem = Ecosystem::asleep();
    let options = ["--block-signal", "--ignore-signal=CHLD,TERM,HUP"];
    let mut host = started_by_env(&ecosystem, &options);
    // A host that was started with SIGHUP ignored, as by `nohup`, survives it.
    process::signal(host.pid(), Signal::HUP);
    let mut guest = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    let worker = guest.ask("pid", &json!([]));
    let started = guest.ask("spawn_grandchild", &json!([]));
    for process in [worker, started] {
        let blocked = process::status_line(process.as_u64().expect("a pid"), "SigBlk");
        assert_eq!(blocked.trim_start_matches('0'), "", "of process {process}");
    }
    // If SIGCHLD stayed ignored, the host could not find out how a process ended.
    let _ = ecosystem.cli(&["call", "Misbehave", "exit", "3"]);
    ecosystem.until_state("Misbehave", "ready");
    let status = ecosystem.status("Misbehave");
    let cause = status["last_end"]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("exited with code 3"), "{status}");
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
}

/// The host installs its signal handlers first, so it can be ended in order as soon as any part of its home exists.
#[test]
fn a_signal_during_the_start_ends_it_in_order() {
    for _ in 0..10 {
        let mut ecosystem = Ecosystem::asleep();
        let begun = ecosystem.home().join("logs");
        ecosystem.launch(&[]);
        while !begun.exists() {
            std::thread::yield_now();
        }
        ecosystem.signal(Signal::TERM);
        assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
        assert!(ecosystem.sockets().is_empty());
    }
}

#[test]
fn a_host_whose_standard_descriptors_are_closed_is_as_any_other() {
    let ecosystem = Ecosystem::asleep();
    let ours = ecosystem.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"])
        .arg(ours.get_program())
        .args(["run", "--home"])
        .arg(ecosystem.home());
    let mut host = program::Running::start(&mut command);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    let _ = ecosystem.install("Apart", "vectors", &["--isolate"]);
    let _ = ecosystem.install("Here", "vectors", &[]);
    // None of the host's own files has taken one of these three numbers.
    let descriptors = process::descriptors(host.pid());
    let is_ours = |number: &u32| {
        let target = descriptors.get(number);
        target.is_none_or(|target| target.ends_with("dev/null"))
    };
    assert!([0, 1, 2].iter().all(is_ours), "{descriptors:?}");
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
}

/// A host raises its own limit. Its subprocesses get the original one, since some programs can't use higher numbers.
#[test]
fn a_subprocess_and_what_daemons_start_have_the_soft_limit_of_descriptors_that_the_host_was_started_with()
 {
    let ecosystem = Ecosystem::asleep();
    let ours = ecosystem.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 500; exec \"$0\" \"$@\""])
        .arg(ours.get_program())
        .args(["run", "--home"])
        .arg(ecosystem.home())
        .stdin(Stdio::null());
    let mut host = program::Running::start(&mut command);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    let mut guest = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    let mut here = ecosystem.install("Here", "misbehave", &[]);
    let processes = [
        guest.ask("pid", &json!([])),
        guest.ask("spawn_grandchild", &json!([])),
        here.ask("spawn_grandchild", &json!([])),
    ];
    let processes = processes.map(|pid| {
        let pid = pid.as_u64().expect("a pid");
        u32::try_from(pid).expect("a pid")
    });
    for process in processes {
        assert_eq!(process::bound(process, "Max open files"), "500");
    }
    // The host itself uses as many as it needs.
    let port = ecosystem.port_of("Here");
    let guests: Vec<_> = (0..520).map(|_| Guest::connect(port)).collect();
    Guest::connect(port).expect_alive();
    drop(guests);
    // A process that an in-process daemon has started is ended by nothing else.
    process::signal(processes[2], Signal::KILL);
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
}

/// A limit on the size of files acts like a full disk: a write fails, and no process ends.
#[test]
fn a_file_that_may_not_grow_is_refused_and_ends_nobody() {
    let ecosystem = Ecosystem::asleep();
    let ours = ecosystem.command();
    let mut command = Command::new("sh");
    // The limit is in blocks of 512 bytes; every plugin is larger.
    command
        .args(["-c", "ulimit -f 400; exec \"$0\" \"$@\""])
        .arg(ours.get_program())
        .args(["run", "--home"])
        .arg(ecosystem.home())
        .stdin(Stdio::null());
    let mut host = program::Running::start(&mut command);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    let file = ecosystem.plugin("vectors");
    let file = file.to_str().expect("UTF-8");
    let refused = ecosystem.cli(&["install", "Vectors", file]).code(1);
    assert!(refused.says(&["too large"]), "{refused:?}");
    assert_eq!(ecosystem.names(), ["Dae"]);
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
    let left = dae_tests::files::entries(&ecosystem.home().join("store"));
    assert!(left.is_empty(), "{left:?}");
}

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

#[track_caller]
fn until_told(ecosystem: &Ecosystem, part: &str) {
    until(LIMIT, part, || ecosystem.stderr().contains(part));
}

/// A running command line and the file that it writes its errors to.
struct UnderWay {
    child: Child,
    stderr: PathBuf,
}

impl UnderWay {
    /// Starts an `install` of a daemon whose start never ends, and waits until the host runs that start.
    fn install(ecosystem: &Ecosystem, flags: &[&str]) -> Self {
        let file = ecosystem.plugin("lifecycle");
        let stderr = ecosystem.scratch().join("install.stderr");
        let mut command = ecosystem.command();
        command
            .args(["install", "Hangs"])
            .arg(file)
            .args(["--config", r#"{"start":"hang"}"#])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).expect("a file of our own"));
        let child = command.spawn().expect("the program can be run");
        until_told(ecosystem, "step: start");
        UnderWay { child, stderr }
    }

    /// Waits for its end. Returns its exit status and its error output.
    fn end(&mut self) -> (ExitStatus, String) {
        let status = program::ends_within(&mut self.child, LIMIT).expect("it ends");
        let said = fs::read_to_string(&self.stderr).expect("a file of our own");
        (status, said)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_host_that_ends_tells_who_waits_for_a_change_in_a_sentence() {
    for flags in MODES {
        let mut ecosystem = Ecosystem::start_configured(&json!({"start_ms": 600_000}));
        let mut install = UnderWay::install(&ecosystem, flags);
        ecosystem.signal(Signal::TERM);
        let (status, said) = install.end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("the host"), "{said}");
        assert!(
            !said.contains("task") && !said.contains("cancelled"),
            "{said}"
        );
        assert_eq!(ecosystem.end(), 0, "{}", ecosystem.stderr());
        ecosystem.wake(&[]);
        assert_eq!(
            ecosystem.names(),
            ["Dae"],
            "{flags:?}: nothing was installed"
        );
    }
}

#[test]
fn a_command_line_that_is_ended_says_what_becomes_of_its_change() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let ecosystem = Ecosystem::start_configured(&json!({"start_ms": 1000}));
        let mut install = UnderWay::install(&ecosystem, &[]);
        process::signal(install.child.id(), signal);
        let (status, said) = install.end();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("carries it through"), "{said}");
        // The start went on until its time limit.
        until_told(&ecosystem, "install was refused");
    }
}
