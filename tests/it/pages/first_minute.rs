//! The transcript of an author's first minute in the README: the same commands are run, and print the same.
//!
//! Only the home directory, the port and the times differ. After a change of the output, the failure shows the transcript as it has
//! to stand in the README.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Artefacts, Ecosystem, LIMIT, Running, process, program, until};
use rustix::process::Signal;

use super::{BUILD_MAX, fences, section};

/// The directory and the port of the README.
const DIRECTORY: &str = "/home/ada";
const PORT: &str = "38905";

/// Returns a command that runs in `directory`, as a person does who has the program on the search path.
fn command(program: &str, directory: &Path) -> Command {
    let host = Artefacts::of_tests().host().parent().expect("a directory");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [host.to_owned()].into_iter().chain(env::split_paths(&path));
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env("PATH", env::join_paths(path).expect("a search path"))
        .env_remove("DAE_HOME")
        .env_remove("CARGO_TARGET_DIR")
        // The dependencies that others have built are there already.
        .env("CARGO_BUILD_BUILD_DIR", target_directory())
        .stdin(Stdio::null());
    command
}

#[test]
fn the_first_minute_of_the_readme_is_what_an_author_sees() {
    let ecosystem = Ecosystem::asleep();
    let directory = ecosystem.scratch();
    let mut new = command("dae-host", &directory);
    let made = program::run(new.args(["new", "greeter"]), LIMIT).ok();
    let mut transcript = format!("$ dae-host new greeter\n{}", made.stdout);

    // The same versions as here, so that nothing has to be fetched.
    let lock = directory.join("greeter/Cargo.lock");
    fs::copy(workspace().join("Cargo.lock"), lock).expect("our own");
    let mut dev = command("dae-host", &directory);
    let log = directory.join("dev.stderr");
    let stderr = File::create(&log).expect("our own");
    let mut dev = Running::start(dev.args(["dev", "greeter"]).stderr(stderr));
    let (told, paste) = (dev.line(BUILD_MAX), dev.line(LIMIT));
    transcript += &format!("$ dae-host dev greeter\n{told}\n{paste}\n");

    let paste = paste.trim();
    let call = || {
        let mut shell = command("sh", &directory);
        let answer = program::run(shell.args(["-c", paste]), LIMIT).ok();
        format!("\n$ {paste}\n{}", answer.stdout)
    };
    transcript += &call();

    let source = directory.join("greeter/src/lib.rs");
    let text = fs::read_to_string(&source).expect("our own");
    let edited = text.replacen("Hello", "Good morning", 1);
    fs::write(&source, edited).expect("our own");
    let saved = || {
        let told = fs::read_to_string(&log).expect("our own");
        let line = told.lines().find(|line| line.contains("saved →"));
        line.map(str::to_owned)
    };
    until(BUILD_MAX, "the new code runs", || saved().is_some());
    transcript += &format!("{}\n{}", saved().expect("just seen"), call());
    process::signal(dev.pid(), Signal::INT);
    assert_eq!(dev.end(LIMIT), Some(0));

    let here = directory.to_str().expect("a path in UTF-8");
    let port = told
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let port = port.unwrap_or_else(|| panic!("no port in {told:?}"));
    let transcript = transcript
        .replace(here, DIRECTORY)
        .replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{PORT}"));
    let shown = fences(&section("README.md", "## A first daemon"));
    let shown = shown.iter().filter(|fence| fence.info == "console");
    let shown: String = shown.map(|fence| &*fence.text).collect();
    assert_eq!(without_times(&shown), without_times(&transcript));
}

/// Returns the text with the numbers in each line about a save replaced.
fn without_times(transcript: &str) -> String {
    let mut text = String::new();
    for line in transcript.lines() {
        let words = line.split(' ').map(|word| match word.parse::<f64>() {
            Ok(_) if line.contains("saved →") => "0",
            _ => word,
        });
        text += &words.collect::<Vec<_>>().join(" ");
        text.push('\n');
    }
    text
}
