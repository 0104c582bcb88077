//! `service`: the unit, its check by systemd, and the watchdog of a host that a service manager has started.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use dae_tests::{Ecosystem, LIMIT, Output, process, program};
use rustix::process::Signal;

/// Runs a command line whose user has its units in `config`.
fn with_units(ecosystem: &Ecosystem, config: &Path, words: &[&str]) -> Output {
    program::run(
        ecosystem
            .command()
            .env("XDG_CONFIG_HOME", config)
            .args(words),
        LIMIT,
    )
}

/// Returns whether systemd runs this machine. The tests then leave its units alone.
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Returns whether the tool that checks units is installed. CI needs it.
#[track_caller]
fn has_systemd_analyze() -> bool {
    let version = Command::new("systemd-analyze").arg("--version").output();
    assert!(
        version.is_ok() || std::env::var_os("CI").is_none(),
        "systemd-analyze is not installed; CI needs it"
    );
    if version.is_err() {
        eprintln!("SKIPPED: systemd-analyze is not installed");
    }
    version.is_ok()
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    if !has_systemd_analyze() {
        return;
    }
    let ecosystem = Ecosystem::asleep();
    let odd = ecosystem.scratch().join("a 100% $HOME");
    let odd = odd.to_str().expect("UTF-8");
    let cases: [(&[&str], &str); 4] = [
        (&[], "--user"),
        (&["--system", "--user", "root"], "--system"),
        (&["--home", odd], "--user"),
        (&["--metrics", "[::1]:9464"], "--user"),
    ];
    for (words, scope) in cases {
        let words = [&["service", "install", "--dry-run"], words].concat();
        let unit = ecosystem.cli(&words).ok().stdout;
        let file = ecosystem.scratch().join("dae-host.service");
        fs::write(&file, &unit).expect("a file of our own");
        let mut verify = Command::new("systemd-analyze");
        verify
            .args(["verify", "--man=no", "--recursive-errors=no", scope])
            .arg(&file);
        // The manager of a user needs a directory for its sockets.
        verify.env("XDG_RUNTIME_DIR", ecosystem.scratch());
        let verified = program::run(&mut verify, LIMIT);
        let told = format!("{}{}", verified.stdout, verified.stderr);
        assert!(
            verified.status == 0 && !told.contains("dae-host.service"),
            "{words:?}: {verified:?}\n{unit}"
        );
    }
}

#[test]
fn a_unit_is_written_shown_and_removed() {
    if is_booted() {
        eprintln!("SKIPPED: systemd runs here, and its units are left alone");
        return;
    }
    let ecosystem = Ecosystem::asleep();
    let config = ecosystem.scratch();
    let file = config.join("systemd/user/dae-host.service");
    let path = file.to_str().expect("UTF-8");
    let run = |words: &[&str]| with_units(&ecosystem, &config, words);

    let none = run(&["service", "status"]).code(3);
    let told = format!("{path} (not installed)");
    assert!(none.stdout.contains(&told), "{none:?}");
    let _ = run(&["service", "uninstall"]).code(1);

    let installed = run(&["service", "install"]).ok();
    let told = "`systemctl --user enable --now dae-host` starts the service";
    assert!(installed.stdout.contains(told), "{installed:?}");
    let unit = fs::read_to_string(&file).expect("the unit");
    let home = format!(" --home {} run\n", ecosystem.home().display());
    assert!(unit.contains(&home), "{unit}");
    let again = run(&["service", "install", "--json"]).ok().json();
    assert_eq!(again["unit"], path);
    assert_eq!(again["started"], false);
    let shown = run(&["service", "status", "--json"]).code(3).json();
    assert_eq!(shown["installed"], true);
    assert!(shown["pid"].is_null(), "{shown}");

    let _ = run(&["service", "uninstall"]).ok();
    assert!(!file.exists());
}

#[test]
fn a_service_has_the_options_about_metrics() {
    let ecosystem = Ecosystem::asleep();
    let wide = [
        "service",
        "install",
        "--dry-run",
        "--metrics",
        "0.0.0.0:9464",
    ];
    let refused = ecosystem.cli(&wide).code(2);
    assert!(refused.stderr.contains("--metrics-anywhere"), "{refused:?}");
    assert_eq!(refused.stdout, "");
    let words = [&wide[..], &["--metrics-anywhere"]].concat();
    let unit = ecosystem.cli(&words).ok().stdout;
    let options = " run --metrics 0.0.0.0:9464 --metrics-anywhere\n";
    assert!(unit.contains(options), "{unit}");
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    let ecosystem = Ecosystem::asleep();
    let config = ecosystem.scratch();
    let file = config.join("systemd/user/dae-host.service");
    fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    let theirs = "[Service]\nExecStart=/bin/true\n";
    fs::write(&file, theirs).expect("a file");
    for words in [["service", "install"], ["service", "uninstall"]] {
        let refused = with_units(&ecosystem, &config, &words).code(1);
        assert!(refused.stderr.contains("move it away"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&file).expect("the unit"), theirs);
    let words = ["service", "install", "--user", "x"];
    let _ = with_units(&ecosystem, &config, &words).code(2);
}

#[test]
fn the_watchdog_is_fed_while_the_host_answers() {
    let ecosystem = Ecosystem::asleep();
    let path = ecosystem.scratch().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket of the test's");
    socket
        .set_read_timeout(Some(LIMIT))
        .expect("a socket option");
    let next = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("a word within the limit");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = ecosystem.command();
    command
        .arg("run")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "150000");
    let mut host = program::Running::start(&mut command);
    assert_eq!(next(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\n");
    }
    process::signal(host.pid(), Signal::TERM);
    while next() != "STOPPING=1\n" {}
    assert_eq!(host.end(LIMIT), Some(0));
}
