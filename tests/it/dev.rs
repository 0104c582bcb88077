//! `dae-host dev` around the build: the changes that cause one, those that don't, and the messages before it.
//!
//! A script stands in for cargo, which takes seconds for each build. The script counts the builds, and copies a plugin
//! of the workspace as their result. `reload::dev` tests with the real cargo that edited code runs.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use dae_tests::{Ecosystem, LIMIT, Running, process, until};
use rustix::process::Signal;

/// A stand-in for cargo. It passes `metadata` to the real cargo. A build adds a line to `builds`, and writes a source
/// file if the test asks for that.
const CARGO: &str = r#"#!/bin/sh
set -e
[ "$1" = metadata ] && exec "$REAL_CARGO" "$@"
echo build >>"$BUILDS"
[ -z "$GENERATES" ] || date +%s%N >"$PWD/src/generated.rs"
cp "$PLUGIN" "$BUILDS.new"; mv "$BUILDS.new" "$BUILDS.so"
printf '{"reason":"compiler-artifact","package_id":"fake","manifest_path":"%s/Cargo.toml",' "$PWD"
printf '"target":{"kind":["cdylib"],"crate_types":["cdylib"],"name":"fake","src_path":"/f.rs","edition":"2021"},'
printf '"profile":{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false},'
printf '"features":[],"filenames":["%s"],"executable":null,"fresh":false}\n' "$BUILDS.so"
"#;

/// The author of a plugin crate; its builds are counted.
struct Author {
    ecosystem: Ecosystem,
    directory: PathBuf,
}

impl Author {
    fn new() -> Self {
        let ecosystem = Ecosystem::asleep();
        let directory = ecosystem.scratch().join("crate");
        fs::create_dir_all(directory.join("src")).expect("a directory of our own");
        let author = Author {
            ecosystem,
            directory,
        };
        author.write(
            "Cargo.toml",
            "[package]\nname = \"fake\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
        );
        author.write("src/lib.rs", "// 0\n");
        let cargo = author.scratch("cargo");
        fs::write(&cargo, CARGO).expect("a file of our own");
        fs::set_permissions(&cargo, Permissions::from_mode(0o755)).expect("a file of our own");
        author
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.ecosystem.scratch().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).expect("a file of our own");
    }

    fn command(&self, path: &str) -> std::process::Command {
        let mut command = self.ecosystem.command();
        command
            .env(
                "REAL_CARGO",
                std::env::var_os("CARGO").unwrap_or("cargo".into()),
            )
            .env("CARGO", self.scratch("cargo"))
            .env("BUILDS", self.scratch("builds"))
            .env("PLUGIN", self.ecosystem.plugin("counter"))
            .arg("dev")
            .arg(self.directory.join(path));
        command
    }

    /// Runs `dev` with that home until the daemon listens. Returns the running command and the line to paste.
    fn begin(&self, home: &str, variables: &[(&str, &str)]) -> (Running, String) {
        let stderr = File::create(self.scratch("stderr")).expect("a file of our own");
        let mut command = self.command("Cargo.toml");
        command
            .env("DAE_HOME", self.directory.join(home))
            .envs(variables.iter().copied())
            .stderr(stderr);
        let mut dev = Running::start(&mut command);
        let told = dev.line_with("listens on", LIMIT);
        assert!(told.starts_with("Counter "), "{told}");
        let paste = dev.line(LIMIT);
        (dev, paste.trim().to_owned())
    }

    fn builds(&self) -> usize {
        let text = fs::read_to_string(self.scratch("builds")).unwrap_or_default();
        text.lines().count()
    }

    #[track_caller]
    fn until_builds(&self, builds: usize) {
        until(LIMIT, &format!("{builds} builds"), || {
            self.builds() >= builds
        });
        assert_eq!(self.builds(), builds);
    }

    fn host(&self, home: &str, words: &[&str]) -> dae_tests::Output {
        let mut command = self.ecosystem.command();
        command
            .env("DAE_HOME", self.directory.join(home))
            .args(words);
        dae_tests::program::run(&mut command, LIMIT)
    }
}

fn end(mut dev: Running) {
    process::signal(dev.pid(), Signal::INT);
    assert_eq!(dev.end(LIMIT), Some(0));
}

#[test]
fn a_build_that_writes_a_source_comes_to_rest() {
    let author = Author::new();
    author.write("build.rs", "fn main() {}\n");
    let (dev, _) = author.begin("target/home", &[("GENERATES", "yes")]);
    until(LIMIT, "the file is taken for generated", || {
        let told = fs::read_to_string(author.scratch("stderr")).unwrap_or_default();
        told.contains("generated.rs changes in every build")
    });
    let at_rest = author.builds();
    // Each edit causes one build. An endless loop of builds would show here.
    for edit in 1..=3 {
        author.write("src/lib.rs", &format!("// {edit}\n"));
        author.until_builds(at_rest + edit);
    }
    end(dev);
}

#[test]
fn what_a_host_writes_into_a_home_in_the_crate_makes_no_build() {
    let author = Author::new();
    let (dev, paste) = author.begin("home", &[]);
    for edit in 1..=3 {
        let _ = author.host("home", &["restart", "Counter"]).ok();
        author.write("src/lib.rs", &format!("// {edit}\n"));
        author.until_builds(1 + edit);
    }
    // The line to paste works unchanged in any shell.
    let mut shell = std::process::Command::new("sh");
    let output = dae_tests::program::run(shell.args(["-c", &paste]), LIMIT).ok();
    assert!(output.json().is_object(), "{paste}: {output:?}");
    // A second `dev` in the same home ends before it builds anything.
    let mut second = author.command("");
    second.env("DAE_HOME", author.directory.join("home"));
    let output = dae_tests::program::run(&mut second, LIMIT).code(6);
    assert!(output.stdout.is_empty(), "{output:?}");
    author.until_builds(4);
    end(dev);
    // A daemon that is already installed starts only once.
    let (dev, _) = author.begin("home", &[]);
    let status = author.host("home", &["status", "Counter", "--json"]).ok();
    assert_eq!(status.json()["generation"], 1);
    end(dev);
}

#[test]
fn what_cargo_knows_is_told_before_a_build() {
    let author = Author::new();
    author.write(
        "Cargo.toml",
        "[package]\nname = \"fake\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    let output = dae_tests::program::run(&mut author.command(""), LIMIT).code(1);
    assert!(output.says(&["crate-type"]), "{output:?}");
    assert_eq!(author.builds(), 0);
}
