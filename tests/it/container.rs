//! A host in a container: as its first process, beside a first process that reaps no orphans, and with few threads.
//!
//! These tests need the right to make a process namespace or to become another user. Without it they test nothing.

use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use dae_tests::files::entries;
use dae_tests::{Ecosystem, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::json;

const NAMESPACE: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// Returns whether this test may make a process namespace.
fn may_unshare() -> bool {
    let mut command = Command::new("unshare");
    let tried = command
        .args(NAMESPACE)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Starts a host in a namespace whose first process is a shell script. In the script, `$0` is the host's program and
/// `$1` its home.
fn in_namespace(ecosystem: &Ecosystem, script: &str) -> program::Running {
    let ours = ecosystem.command();
    let mut command = Command::new("unshare");
    command
        .args(NAMESPACE)
        .args(["sh", "-c", script])
        .arg(ours.get_program())
        .arg(ecosystem.home())
        .stdin(Stdio::null());
    let running = program::Running::start(&mut command);
    until(LIMIT, "the host answers", || {
        ecosystem.cli(&["list"]).status == 0
    });
    running
}

/// Asserts that a stopped subprocess counts as gone together with the processes that it has started, even if nothing
/// reaps them: the host logs no failure to kill it.
#[track_caller]
fn stops_at_once(ecosystem: &Ecosystem) {
    let mut guest = ecosystem.install("Misbehave", "misbehave", &["--isolate"]);
    for command in ["restart", "restart", "stop"] {
        let _ = guest.ask("spawn_grandchild", &json!([]));
        let _ = ecosystem.cli(&[command, "Misbehave"]).ok();
    }
    let log = ecosystem.cli(&["logs", "Misbehave"]).ok();
    assert!(!log.stdout.contains("can't be killed"), "{log:?}");
}

#[test]
fn a_host_that_is_the_first_process_reaps_orphans_and_takes_signals() {
    if !may_unshare() {
        return;
    }
    let ecosystem = Ecosystem::asleep();
    let mut outside = in_namespace(&ecosystem, "exec \"$0\" run --home \"$1\"");
    let first = process::children(outside.pid())[0];
    stops_at_once(&ecosystem);
    until(LIMIT, "no orphan waits to be reaped", || {
        let children = process::children(first);
        children
            .iter()
            .all(|child| process::state(*child) != Some('Z'))
    });
    process::signal(first, Signal::TERM);
    assert_eq!(outside.end(LIMIT), Some(0));
    assert!(ecosystem.sockets().is_empty(), "it has ended in order");
}

#[test]
fn orphans_that_nobody_reaps_hold_up_no_stop() {
    if !may_unshare() {
        return;
    }
    let ecosystem = Ecosystem::asleep();
    let _outside = in_namespace(&ecosystem, "\"$0\" run --home \"$1\" & exec sleep 600");
    stops_at_once(&ecosystem);
}

/// A user with no other processes: the limit on threads counts all threads of a user.
const USER: u32 = 54_321;

/// Returns a command that runs the host's program as [`USER`] with that limit on threads, and gives that user the home.
/// Returns `None` where the test can't become that user.
fn as_user(ecosystem: &Ecosystem, threads_max: u64) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let (home, id) = (ecosystem.home(), Some(USER));
    let outer = home.parent().expect("it lies in a directory");
    for path in entries(&home).iter().chain([&home]) {
        chown(path, id, id).expect("a change of owner");
    }
    let opened =
        std::fs::set_permissions(outer, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    opened.expect("a directory of our own");
    let ours = ecosystem.command();
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={USER}"),
            &format!("--regid={USER}"),
            "--clear-groups",
            "prlimit",
        ])
        .arg(format!("--nproc={threads_max}"))
        .arg(ours.get_program())
        .env("DAE_HOME", &home)
        .stdin(Stdio::null());
    let can_run = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), "--clear-groups"])
        .arg(ours.get_program())
        .arg("--version")
        .output();
    can_run
        .is_ok_and(|ended| ended.status.success())
        .then_some(command)
}

#[test]
fn a_host_that_may_have_too_few_threads_says_so_and_does_not_start() {
    for threads_max in [1, 2, 3, 5, 8] {
        let ecosystem = Ecosystem::asleep();
        let Some(mut command) = as_user(&ecosystem, threads_max) else {
            return;
        };
        let told = program::run(command.arg("run"), LIMIT).code(1);
        assert!(told.says(&["no more threads"]), "{threads_max}: {told:?}");
        assert!(!told.says(&["panicked"]), "{threads_max}: {told:?}");
        assert!(ecosystem.sockets().is_empty());
    }
}

/// Limits that process: it can't start another thread once [`USER`] has that many threads.
fn bound_threads(process: u32, max: u64) {
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}")])
        .args(["--clear-groups", "prlimit"])
        .args([format!("--pid={process}"), format!("--nproc={max}:1000")]);
    let _ = program::run(&mut command, LIMIT).ok();
}

/// Asserts that requests that need no thread succeed, and that all others are answered.
fn without_threads(cli: &impl Fn(&[&str]) -> program::Output, sample: &str) {
    for (arguments, is_done) in [
        (&["call", "Vectors", "echo", "1"][..], true),
        (&["list"], true),
        (&["call", "Vectors", "block", "1"], false),
        (&["install", "Sample", sample], false),
        (&["install", "Sample", sample, "--isolate"], false),
        (&["reload", "Vectors"], false),
    ] {
        let told = cli(arguments);
        assert!(!is_done || told.status == 0, "{arguments:?}: {told:?}");
        assert!(!told.says(&["panicked"]), "{arguments:?}: {told:?}");
    }
}

#[test]
fn a_running_host_without_another_thread_answers_and_has_lost_nothing_after() {
    let ecosystem = Ecosystem::asleep();
    let Some(mut command) = as_user(&ecosystem, 1_000) else {
        return;
    };
    let mut host = program::Running::start(command.arg("run"));
    // The owner's own command lines are not limited.
    let cli = |arguments: &[&str]| {
        let mut command = as_user(&ecosystem, 1_000).expect("as before");
        program::run(command.args(arguments), LIMIT * 3)
    };
    until(LIMIT, "it answers", || cli(&["list"]).status == 0);
    let directory = ecosystem.scratch();
    chown(&directory, Some(USER), Some(USER)).expect("a change of owner");
    let file = |library: &str| {
        let copy = directory.join(library);
        std::fs::copy(ecosystem.plugin(library), &copy).expect("a copy");
        chown(&copy, Some(USER), Some(USER)).expect("a change of owner");
        copy.to_str().expect("UTF-8").to_owned()
    };
    let (vectors, sample) = (file("vectors"), file("sample"));
    let _ = cli(&["install", "Vectors", &vectors]).ok();
    bound_threads(host.pid(), 1);
    without_threads(&cli, &sample);
    bound_threads(host.pid(), 1_000);
    let _ = cli(&["install", "Sample", &sample, "--isolate", "--replace"]).ok();
    let _ = cli(&["call", "Vectors", "block", "1"]).ok();
    let log = cli(&["logs", "-n", "1000"]).ok();
    assert!(!log.stdout.contains("panicked"), "{log:?}");
    process::signal(host.pid(), Signal::TERM);
    assert_eq!(host.end(LIMIT), Some(0));
}
