//! `dae-host dev` around the build: the changes that cause one, those that don't, and the messages before it.
//!
//! A script stands in for cargo, which takes seconds for each build. The script counts the builds, and copies a plugin
//! of the workspace as their result. `reload::dev` tests with the real cargo that edited code runs.

mod options;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dae_tests::{Ecosystem, LIMIT, Running, process, program, spoil, until};
use rustix::process::Signal;
use serde_json::json;

/// A stand-in for cargo. It passes `metadata` to the real cargo. A build adds a line with its process id and its
/// arguments to `builds`. As the test asks, it writes a source file, never ends if there is a file `hang`, fails if there is
/// one `fails`, and lists the sources that it has read.
const CARGO: &str = r#"#!/bin/sh
set -e
[ "$1" = metadata ] && exec "$REAL_CARGO" "$@"
echo "$$ $*" >>"$BUILDS"
[ -z "$GENERATES" ] || date +%s%N >"$PWD/src/generated.rs"
[ ! -e "$BUILDS.hang" ] || sleep 1000
[ ! -e "$BUILDS.fails" ] || exit 101
[ -z "$LISTS" ] || echo "$BUILDS.so: $PWD/src/lib.rs" >"$BUILDS.d"
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
        program::write_script(&cargo, CARGO);
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

    /// Runs `dev`, whose builds have this file as their result, and doesn't wait for its daemon.
    fn begin_unready(&self, plugin: &Path, arguments: &[&str]) -> Running {
        let stderr = File::create(self.scratch("stderr")).expect("a file of our own");
        let mut command = self.command("Cargo.toml");
        command
            .env("DAE_HOME", self.directory.join("home"))
            .env("PLUGIN", plugin)
            .args(arguments)
            .stderr(stderr);
        Running::start(&mut command)
    }

    /// Runs `dev` with these arguments until the daemon listens.
    fn begin_with(&self, path: &str, arguments: &[&str]) -> Running {
        let mut command = self.command(path);
        command
            .env("DAE_HOME", self.directory.join("home"))
            .args(arguments);
        let mut dev = Running::start(&mut command);
        let _ = dev.line_with("listens on", LIMIT);
        dev
    }

    fn builds(&self) -> usize {
        self.build_lines().len()
    }

    /// Returns the process ids and arguments of the builds.
    fn build_lines(&self) -> Vec<(u32, String)> {
        let text = fs::read_to_string(self.scratch("builds")).unwrap_or_default();
        let line = |line: &str| {
            let (pid, arguments) = line.split_once(' ').expect("a pid and arguments");
            (pid.parse().expect("a pid"), arguments.to_owned())
        };
        text.lines().map(line).collect()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.scratch("stderr")).unwrap_or_default()
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

#[test]
fn a_missing_cargo_is_named_with_what_to_do() {
    let author = Author::new();
    let mut command = author.command("");
    command.env("CARGO", author.scratch("no-cargo"));
    let output = dae_tests::program::run(&mut command, LIMIT).code(1);
    for word in ["no-cargo", "rustup", "PATH", "CARGO"] {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
}

/// A stand-in for a compiler that was built before the edition of the crates.
#[test]
fn a_compiler_that_is_too_old_is_named_with_what_to_do() {
    let author = Author::new();
    let rustc = author.scratch("rustc");
    let version = "rustc 1.84.1 (e71f9a9a9 2025-01-27)";
    program::write_script(&rustc, &format!("#!/bin/sh\necho '{version}'\n"));
    let path = std::env::var_os("PATH").expect("a search path");
    let path = std::iter::once(author.ecosystem.scratch()).chain(std::env::split_paths(&path));
    let mut command = author.command("");
    command
        .env("PATH", std::env::join_paths(path).expect("a search path"))
        .stderr(File::create(author.scratch("stderr")).expect("a file of our own"));
    fs::write(author.scratch("builds.fails"), "").expect("a file of our own");
    let dev = Running::start(&mut command);
    until(LIMIT, "the failure", || {
        author.told().contains("the next save builds again")
    });
    drop(dev);
    let told = author.told();
    for part in ["could not build", "rustc 1.84.1", "1.85", "rustup update"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("no linker"), "{told}");
}

#[test]
fn a_crate_that_names_a_version_of_the_api_is_built_with_the_programs_own() {
    const PATCH: &str = "[patch.crates-io]\ndae-plugin-api = { path = \"api\" }\n";
    let cases = [
        ("\"0.1.0\"", "", "", true),
        ("\"0.9.0\"", "", "", false),
        ("{ path = \"api\" }", "", "", false),
        ("\"0.1.0\"", PATCH, "", false),
        ("\"0.1.0\"", "", PATCH, false),
    ];
    for (dependency, patch, configuration, is_replaced) in cases {
        let author = Author::new();
        let manifest = fs::read_to_string(author.directory.join("Cargo.toml")).expect("a manifest");
        let manifest = format!("{manifest}[dependencies]\ndae-plugin-api = {dependency}\n{patch}");
        author.write("Cargo.toml", &manifest);
        fs::create_dir_all(author.directory.join("api/src")).expect("a directory of our own");
        author.write(
            "api/Cargo.toml",
            "[package]\nname = \"dae-plugin-api\"\nversion = \"0.1.0\"\n",
        );
        author.write("api/src/lib.rs", "");
        fs::create_dir_all(author.directory.join(".cargo")).expect("a directory of our own");
        author.write(".cargo/config.toml", configuration);
        end(author.begin_with("Cargo.toml", &[]));
        let (_, line) = author.build_lines().remove(0);
        let replacement = "--config patch.crates-io.dae-plugin-api.path=";
        assert_eq!(
            line.contains(replacement),
            is_replaced,
            "{manifest}{configuration}: {line}"
        );
    }
}

#[test]
fn a_first_build_that_fails_waits_for_the_next_save() {
    let author = Author::new();
    let fails = author.scratch("builds.fails");
    fs::write(&fails, "").expect("a file of our own");
    let mut dev = author.begin_unready(&author.ecosystem.plugin("counter"), &[]);
    for (edit, builds) in [("// 1\n", 1), ("// 2\n", 2)] {
        until(LIMIT, "the failure", || {
            author.told().matches("the next save builds again").count() == builds
        });
        if builds == 2 {
            fs::remove_file(&fails).expect("a file of our own");
        }
        author.write("src/lib.rs", edit);
    }
    let _ = dev.line_with("Counter 0.1.0 listens on", LIMIT);
    end(dev);
}

#[test]
fn a_first_file_that_cannot_run_waits_for_the_next_save() {
    let author = Author::new();
    let plugin = author.scratch("plugin.so");
    let recipe = fs::read(author.ecosystem.plugin("recipe")).expect("a plugin");
    let of_recipe = |recipe_json: &serde_json::Value| spoil::of_recipe(recipe.clone(), recipe_json);
    fs::copy(author.ecosystem.plugin("no_daemon"), &plugin).expect("a file of our own");
    let mut dev = author.begin_unready(&plugin, &[]);
    let until_told = |words: &str| until(LIMIT, words, || author.told().contains(words));
    // A library without a daemon, a daemon that doesn't start, one that does.
    until_told("the next save builds again");
    let fails = json!({"version": 1, "start": "panic"});
    fs::write(&plugin, of_recipe(&fails)).expect("a file of our own");
    author.write("src/lib.rs", "// 1\n");
    until_told("the next save tries again");
    fs::write(&plugin, of_recipe(&json!({"version": 2}))).expect("a file of our own");
    author.write("src/lib.rs", "// 2\n");
    let _ = dev.line_with("Recipe 0.1.0 listens on", LIMIT);
    end(dev);
}

#[test]
fn a_newer_save_ends_the_build_that_runs_and_the_end_of_dev_ends_the_last() {
    let author = Author::new();
    let (dev, _) = author.begin("home", &[]);
    fs::write(author.scratch("builds.hang"), "").expect("a file of our own");
    author.write("src/lib.rs", "// 1\n");
    author.until_builds(2);
    author.write("src/lib.rs", "// 2\n");
    // The second save may be seen twice: when the file is empty, and when it is whole.
    until(LIMIT, "a build for the second save", || author.builds() > 2);
    until(LIMIT, "the builds before it have ended", || {
        let mut builds = author.build_lines().into_iter().rev();
        builds.next().is_some_and(|(pid, _)| !process::is_gone(pid))
            && builds.all(|(pid, _)| process::is_gone(pid))
    });
    let (last, _) = author.build_lines().pop().expect("three builds");
    end(dev);
    until(LIMIT, "the last build has ended with `dev`", || {
        process::is_gone(last)
    });
}

#[test]
fn a_second_ctrl_c_ends_dev_and_its_build_at_once() {
    for arguments in [&[][..], &["--embed"]] {
        let author = Author::new();
        let hangs = [arguments, &["--config", r#"{"stop": "block"}"#]].concat();
        let mut dev = author.begin_unready(&author.ecosystem.plugin("lifecycle"), &hangs);
        let _ = dev.line_with("listens on", LIMIT);
        fs::write(author.scratch("builds.hang"), "").expect("a file of our own");
        author.write("src/lib.rs", "// 1\n");
        // The save may be seen twice, as above.
        until(LIMIT, "a build for the save", || author.builds() > 1);
        let (build, _) = author.build_lines().pop().expect("two builds");
        process::signal(dev.pid(), Signal::INT);
        until(LIMIT, "the stop is under way", || {
            author.told().contains("step: stop")
        });
        process::signal(dev.pid(), Signal::INT);
        assert_eq!(dev.end(LIMIT), Some(130), "{arguments:?}");
        until(LIMIT, "the build has ended", || process::is_gone(build));
    }
}

#[test]
fn a_file_that_every_build_writes_does_not_keep_builds_from_their_end() {
    let author = Author::new();
    // Without a build script, nothing but its own changes shows that the file is generated.
    let (dev, _) = author.begin("home", &[("GENERATES", "yes")]);
    let ends = || author.told().matches("took over").count();
    author.write("src/lib.rs", "// 1\n");
    until(LIMIT, "the file is taken for generated", || {
        author
            .told()
            .contains("generated.rs changes in every build")
    });
    let before = ends();
    author.write("src/lib.rs", "// 2\n");
    until(LIMIT, "the edit has been built", || ends() > before);
    end(dev);
}

/// Such a save is one of a person, and no build has written the file.
#[test]
fn saves_while_new_code_takes_over_are_all_built() {
    const SAVES: usize = 12;
    let author = Author::new();
    let plugin = author.scratch("plugin.so");
    let recipe = fs::read(author.ecosystem.plugin("recipe")).expect("a plugin");
    let build_of = |version: usize| {
        let bytes = spoil::of_recipe(recipe.clone(), &json!({"version": version}));
        fs::write(&plugin, bytes).expect("a file of our own");
    };
    build_of(0);
    // Each state takes so long that the next save comes while the new code waits for it.
    let mut dev = author.begin_unready(&plugin, &["--config", r#"{"save_ms": 300}"#]);
    let _ = dev.line_with("listens on", LIMIT);
    for number in 1..=SAVES {
        build_of(number);
        let saved = author.scratch("saved.rs");
        fs::write(&saved, format!("// {number}\n")).expect("a file of our own");
        fs::rename(saved, author.directory.join("src/lib.rs")).expect("a file of our own");
        author.until_builds(number + 1);
        let (build, _) = author.build_lines().pop().expect("a build");
        until(LIMIT, "the build has ended", || process::is_gone(build));
    }
    until(LIMIT, "the last save runs", || {
        let output = author.host("home", &["call", "Recipe", "version"]).ok();
        output.stdout.trim() == SAVES.to_string()
    });
    assert!(
        !author.told().contains("taken for generated"),
        "{}",
        author.told()
    );
    end(dev);
}

#[test]
fn only_what_a_build_reads_makes_a_build() {
    let author = Author::new();
    author.write("README.md", "one");
    let (dev, _) = author.begin("home", &[("LISTS", "yes")]);
    author.write("README.md", "two");
    author.write("notes.rs", "a new file that no build reads");
    // An edit after them is built once; theirs would have come before it.
    author.write("src/lib.rs", "// 1\n");
    author.until_builds(2);
    until(LIMIT, "the edit runs", || {
        author.told().contains("took over")
    });
    let manifest = fs::read_to_string(author.directory.join("Cargo.toml")).expect("a manifest");
    author.write("Cargo.toml", &format!("{manifest}\n"));
    author.until_builds(3);
    end(dev);
}

#[test]
fn a_workspace_is_asked_for_its_plugin_before_anything_is_built() {
    let author = Author::new();
    let workspace = |members: &str| {
        author.write(
            "Cargo.toml",
            &format!("[workspace]\nmembers = [{members}]\n"),
        );
    };
    let member = |name: &str, library: &str| {
        let directory = author.directory.join(name);
        fs::create_dir_all(directory.join("src")).expect("a directory of our own");
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n[lib]\n{library}\n");
        author.write(&format!("{name}/Cargo.toml"), &manifest);
        author.write(&format!("{name}/src/lib.rs"), "");
    };
    let plugin = "crate-type = [\"cdylib\"]";
    member("one", plugin);
    member("two", plugin);
    member("plain", "");
    workspace("\"one\", \"plain\", \"two\"");
    let output = dae_tests::program::run(&mut author.command(""), LIMIT).code(1);
    for word in ["2 plugins", "dae-host dev ", "/one", "/two"] {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
    assert!(!output.stderr.contains("plain"), "{output:?}");
    workspace("\"plain\"");
    let output = dae_tests::program::run(&mut author.command(""), LIMIT).code(1);
    assert!(output.stderr.contains("without a plugin"), "{output:?}");
    assert_eq!(author.builds(), 0);
    // The only plugin of a workspace is meant.
    workspace("\"one\", \"plain\"");
    end(author.begin_with("", &[]));
}

/// Returns the home of an author, and a line of the shell that runs `dev` for a crate. `DAE` in it stands for the program.
pub(crate) fn line_of_shell() -> (Ecosystem, String) {
    let author = Author::new();
    let command = author.command("Cargo.toml");
    let own = ["CARGO", "REAL_CARGO", "BUILDS", "PLUGIN"];
    let variables = command.get_envs().filter_map(|(name, value)| {
        let (name, value) = (name.to_str()?, value?.to_str()?);
        own.contains(&name)
            .then(|| format!("export {name}={value}; "))
    });
    let crate_file = author.directory.join("Cargo.toml");
    let line = variables.collect::<String>() + &format!("DAE dev {}", crate_file.display());
    (author.ecosystem, line)
}

/// Runs `dev` at a terminal of its own, which the program `script` makes. The keys come from the given reader.
fn at_terminal(author: &Author, keyboard: std::io::PipeReader) -> Running {
    let line = author.command("Cargo.toml");
    let words = std::iter::once(line.get_program()).chain(line.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let variables = line
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut script = std::process::Command::new("script");
    script
        .args(["--quiet", "--flush", "--return", "--command"])
        .args([&words.join(" "), "/dev/null"])
        .envs(variables)
        .env("DAE_HOME", author.directory.join("home"))
        .stdin(keyboard);
    Running::start(&mut script)
}

#[test]
fn keys_at_a_terminal_build_clear_and_end() {
    let author = Author::new();
    let (read, mut keyboard) = std::io::pipe().expect("a pipe");
    let mut dev = at_terminal(&author, read);
    let _ = dev.line_with("keys: ", LIMIT);
    keyboard.write_all(b"r").expect("`script` reads");
    author.until_builds(2);
    // The key ends a build that runs, as a save does.
    let hang = author.scratch("builds.hang");
    fs::write(&hang, "").expect("a file of our own");
    keyboard.write_all(b"r").expect("`script` reads");
    author.until_builds(3);
    let (hanging, _) = author.build_lines().pop().expect("three builds");
    fs::remove_file(&hang).expect("a file of our own");
    keyboard.write_all(b"r").expect("`script` reads");
    author.until_builds(4);
    until(LIMIT, "the build that hung has ended", || {
        process::is_gone(hanging)
    });
    keyboard.write_all(b"c").expect("`script` reads");
    let _ = dev.line_with("\x1b[2J", LIMIT);
    keyboard.write_all(b"q").expect("`script` reads");
    assert_eq!(dev.end(LIMIT), Some(0));
}
