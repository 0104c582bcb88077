//! A home while its host runs: deleted files are made again, each command reaches the home's own host, and a host
//! leaves files of others alone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use dae_tests::files::entries;
use dae_tests::{Ecosystem, LIMIT, process, program, until};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn what_is_swept_away_is_made_anew_and_nobody_else_gets_in_meanwhile() {
    let mut ecosystem = Ecosystem::start();
    let home = ecosystem.home();
    let (socket, lock) = (home.join("run/control.sock"), home.join("lock"));
    for gone in [vec![&socket], vec![&lock], vec![&lock, &socket]] {
        gone.iter()
            .for_each(|path| fs::remove_file(path).expect("it is there"));
        let second = program::run(ecosystem.command().arg("run"), LIMIT).code(6);
        assert!(second.says(&["is in use"]), "{second:?}");
        // The command line waits until the socket exists again.
        assert_eq!(ecosystem.names(), ["Dae"], "without {gone:?}");
        until(LIMIT, "all is back", || socket.exists() && lock.exists());
    }
    fs::remove_dir_all(home.join("run")).expect("it is there");
    assert_eq!(ecosystem.names(), ["Dae"]);
    let holder = fs::read_to_string(&lock).expect("the lock");
    let holder: Value = serde_json::from_str(&holder).expect("JSON");
    assert_eq!(holder["pid"], ecosystem.pid(), "{holder}");
    assert_eq!(
        holder["socket"],
        socket.to_str().expect("UTF-8"),
        "{holder}"
    );
    ecosystem.stop();
    assert!(!socket.exists());
}

#[test]
fn a_home_that_is_held_by_one_who_does_not_listen_is_told_from_one_without_a_host() {
    let ecosystem = Ecosystem::asleep();
    let lock = File::create(ecosystem.home().join("lock")).expect("a lock");
    lock.try_lock().expect("nobody has it");
    let told = ecosystem.cli(&["list"]).code(6);
    assert!(told.says(&["control socket"]), "{told:?}");
    assert!(!told.says(&["no host runs"]), "{told:?}");
}

/// Two homes of one user, with or without a runtime directory.
#[test]
fn two_data_homes_with_one_runtime_directory_have_two_hosts() {
    let scratch = Ecosystem::asleep();
    let root = scratch.scratch();
    let runtime = directory(&root, "runtime");
    directory(&root, "config/dae");
    fs::write(root.join("config/dae/config.json5"), "{scan_ms: 0}").expect("a config");
    // The second path is longer than a socket's address may be.
    let data = ["a".to_owned(), "b".repeat(150)].map(|name| directory(&root, &name));
    let command = |data: &Path| {
        let mut command = scratch.command();
        let of_user = user_directories(&root, data);
        command.env_remove("DAE_HOME").envs(of_user);
        command.env("XDG_RUNTIME_DIR", &runtime);
        command
    };
    let mut hosts = data.each_ref().map(|data| {
        let host = program::Running::start(command(data).arg("run"));
        until(LIMIT, "it answers", || {
            program::run(command(data).arg("list"), LIMIT).status == 0
        });
        host
    });
    let pid = |command: &mut Command| {
        let listed = program::run(command.args(["list", "--json"]), LIMIT).ok();
        listed.json()[0]["pid"].as_u64()
    };
    for (data, host) in data.iter().zip(&hosts) {
        let host = Some(u64::from(host.pid()));
        assert_eq!(pid(&mut command(data)), host);
        // A cron job has no such variable.
        assert_eq!(pid(command(data).env_remove("XDG_RUNTIME_DIR")), host);
    }
    process::signal(hosts[0].pid(), Signal::TERM);
    assert_eq!(hosts[0].end(LIMIT), Some(0));
    assert_eq!(pid(&mut command(&data[1])), Some(u64::from(hosts[1].pid())));
    process::signal(hosts[1].pid(), Signal::TERM);
    assert_eq!(hosts[1].end(LIMIT), Some(0));
}

/// Returns the variables of a user whose files lie below `root`, except for data and state, which lie in `data`.
fn user_directories(root: &Path, data: &Path) -> [(&'static str, PathBuf); 4] {
    [
        ("HOME", root.to_owned()),
        ("XDG_CONFIG_HOME", root.join("config")),
        ("XDG_STATE_HOME", data.join("state")),
        ("XDG_DATA_HOME", data.to_owned()),
    ]
}

fn directory(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path);
    made.map(|()| path).expect("a directory of our own")
}

#[test]
fn a_host_whose_home_was_replaced_is_not_taken_for_the_new_ones_and_leaves_that_alone() {
    let mut first = Ecosystem::start();
    let (home, old) = (first.home(), first.scratch().join("old"));
    fs::rename(&home, &old).expect("a move");
    first.configure(&json!({}));
    // The old host's socket lies in the new home. The command line reports which home it serves.
    fs::rename(old.join("run"), home.join("run")).expect("a move");
    let told = first.cli(&["list"]).code(1);
    assert!(told.says(&["serves the home"]), "{told:?}");
    fs::rename(home.join("run"), old.join("run")).expect("a move");
    // Another host takes the new home, and keeps its socket when the old host ends.
    let mut second = program::Running::start(first.command().arg("run"));
    until(LIMIT, "the second answers", || {
        first.cli(&["list"]).status == 0
    });
    until(LIMIT, "the first has noticed", || {
        first.stderr().contains("another directory now")
    });
    first.stop();
    let listed = first.cli(&["list", "--json"]).ok().json();
    assert_eq!(listed[0]["pid"], second.pid());
    process::signal(second.pid(), Signal::TERM);
    assert_eq!(second.end(LIMIT), Some(0));
}

#[test]
fn what_killed_writes_have_left_is_swept_at_the_next_start() {
    let mut ecosystem = Ecosystem::start();
    let _ = ecosystem.install("Counter", "counter", &[]);
    ecosystem.kill();
    let home = ecosystem.home();
    let places = [".", "store", "states", "run", "logs", "images"];
    let left = places.map(|place| home.join(place).join(".new-aB3xY9"));
    left.iter()
        .for_each(|path| fs::write(path, "half").expect("a file"));
    ecosystem.wake(&[]);
    for path in left {
        assert!(!path.exists(), "{}", path.display());
    }
    ecosystem.until_state("Counter", "ready");
}

#[test]
fn a_daemon_that_sets_the_umask_spoils_no_file_of_the_hosts() {
    for flags in [&[][..], &["--isolate"]] {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("Misbehave", "misbehave", flags);
        for umask in [0o777, 0] {
            guest.ask("set_umask", &json!([umask]));
            let _ = ecosystem.install("Counter", "counter", &["--replace"]);
            let _ = ecosystem.cli(&["restart", "Counter"]).ok();
            let _ = ecosystem.install("Vectors", "vectors", &["--replace"]);
            fs::remove_dir_all(ecosystem.home().join("run")).expect("it is there");
            let _ = ecosystem.cli(&["list"]).ok();
            let _ = ecosystem.cli(&["uninstall", "Vectors"]).ok();
        }
        for path in entries(&ecosystem.home()) {
            let Ok(found) = fs::symlink_metadata(&path) else {
                continue;
            };
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            let is_config = path.ends_with("config.json5");
            let mode = found.permissions().mode() & 0o777;
            assert!(
                is_config || mode == expected,
                "{mode:o} {} {flags:?}",
                path.display()
            );
        }
    }
}

#[test]
fn a_home_whose_path_is_not_utf_8_is_refused_in_one_sentence_by_every_command() {
    let ecosystem = Ecosystem::asleep();
    let home = ecosystem.scratch().join(OsStr::from_bytes(b"j\xf6rg"));
    let file = ecosystem.plugin("sample");
    let file = file.to_str().expect("UTF-8");
    let lines: [&[&str]; 9] = [
        &["run"],
        &["list"],
        &["--json", "list"],
        &["logs"],
        &["install", "Sample", file],
        &["uninstall", "Sample"],
        &["call", "Sample", "greet"],
        &["scan"],
        &["check", file],
    ];
    for line in lines {
        let mut command = ecosystem.command();
        command
            .env_remove("DAE_HOME")
            .arg("--home")
            .arg(&home)
            .args(line);
        let told = program::run(&mut command, LIMIT).code(1);
        assert_eq!(told.stderr.lines().count(), 1, "{line:?}: {told:?}");
        assert!(told.says(&["not valid UTF-8"]), "{line:?}: {told:?}");
    }
    assert!(!home.exists());
}

#[test]
fn a_plugin_whose_path_is_not_utf_8_is_refused_and_nothing_else_suffers() {
    let ecosystem = Ecosystem::start();
    let name = OsStr::from_bytes(b"lib\xf6.so");
    let file = ecosystem.scratch().join(name);
    fs::copy(ecosystem.plugin("sample"), &file).expect("a copy");
    let run = |arguments: &[&str]| {
        let mut command = ecosystem.command();
        program::run(command.args(arguments).arg(&file), LIMIT)
    };
    let refused = run(&["install", "Sample"]).code(1);
    assert!(refused.says(&["not valid UTF-8"]), "{refused:?}");
    let checked = run(&["--json", "check"]).ok().json();
    assert_eq!(checked["ok"], true, "{checked}");
    fs::copy(&file, ecosystem.home().join("plugins").join(name)).expect("a copy");
    ecosystem.until_logged("Dae", "not valid UTF-8");
    let _ = ecosystem.install("Counter", "counter", &[]);
}

#[test]
fn a_home_in_a_place_that_takes_no_directory_is_an_error() {
    let ecosystem = Ecosystem::asleep();
    let file = ecosystem.plugin("sample").display().to_string();
    let refused = ecosystem
        .cli(&["--home", "/proc/home", "install", "Sample", &file])
        .code(1);
    assert!(refused.says(&["/proc/home"]), "{refused:?}");
}
