//! The progress of long commands: a bar at a terminal, and nothing of it anywhere else.

use dae_tests::Ecosystem;
use serde_json::json;

use crate::connect::Tmux;

#[test]
fn a_long_load_test_shows_its_progress_at_a_terminal_alone() {
    let ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Counter", "counter", &[]);
    let piped = ecosystem
        .cli(&["call", "--repeat", "2000", "Counter", "count"])
        .ok();
    assert_eq!(piped.stderr, "", "no bar in a pipe");
    let words = "call --repeat 100000000 Counter count";
    let Some(tmux) = Tmux::start(&ecosystem, words, "Counter") else {
        return;
    };
    let _ = tmux.until("/100,000,000 calls");
    tmux.keys(&["C-c"]);
    let screen = tmux.until("ended with 130");
    assert!(is_at_a_start(&screen, "dae-host: SIGINT after"), "{screen}");
    assert!(!screen.contains("/100,000,000"), "no bar is left: {screen}");
}

/// Returns whether a line of the screen begins with that text.
fn is_at_a_start(screen: &str, text: &str) -> bool {
    screen.lines().any(|line| line.starts_with(text))
}

/// An install whose start never ends, and the limit of the host for that.
const HANGING: &str = r#"--config '{"start": "hang"}'"#;

#[test]
fn an_install_that_takes_long_shows_it_until_ctrl_c() {
    let ecosystem = Ecosystem::start_configured(&json!({"start_ms": 600_000}));
    let file = ecosystem.plugin("lifecycle").display().to_string();
    let words = format!("install Hangs {file} {HANGING}");
    let Some(tmux) = Tmux::start(&ecosystem, &words, "Hangs") else {
        return;
    };
    let _ = tmux.until("the host installs liblifecycle.so");
    tmux.keys(&["C-c"]);
    let screen = tmux.until("ended with 130");
    let told = "dae-host: SIGINT has ended this command";
    assert!(is_at_a_start(&screen, told), "{screen}");
    assert!(!screen.contains("the host installs"), "{screen}");
    assert!(!screen.contains("^C"), "{screen}");
    ecosystem.leaves("a start that never ends is under way");
}

#[test]
fn an_apply_shows_which_daemon_it_is_at() {
    let ecosystem = Ecosystem::start_configured(&json!({"start_ms": 3000}));
    let file = ecosystem.plugin("lifecycle").display().to_string();
    let daemon = |name: &str, config: &str| {
        format!("[daemons.{name}]\nfile = {file:?}\nconfig = {config:?}\n")
    };
    let set = daemon("A", "{}") + &daemon("B", r#"{"start": "hang"}"#);
    let path = ecosystem.scratch().join("dae.toml");
    std::fs::write(&path, set).expect("a file of our own");
    let path = path.display().to_string();
    let Some(tmux) = Tmux::start(&ecosystem, &format!("apply -f {path}"), "B") else {
        return;
    };
    let screen = tmux.until("1/2 B");
    assert!(is_at_a_start(&screen, "+ A: "), "{screen}");
    let screen = tmux.until("ended with 1");
    assert!(!screen.contains("1/2 B"), "no bar is left: {screen}");
    assert!(is_at_a_start(&screen, "dae-host: + B: "), "{screen}");
    let piped = ecosystem.cli(&["apply", "-f", &path]).code(1);
    assert!(!piped.stderr.contains("0/1"), "no bar in a pipe: {piped:?}");
    let json = ecosystem.cli(&["--json", "apply", "-f", &path]).code(1);
    assert_eq!(json.stderr.lines().count(), 1, "{json:?}");
}
