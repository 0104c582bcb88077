//! The setting `on_crash`: a program that the host runs when a daemon has crashed.

use std::fs;
use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, LIMIT, process, program, until, until_some};
use serde_json::{Value, json};

/// Flags of `install` for each mode, the command that ends an instance there, and words of the cause.
const MODES: [(&[&str], &str, &str); 2] = [
    (&[], "panic", "a handler panicked"),
    (&["--isolate"], "abort", "SIGABRT"),
];

/// Installs a daemon that runs this script when it has crashed, besides these settings.
fn with_script(ecosystem: &Ecosystem, flags: &[&str], (script, more): (&str, &Value)) -> Guest {
    let file = ecosystem.scratch().join("told");
    program::write_script(&file, script);
    let directory = ecosystem.scratch();
    let mut settings = json!({
        "on_panic": "restart",
        "env": {"TOKEN": "secret"},
        "on_crash": [file, directory, "a b; exit 7"],
    });
    for (name, value) in more.as_object().expect("an object") {
        settings[name] = value.clone();
    }
    let settings = settings.to_string();
    let flags = [flags, &["--settings", &settings]].concat();
    ecosystem.install("Bad", "misbehave", &flags)
}

fn until_file(path: &PathBuf) -> String {
    until_some(LIMIT, &format!("{} is written", path.display()), || {
        fs::read_to_string(path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
}

#[test]
fn a_crash_runs_the_program_with_what_has_happened() {
    for (flags, command, cause) in MODES {
        let ecosystem = Ecosystem::start();
        let script = "#!/bin/sh\necho \"told $#: $2\"\nread nothing || env >\"$1/env.new\"\n\
                      echo done >>\"$1/env.new\"\nmv \"$1/env.new\" \"$1/env\"\n";
        let mut guest = with_script(&ecosystem, flags, (script, &json!({})));
        let _ = guest.ask_in_vain(command, &json!([]));
        let text = until_file(&ecosystem.scratch().join("env"));
        let home = ecosystem.home();
        for line in [
            "DAE_DAEMON=Bad".to_owned(),
            "DAE_EVENT=crashed".to_owned(),
            "DAE_CRASHES=1".to_owned(),
            "DAE_GENERATION=1".to_owned(),
            format!("DAE_HOME={}", home.display()),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        let told = text.lines().find(|line| line.starts_with("DAE_CAUSE="));
        assert!(told.is_some_and(|told| told.contains(cause)), "{text}");
        assert!(!text.contains("secret"), "{text}");
        ecosystem.until_logged("Bad", "told 2: a b; exit 7");
        ecosystem.until_logged("Bad", "on_crash: its program has run");
        ecosystem.until_state("Bad", "ready");
        assert_eq!(guest.ask("echo", &json!([1])), 1, "supervision went on");
    }
}

#[test]
fn a_program_that_does_not_end_is_killed_with_all_that_it_has_started() {
    let ecosystem = Ecosystem::start();
    let script = "#!/bin/sh\nsleep 3600 & echo $! >\"$1/child\"\nsleep 3600\n";
    let more = json!({"on_crash_ms": 500});
    let mut guest = with_script(&ecosystem, &[], (script, &more));
    let _ = guest.ask_in_vain("panic", &json!([]));
    let child = until_file(&ecosystem.scratch().join("child"));
    let child: u32 = child.trim().parse().expect("a process id");
    ecosystem.until_logged("Bad", "was killed: it had not ended after 500ms");
    until(LIMIT, "its child is gone", || process::is_gone(child));
    assert_eq!(guest.ask("echo", &json!([1])), 1);
}

#[test]
fn an_uninstall_kills_the_program() {
    let ecosystem = Ecosystem::start();
    let script = "#!/bin/sh\necho $$ >\"$1/pid\"\nexec sleep 3600\n";
    let mut guest = with_script(&ecosystem, &[], (script, &json!({})));
    let _ = guest.ask_in_vain("panic", &json!([]));
    let pid = until_file(&ecosystem.scratch().join("pid"));
    let pid: u32 = pid.trim().parse().expect("a process id");
    assert!(!process::is_gone(pid));
    let _ = ecosystem.cli(&["uninstall", "Bad"]).ok();
    until(LIMIT, "the program is gone", || process::is_gone(pid));
}

#[test]
fn crashes_during_a_run_and_a_crash_loop_lead_to_one_more_run() {
    let ecosystem = Ecosystem::start();
    let script = "#!/bin/sh\necho \"$DAE_EVENT $DAE_CRASHES\" >>\"$1/all\"\n\
                  while [ ! -e \"$1/go\" ]; do sleep 0.05; done\n";
    let more = json!({"restart": {"burst_max": 1, "served_ms": 0}});
    let mut guest = with_script(&ecosystem, &[], (script, &more));
    let _ = guest.ask_in_vain("panic", &json!([]));
    let all = ecosystem.scratch().join("all");
    assert_eq!(until_file(&all), "crashed 1\n");
    let _ = guest.ask_in_vain("panic", &json!([]));
    ecosystem.until_state("Bad", "crash-loop");
    fs::write(ecosystem.scratch().join("go"), "").expect("the file");
    until(LIMIT, "the second run", || {
        until_file(&all) == "crashed 1\ncrash-loop 2\n"
    });
}

#[test]
fn a_program_that_is_not_there_is_told_in_the_log_and_a_wrong_setting_is_refused() {
    let ecosystem = Ecosystem::start();
    let settings = json!({"on_panic": "restart", "on_crash": ["no-such-program"]}).to_string();
    let mut guest = ecosystem.install("Bad", "misbehave", &["--settings", &settings]);
    let _ = guest.ask_in_vain("panic", &json!([]));
    ecosystem.until_logged("Bad", "on_crash: no-such-program can't be run");
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    for (value, told) in [
        ("on_crash=[\"\"]", "empty name"),
        ("on_crash=notify", "on_crash"),
        ("on_crash_ms=0", "from 1 to 18446744073709551615, got 0"),
        ("on_crash_ms=-1", "from 1 to 18446744073709551615, got -1"),
    ] {
        let output = ecosystem.cli(&["config", "Bad", "set", value]).code(1);
        assert!(output.says(&[told]), "{value}: {output:?}");
    }
}

#[test]
fn the_end_of_the_host_ends_the_program() {
    let mut ecosystem = Ecosystem::start();
    let script = "#!/bin/sh\necho $$ >\"$1/pid\"\nsleep 3600\n";
    let mut guest = with_script(&ecosystem, &[], (script, &json!({})));
    let _ = guest.ask_in_vain("panic", &json!([]));
    let pid = until_file(&ecosystem.scratch().join("pid"));
    let pid: u32 = pid.trim().parse().expect("a process id");
    ecosystem.stop();
    until(LIMIT, "the program is gone", || process::is_gone(pid));
}
