//! The library inside another program: several ecosystems in one process, and dropped futures of the API.
//!
//! The program has its own `main`, because a daemon in a subprocess runs the program that embeds the host. It takes
//! names of tests, or parts of them, as the test harness does.

mod api;
mod builtin;
mod dropped;
mod two;

use std::path::Path;
use std::process::ExitCode;

use dae_host::Dae;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The name of a test, and its function.
type Test = (&'static str, fn(&Runtime));

const TESTS: [Test; 13] = [
    ("two_built_in_daemons_live_as_others_do", builtin::life),
    (
        "a_built_in_daemon_is_supervised_and_its_limits_are_told",
        builtin::limits,
    ),
    (
        "a_second_install_is_refused_in_the_words_of_the_library",
        api::taken_name,
    ),
    (
        "an_ecosystem_ends_on_the_owners_request_only_if_its_program_allows_that",
        api::requested_end,
    ),
    ("a_program_calls_the_daemons_of_its_ecosystem", api::calls),
    (
        "a_program_with_one_thread_calls_and_its_timers_go_on",
        api::one_thread,
    ),
    ("each_change_of_a_daemons_life_is_an_event", api::events),
    (
        "a_rollback_and_a_quarantine_are_events",
        api::rollback_events,
    ),
    ("what_another_host_runs_is_an_event", api::foreign_events),
    (
        "stopping_one_of_two_leaves_the_watch_of_the_other_intact",
        two::stopping_one_of_two,
    ),
    (
        "an_install_that_is_dropped_is_whole_or_not_begun",
        dropped::install,
    ),
    (
        "a_rollback_that_is_dropped_is_whole_or_not_begun",
        dropped::rollback,
    ),
    (
        "a_move_that_is_dropped_is_whole_or_not_begun",
        dropped::set_mode,
    ),
];

fn main() -> ExitCode {
    if let Some(code) = dae_host::worker::become_worker() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut parts = arguments
        .iter()
        .filter(|one| !one.starts_with("--"))
        .peekable();
    let parts: Option<Vec<&String>> = parts.peek().is_some().then(|| parts.collect());
    let is_wanted = |name: &str| {
        let is_in = |parts: &Vec<&String>| parts.iter().any(|part| name.contains(*part));
        parts.as_ref().is_none_or(is_in)
    };
    // A failing test panics, which ends the program.
    let runtime = Runtime::new().expect("a runtime");
    for (name, test) in TESTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        test(&runtime);
        println!("test {name} ... ok");
    }
    // Threads that a test left blocked in a handler are not waited for.
    std::process::exit(0)
}

/// Starts an ecosystem in the given home, with the given config.
async fn start(home: &Path, config: &Value) -> Dae {
    let mut whole = json!({"scan_ms": 0, "defaults": {"preflight": false}});
    for (key, value) in config.as_object().expect("a config is an object") {
        whole[key] = value.clone();
    }
    std::fs::write(home.join("config.json5"), whole.to_string()).expect("a home of our own");
    let started = Dae::builder().home(home).start().await;
    started.expect("an ecosystem starts")
}
