//! `run --detach`: a host in the background.

use std::fs;

use dae_tests::{Ecosystem, LIMIT, Output, process, until};
use rustix::process::Signal;
use serde_json::json;

/// The host in the background, which is killed if the test fails before it ends it.
pub(crate) struct Detached(u32);

impl Detached {
    /// Reads the document that `run --detach` has printed.
    pub(crate) fn of(output: &Output) -> Self {
        let pid = output.json()["pid"].as_u64().expect("a pid");
        Detached(u32::try_from(pid).expect("a pid"))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if std::thread::panicking() {
            process::signal(self.0, Signal::KILL);
        }
    }
}

#[test]
fn a_host_in_the_background_is_ready_when_the_command_returns() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    ecosystem.stop();
    let host = Detached::of(&ecosystem.cli(&["--json", "run", "--detach"]).ok());
    assert_eq!(ecosystem.status("Sample")["state"], "ready");
    assert_eq!(ecosystem.status("Dae")["pid"], host.0);
    for stream in 0..3 {
        let file = fs::read_link(format!("/proc/{}/fd/{stream}", host.0));
        let file = file.expect("a process of our own");
        assert_eq!(file.to_str(), Some("/dev/null"), "{stream}");
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.0)).expect("a process");
    let behind_name = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    assert_eq!(
        fields[3],
        host.0.to_string(),
        "it leads its session: {stat}"
    );
    assert_eq!(fields[4], "0", "it has no terminal: {stat}");

    let second = ecosystem.cli(&["run", "--detach"]).code(6);
    let pid = host.0.to_string();
    assert!(second.stderr.contains(&pid), "{second:?}");
    assert_eq!(second.stdout, "");

    let _ = ecosystem.cli(&["shutdown"]).ok();
    let logged = ecosystem.cli(&["logs", "Dae"]).ok().stdout;
    assert!(logged.contains("Dae listens"), "{logged}");
}

#[test]
fn a_person_sees_the_line_of_run_with_the_pid() {
    let ecosystem = Ecosystem::asleep();
    let shown = ecosystem.cli(&["run", "--detach"]).ok();
    let pid = ecosystem.status("Dae")["pid"].to_string();
    let _ = ecosystem.cli(&["shutdown"]).ok();
    let home = ecosystem.home();
    assert!(
        shown.stdout.starts_with("Dae listens on 127.0.0.1:")
            && shown
                .stdout
                .ends_with(&format!(", home {}, pid {pid}\n", home.display())),
        "{shown:?}"
    );
    assert_eq!(shown.stderr, "", "the log goes to the home");
    until(LIMIT, "nothing runs any more", || {
        ecosystem.cli(&["list"]).status == 7
    });
}

#[test]
fn a_start_that_fails_is_shown_with_its_reason() {
    let ecosystem = Ecosystem::asleep();
    ecosystem.configure(&json!({"dae_prot": 1}));
    let refused = ecosystem.cli(&["run", "--detach"]).code(1);
    let told = refused.stderr.lines().count();
    assert!(
        refused.stderr.starts_with("dae-host: the config ") && told == 1,
        "{refused:?}"
    );
    let _ = ecosystem.cli(&["run", "--detach", "--log", "json"]).code(2);
    let _ = ecosystem.cli(&["list"]).code(7);
}
