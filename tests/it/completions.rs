//! Completions by the shells, and the manual pages.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, LIMIT, program};
use rustix::process::Signal;

/// The longest time for a completion without an answer of the host: 0.7 s, and time for a busy machine.
const COMPLETION_MAX: Duration = Duration::from_secs(3);

/// Returns the candidates for the last word of a line, as the script for `shell` asks for them.
fn candidates(ecosystem: &Ecosystem, shell: &str, line: &[&str]) -> Vec<String> {
    let mut command = ecosystem.command();
    command
        .env("DAE_HOST_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", line.len().to_string())
        .args(["--", "dae-host"])
        .args(line);
    let output = program::run(&mut command, LIMIT);
    assert_eq!(output.stderr, "", "{shell} {line:?}");
    let words = output.stdout.split(['\n', '\u{b}']);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_and_commands_come_from_the_running_host() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("bash", &["status", "S"], &["Sample"]),
        ("zsh", &["status", "S"], &["Sample:ready"]),
        ("fish", &["stop", "Sample", "S"], &["Sample\tready"]),
        ("bash", &["call", "Sample", "gr"], &["greet"]),
        ("zsh", &["call", "Sample", "gr"], &["greet:Greets `who`."]),
        ("bash", &["call", "Sample", "greet", ""], &["--who"]),
        (
            "bash",
            &["call", "--raw", "Sample", "greet", "--w"],
            &["--who"],
        ),
        ("bash", &["run", "--log", ""], &["human", "json"]),
    ];
    for (shell, line, expected) in cases {
        assert_eq!(candidates(&ecosystem, shell, line), expected, "{line:?}");
    }
}

#[test]
fn a_host_that_is_not_there_or_stopped_makes_no_noise_and_no_wait() {
    let mut ecosystem = Ecosystem::asleep();
    let line = ["status", "S"];
    assert_eq!(candidates(&ecosystem, "bash", &line), [""; 0]);
    ecosystem.wake(&[]);
    ecosystem.signal(Signal::STOP);
    let began = Instant::now();
    let found = candidates(&ecosystem, "bash", &line);
    let took = began.elapsed();
    ecosystem.signal(Signal::CONT);
    assert_eq!(found, [""; 0]);
    assert!(took < COMPLETION_MAX, "{took:?}");
}

#[test]
fn bash_completes_a_line_by_the_script() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let program = ecosystem.command().get_program().to_owned();
    let folder = ecosystem.scratch();
    std::os::unix::fs::symlink(program, folder.join("dae-host")).expect("a link");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let line = "source <(dae-host completions bash); COMP_WORDS=(dae-host call Sa); COMP_CWORD=2; COMP_TYPE=9; \
        _clap_complete_dae_host dae-host Sa call; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", line])
        .env("PATH", path)
        .env("DAE_HOME", ecosystem.home());
    let output = program::run(&mut bash, LIMIT).ok();
    assert_eq!(output.stdout, "Sample\n", "{output:?}");
}

#[test]
fn each_shell_can_read_its_script() {
    let ecosystem = Ecosystem::asleep();
    for shell in ["bash", "zsh", "fish"] {
        if Command::new(shell).arg("--version").output().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "{shell} is not installed; CI needs it"
            );
            eprintln!("SKIPPED: {shell} is not installed");
            continue;
        }
        let script = ecosystem.cli(&["completions", shell]).ok().stdout;
        let file = ecosystem.scratch().join(shell);
        fs::write(&file, &script).expect("a file of our own");
        let _ = program::run(Command::new(shell).arg("-n").arg(&file), LIMIT).ok();
        assert!(script.contains("DAE_HOST_COMPLETE="), "{script}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let ecosystem = Ecosystem::asleep();
    let pages = ecosystem.scratch().join("man/man1");
    let directory = pages.to_str().expect("UTF-8");
    let document = ecosystem.cli(&["man", directory, "--json"]).ok().json();
    let written = fs::read_dir(&pages).expect("the directory").count();
    assert_eq!(document["pages"], written);
    let help = ecosystem.cli(&["--help"]).ok().stdout;
    let commands = help.split("Commands:\n").nth(1).expect("the commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !matches!(*name, "" | "help")).collect();
    assert!(names.len() > 20, "{help}");
    for name in names {
        let page = fs::read_to_string(pages.join(format!("dae-host-{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let page = fs::read_to_string(pages.join("dae-host-install.1")).expect("a page");
    assert!(page.contains("Examples:"), "{page}");
    let page = fs::read_to_string(pages.join("dae-host.1")).expect("a page");
    assert!(page.contains("no host runs for this home"), "{page}");
    let blocked = format!("{directory}/dae-host.1/x");
    let refused = ecosystem.cli(&["man", &blocked]).code(1);
    assert!(refused.stderr.contains(&blocked), "{refused:?}");
}

#[test]
fn a_misspelt_setting_is_told_with_the_nearest_one() {
    let mut ecosystem = Ecosystem::start();
    let file = ecosystem.plugin("sample");
    let file = file.to_str().expect("UTF-8");
    let refused = ecosystem
        .cli(&["install", "S", file, "--settings", "{helth_ms: 5}"])
        .code(1);
    assert!(
        refused.stderr.contains("did you mean `health_ms`?"),
        "{refused:?}"
    );
    ecosystem.stop();
    ecosystem.configure(&serde_json::json!({"dae_prot": 0}));
    let refused = ecosystem.cli(&["run"]).code(1);
    assert!(
        refused.stderr.contains("did you mean `dae_port`?"),
        "{refused:?}"
    );
}
