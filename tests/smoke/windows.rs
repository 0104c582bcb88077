//! Cases that only Windows has: files that others have open, drives that go, names of devices.
//!
//! Pipes of other users are not among these tests, because Wine has one user. Unit tests of the host stand in for them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use dae_tests::program::Running;
use dae_tests::{LIMIT, until};
use serde_json::json;

use crate::host::{Host, make_private};
use crate::program::Program;

/// A program that holds a file open. `.ci/run windows` builds it from `hold.c`.
const HOLDER: &str = "hold.exe";

#[test]
fn a_file_that_another_program_holds_for_a_second_is_waited_for() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let host = Host::start(program);
    let file = host.scratch("counter.dll");
    host.put("counter", &file, "first");
    let Some(mut holder) = hold(program, &file, 1000) else {
        return;
    };
    let _ = host.cli(&["install", "Counter", &host.path(&file)]).ok();
    assert_eq!(holder.end(LIMIT), Some(0));
    assert_eq!(host.call(&["Counter", "increment"]), "1");
}

#[test]
fn a_file_that_another_program_keeps_is_told() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let host = Host::start(program);
    let file = host.scratch("counter.dll");
    host.put("counter", &file, "first");
    let Some(_holder) = hold(program, &file, 60_000) else {
        return;
    };
    let text = host.refused(&["install", "Counter", &host.path(&file)], 1);
    let advice = "another program has it open (a virus scanner does so for a moment): close it there, and try again";
    assert!(text.contains(advice), "{text}");
    assert_eq!(host.names(), ["Dae"]);
}

/// Has another process hold a file open without sharing it. Returns once it does so, or `None` if there is no such program.
fn hold(program: &'static Program, file: &Path, ms: u32) -> Option<Running> {
    let holder = program.plugin_folder().join(HOLDER);
    if !holder.is_file() {
        let text = format!("{} was not built", holder.display());
        assert!(env::var_os("CI").is_none(), "{text}");
        eprintln!("SKIPPED: {text}");
        return None;
    }
    let mut command = program.windows_command(&program.path(&holder));
    command.args([&program.path(file), &ms.to_string()]);
    let mut holder = Running::start(&mut command);
    assert_eq!(holder.line(LIMIT).trim_end(), "held");
    Some(holder)
}

/// A drive of the Wine prefix that leads to a directory of a test.
struct Drive {
    letter: char,
    link: PathBuf,
    target: PathBuf,
}

impl Drive {
    /// Makes the drive. Each test takes another letter.
    fn make(letter: char, target: PathBuf) -> Self {
        let prefix = env::var_os("WINEPREFIX").expect("WINEPREFIX names a prefix of its own");
        let link = PathBuf::from(prefix).join(format!("dosdevices/{letter}:"));
        make_private(&target);
        let drive = Drive {
            letter,
            link,
            target,
        };
        drive.disconnect();
        drive.connect();
        drive
    }

    fn connect(&self) {
        symlink(&self.target, &self.link).expect("the prefix is ours");
    }

    fn disconnect(&self) {
        // A run that was killed may have left it.
        let _ = fs::remove_file(&self.link);
    }

    fn path(&self, name: &str) -> String {
        format!("{}:\\{name}", self.letter.to_ascii_uppercase())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.disconnect();
    }
}

#[test]
fn a_plugin_whose_drive_is_gone_runs_on_and_the_reason_is_told() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let host = Host::start(program);
    let drive = Drive::make('q', host.scratch("drive"));
    host.put(
        "counter",
        &host.scratch("drive").join("counter.dll"),
        "first",
    );
    let file = drive.path("counter.dll");
    let _ = host.cli(&["install", "Counter", &file]).ok();
    assert_eq!(host.call(&["Counter", "increment"]), "1");
    drive.disconnect();
    let text = host.refused(&["reload", "Counter"], 1);
    assert!(
        text.contains("the drive or the share that it lies on is gone"),
        "{text}"
    );
    let text = host.refused(&["install", "Other", &file], 1);
    assert!(
        text.contains("is gone or not ready: connect it again"),
        "{text}"
    );
    let _ = host.cli(&["restart", "Counter"]).ok();
    assert_eq!(host.call(&["Counter", "increment"]), "2");
    drive.connect();
    let _ = host.cli(&["reload", "Counter"]).ok();
    assert_eq!(host.call(&["Counter", "count"]), "2");
}

#[test]
fn a_home_whose_drive_goes_and_comes_back_has_lost_nothing() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let mut host = Host::asleep(program);
    let target = host.home().to_owned();
    let drive = Drive::make('r', target);
    host.name_home(&drive.path(""));
    host.wake();
    let mut guest = host.install("Counter", "counter", &[]);
    assert_eq!(guest.ask("increment", &json!([3])), 3);
    drive.disconnect();
    assert_eq!(guest.ask("increment", &json!([])), 4, "the daemon runs on");
    let text = host.refused(&["restart", "Counter"], 1);
    assert!(text.contains("connect it again"), "{text}");
    assert_eq!(guest.ask("count", &json!([])), 4);
    drive.connect();
    let _ = host.cli(&["restart", "Counter"]).ok();
    assert_eq!(guest.ask("count", &json!([])), 4);
    drop(guest);
    host.shut_down();
    host.wake();
    host.until_state("Counter", "ready");
    assert_eq!(host.call(&["Counter", "count"]), "4");
    // The drive goes before the host does.
    host.shut_down();
}

#[test]
fn a_name_of_a_device_is_refused() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let host = Host::start(program);
    let file = host.path(&program.plugin("sample"));
    for name in ["NUL", "com1", "Aux"] {
        let text = host.cli(&["install", name, &file]).code(1).stderr;
        assert!(
            text.contains("is the name of a device on Windows"),
            "{text}"
        );
    }
    let text = host.cli(&["check", r"\\.\pipe\nobody"]).code(1).stderr;
    assert!(text.contains("pipe"), "{text}");
    let text = host.cli(&["check", "NUL"]).code(1).stderr;
    assert!(text.contains("is a pipe, a socket or a device"), "{text}");
}

/// Where names of files ignore the case of letters, both would have one state and one log.
#[test]
fn a_daemon_whose_name_differs_from_anothers_in_case_alone_is_refused() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let mut host = Host::start(program);
    let file = host.path(&program.plugin("counter"));
    let _ = host.install("counter", "counter", &[]);
    let refused = |host: &Host, name: &str| {
        let text = host.refused(&["install", name, &file], 1);
        assert!(!text.contains("--replace"), "it wouldn't help: {text}");
        text
    };
    let text = refused(&host, "COUNTER");
    for part in ["share its files with counter", "uninstall counter first"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = refused(&host, "dae");
    assert!(text.contains("share its files with Dae"), "{text}");
    // The plugin's own name is Counter.
    host.put("counter", &host.home().join("plugins/counter.dll"), "");
    host.until_written("share its files with counter");
    assert_eq!(host.names(), ["Dae", "counter"]);
    let _ = host.cli(&["uninstall", "counter"]).ok();
    host.until_state("Counter", "ready");
    host.shut_down();
    let text = refused(&host, "couNTER");
    assert!(text.contains("share its files with Counter"), "{text}");
}

#[test]
fn a_home_is_the_same_in_each_spelling_of_its_path() {
    let Some(program) = Program::asked_on_windows() else {
        return;
    };
    let host = Host::start(program);
    let home = host.path(host.home());
    for spelling in [
        home.to_uppercase(),
        format!("{home}\\"),
        home.replace('\\', "/"),
    ] {
        let list = program.run(&["--home", &spelling, "list", "--json"]).ok();
        assert_eq!(list.json()[0]["name"], "Dae", "{spelling}");
    }
    until(LIMIT, "the host still runs", || host.names() == ["Dae"]);
}
