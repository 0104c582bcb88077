//! `dev`, with a stand-in for cargo and rustc: no cargo for Windows can be had here.
//!
//! The stand-in is the fixture `toolchain`, which copies a library in place of compiling one. So these tests show that
//! `dev` asks cargo, records and repeats the compiler's command, sees a save, and ends what it has started. `reload::dev`
//! of the end-to-end tests shows on Linux alone that edited code is compiled.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dae_tests::program::Running;
use dae_tests::{spoil, until, until_some};
use serde_json::json;

use crate::host::{Host, PATIENT, START_MAX};
use crate::program::Program;

/// The variables by which an author chooses a compiler. `dev` then records no command of it.
const OF_COMPILERS: [&str; 7] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "DAE_HOST_RECORDS_RUSTC",
];

/// The author of a plugin crate.
struct Author {
    program: &'static Program,
    host: Host,
}

impl Author {
    fn new(program: &'static Program) -> Self {
        let host = Host::asleep(program);
        let author = Author { program, host };
        fs::create_dir_all(author.in_crate("src")).expect("a directory of our own");
        author.save("Cargo.toml", "# 0\n");
        author
    }

    fn in_crate(&self, name: &str) -> PathBuf {
        self.host.scratch("crate").join(name)
    }

    /// Saves a file of the crate at once, as editors do.
    fn save(&self, name: &str, text: &str) {
        let saved = self.host.scratch("saved");
        fs::write(&saved, text).expect("a file of our own");
        fs::rename(saved, self.in_crate(name)).expect("a file of our own");
    }

    /// Saves a source whose library answers with this version.
    fn save_version(&self, version: u64) {
        let recipe = fs::read(self.program.plugin("recipe")).expect("a plugin");
        let library = spoil::of_recipe(recipe, &json!({"version": version}));
        let file = self.host.scratch(&format!("version-{version}"));
        fs::write(&file, library).expect("a file of our own");
        self.save("src/lib.rs", &format!("// {}\n", self.host.path(&file)));
    }

    /// Starts `dev`, and waits until its daemon listens.
    fn start(&self) -> Running {
        for name in ["cargo", "rustc"] {
            let link = self.tool(name);
            symlink(self.program.beside("stand-in"), link).expect("a name of our own");
        }
        let mut command = self.host.command();
        for variable in OF_COMPILERS {
            command.env_remove(variable);
        }
        command
            .env("CARGO", self.host.path(&self.tool("cargo")))
            .env(
                "CARGO_HOME",
                self.host.path(&self.host.scratch("cargo-home")),
            )
            .args(["dev", &self.host.path(&self.host.scratch("crate"))])
            .stderr(File::create(self.host.scratch("stderr")).expect("a file of our own"));
        let mut dev = Running::start(&mut command);
        let line = dev.line_within(START_MAX);
        let line = line.unwrap_or_else(|| panic!("`dev` has ended:\n{}", self.told()));
        assert!(line.starts_with("Recipe 0.1.0 listens on"), "{line}");
        dev
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.host.scratch(&self.program.executable(name))
    }

    fn told(&self) -> String {
        fs::read_to_string(self.host.scratch("stderr")).unwrap_or_default()
    }

    #[track_caller]
    fn until_told(&self, part: &str) {
        until(PATIENT, &format!("`dev` says {part:?}"), || {
            self.told().contains(part)
        });
    }

    #[track_caller]
    fn until_version(&self, version: u64) {
        until(PATIENT, &format!("version {version} runs"), || {
            let answer = self.host.cli(&["call", "Recipe", "version"]);
            answer.status == 0 && answer.stdout.trim() == version.to_string()
        });
    }

    /// Saves a source at which the compiler hangs, through cargo, and returns the port that is there as long as the
    /// compiler is.
    fn hang(&self) -> u16 {
        let file = self.in_crate("hangs");
        let _ = fs::remove_file(&file);
        self.save("src/lib.rs", "// hangs\n");
        until_some(PATIENT, "the compiler hangs", || {
            let port = fs::read_to_string(&file).ok()?.parse().ok()?;
            is_there(port).then_some(port)
        })
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- `dev` wrote:\n{}---", self.told());
        }
    }
}

fn is_there(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn dev_runs_what_each_save_makes_until_it_is_shut_down() {
    let Some(program) = Program::asked() else {
        return;
    };
    let author = Author::new(program);
    author.save_version(1);
    let mut dev = author.start();
    assert_eq!(author.host.call(&["Recipe", "version"]), "1");
    assert_eq!(author.host.call(&["Recipe", "increment", "7"]), "[7,1,1]");
    author.save_version(2);
    author.until_version(2);
    author.until_told("Recipe: saved → rustc ");
    author.save("Cargo.toml", "# 1\n");
    author.until_told("Recipe: saved → cargo ");
    author.save("src/lib.rs", "// no-such-library\n");
    author.until_told("what runs, runs on");
    assert_eq!(author.host.call(&["Recipe", "version"]), "2");
    author.save_version(3);
    author.until_version(3);
    let counted = author.host.call(&["Recipe", "increment", "8"]);
    assert_eq!(counted, "[8,3,2]", "the state went along");
    let _ = author.host.cli(&["shutdown"]).ok();
    assert_eq!(dev.end(PATIENT), Some(0), "{}", author.told());
}

#[test]
fn a_build_ends_with_the_compiler_that_it_has_started() {
    let Some(program) = Program::asked() else {
        return;
    };
    let author = Author::new(program);
    author.save_version(1);
    let mut dev = author.start();
    // A manifest that has changed takes the build through cargo, whose child the compiler is.
    author.save("Cargo.toml", "# 1\n");
    let first = author.hang();
    author.save_version(2);
    author.until_version(2);
    until(PATIENT, "a newer save ends the build", || !is_there(first));
    author.save("Cargo.toml", "# 2\n");
    let second = author.hang();
    let _ = author.host.cli(&["shutdown"]).ok();
    assert_eq!(dev.end(PATIENT), Some(0), "{}", author.told());
    until(PATIENT, "`dev` ends the build", || !is_there(second));
}

#[test]
fn a_crate_without_a_cargo_is_told_what_to_do() {
    let Some(program) = Program::asked() else {
        return;
    };
    let author = Author::new(program);
    let mut command = author.host.command();
    let none: &Path = &author.host.scratch("no-cargo");
    command
        .env("CARGO", author.host.path(none))
        .args(["dev", &author.host.path(&author.host.scratch("crate"))]);
    let output = dae_tests::program::run(&mut command, PATIENT).code(1);
    for word in ["no-cargo", "rustup", "PATH", "CARGO"] {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
}
