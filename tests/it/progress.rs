//! The progress of long commands: a bar at a terminal, and nothing of it anywhere else.

use dae_tests::Ecosystem;

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
    assert!(screen.contains("SIGINT after"), "{screen}");
}
