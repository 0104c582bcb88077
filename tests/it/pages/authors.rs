//! The tests that the page for authors shows: they are run as an author runs them.

use std::env;
use std::fs;
use std::process::Command;

use dae_tests::artefacts::target_directory;
use dae_tests::{Artefacts, Ecosystem, program};

use super::{BUILD_MAX, below_the_head, shown, written};

#[test]
fn the_tests_of_the_readmes_daemon_pass() {
    let ecosystem = Ecosystem::asleep();
    let crate_dir = written(&ecosystem, "greeter");
    fs::create_dir(crate_dir.join("tests")).expect("a directory of our own");
    let write = |file: &str, text: &str| fs::write(crate_dir.join(file), text).expect("our own");
    let library = shown("greeter/src/lib.rs");
    write(
        "src/lib.rs",
        &format!("{library}\n#[cfg(test)]\nmod tests;\n"),
    );
    write("src/tests.rs", &shown("greeter/src/tests.rs"));
    write("tests/program.rs", &shown("greeter/tests/program.rs"));
    let host = Artefacts::of_tests().host().parent().expect("a directory");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([host.to_owned()].into_iter().chain(env::split_paths(&path)));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("test")
        .current_dir(&crate_dir)
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_INCREMENTAL", "0")
        .env("PATH", path.expect("a search path"))
        .env_remove("DAE_HOME");
    let output = program::run(&mut cargo, BUILD_MAX).ok();
    let passed = output.stdout.matches("test result: ok. 1 passed").count();
    assert_eq!(passed, 2, "{output:#?}");
}

#[test]
fn the_embedded_test_of_the_pages_is_that_of_the_counter() {
    let file = "tests/counter/main.rs";
    assert_eq!(shown("counter/tests/embedded.rs"), below_the_head(file));
}
