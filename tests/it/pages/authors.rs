//! The tests that the page for authors shows: they are run as an author runs them.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Artefacts, Ecosystem, program};

use super::{BUILD_MAX, CLONE, below_the_head, shown, written};

#[test]
fn the_tests_of_the_readmes_daemon_pass() {
    let ecosystem = Ecosystem::asleep();
    let crate_dir = written(&ecosystem, "greeter");
    fs::create_dir(crate_dir.join("tests")).expect("a directory of our own");
    add_unit_tests(&crate_dir, "greeter");
    let program = shown("greeter/tests/program.rs");
    fs::write(crate_dir.join("tests/program.rs"), program).expect("our own");
    let host = Artefacts::of_tests().host().parent().expect("a directory");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([host.to_owned()].into_iter().chain(env::split_paths(&path)));
    let mut cargo = cargo_test(&crate_dir);
    cargo
        .env("PATH", path.expect("a search path"))
        .env_remove("DAE_HOME");
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    for passed in ["ok. 2 passed", "ok. 1 passed"] {
        let found = output.stdout.matches(passed).count();
        assert_eq!(found, 1, "{passed}: {output:#?}");
    }
}

#[test]
fn the_tests_of_the_daemon_that_talks_pass_without_a_host() {
    let ecosystem = Ecosystem::asleep();
    let crate_dir = written(&ecosystem, "tally");
    add_unit_tests(&crate_dir, "tally");
    let output = program::run(&mut cargo_test(&crate_dir), BUILD_MAX).ok();
    assert!(output.stdout.contains("ok. 2 passed"), "{output:#?}");
}

/// Adds the unit tests that the page shows, and what they need, to a crate.
fn add_unit_tests(crate_dir: &Path, name: &str) {
    let append = |file: &str, text: &str| {
        let file = crate_dir.join(file);
        let before = fs::read_to_string(&file).expect("our own");
        fs::write(file, format!("{before}\n{text}")).expect("our own");
    };
    let clone = workspace().to_str().expect("a path in UTF-8");
    let needed = shown("greeter/dev-dependencies.toml");
    append("Cargo.toml", &needed.replace(CLONE, clone));
    append("src/lib.rs", "#[cfg(test)]\nmod tests;\n");
    let tests = shown(&format!("{name}/src/tests.rs"));
    fs::write(crate_dir.join("src/tests.rs"), tests).expect("our own");
}

/// Returns the command that runs the tests of a crate outside of the workspace.
fn cargo_test(crate_dir: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("test")
        .current_dir(crate_dir)
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_INCREMENTAL", "0");
    cargo
}

#[test]
fn the_tests_of_the_counter_are_those_of_the_pages() {
    let path = "plugins/counter/src/tests.rs";
    assert_eq!(shown(path), below_the_head(path));
}

#[test]
fn the_client_of_the_pages_is_one_that_the_program_writes() {
    let client = include_str!("../../fixtures/peer/src/counter.rs");
    assert_eq!(shown("caller/src/counter.rs"), client);
}

#[test]
fn the_embedded_test_of_the_pages_is_that_of_the_counter() {
    let file = "tests/counter/main.rs";
    assert_eq!(shown("counter/tests/embedded.rs"), below_the_head(file));
}
