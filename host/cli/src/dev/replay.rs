//! Compiles an edited crate by the compiler's own command, without cargo.
//!
//! Cargo takes a while to find out that only the crate itself has changed. So a build by cargo records the command that
//! it runs for the crate: cargo runs this program as its `RUSTC_WORKSPACE_WRAPPER`, and the program writes down its
//! arguments and environment before it becomes the compiler. While only the crate's own sources change, that command is
//! run again. Every other change goes through cargo, which then records the command anew.
//!
//! A record holds the variables that cargo sets, and no tokens; the rest of the environment is this program's own. It lies
//! in a directory that only its owner can read, and is deleted once it is read. A crate with a build script is never
//! replayed: only cargo knows when that script must run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::dep_info;
use super::rebuild::Paths;
use dae_runtime::os::successor::become_program;

/// The variable that names the directory for the record. Cargo passes it on to the compiler's wrapper.
const DIRECTORY: &str = "DAE_HOST_RECORDS_RUSTC";

/// The variable by which cargo knows a wrapper for the crates of a workspace.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// The variables by which an author sets a compiler or a wrapper around it.
const COMPILERS: [&str; 6] = [
    "RUSTC",
    "RUSTC_WRAPPER",
    WRAPPER,
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
];

/// The beginnings of lines of cargo's configuration that set a compiler, a wrapper, or variables for the compiler.
const COMPILER_LINES: [&str; 4] = ["rustc", "[env", "env.", "build.rustc"];

/// The beginnings of the variables that cargo and rustup set for the compiler.
const OF_CARGO: [&str; 4] = ["CARGO", "RUST", "LD_LIBRARY_PATH", "DYLD_"];

/// The name of the record.
const FILE: &str = "rustc.json";

/// The variables that name cargo's own job server, which ends with cargo.
const JOB_SERVER: [&str; 3] = ["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS"];

/// A recorded command of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    program: String,
    arguments: Vec<String>,
    directory: PathBuf,
    environment: BTreeMap<String, String>,
}

/// A directory for the record of one build.
#[derive(Debug)]
pub(super) struct Recording(tempfile::TempDir);

impl Recording {
    /// Has a cargo command record the compiler's. Returns `None` if it can't be done here: the author has a wrapper of
    /// their own, or there is no place for a record.
    pub(super) fn of(cargo: &mut Command, dir: &Path, target: &Path) -> Option<Self> {
        if has_compiler_of_its_own(dir) {
            return None;
        }
        // The program's file may have been replaced since it was started.
        let program = std::env::current_exe().ok().filter(|file| file.is_file())?;
        fs::create_dir_all(target).ok()?;
        // Only the owner may enter a temporary directory. One that a killed `dev` leaves behind goes with `cargo clean`.
        let directory = tempfile::tempdir_in(target).ok()?;
        cargo.env(WRAPPER, program).env(DIRECTORY, directory.path());
        Some(Recording(directory))
    }

    /// Returns the command of a build that has ended, for the crate in `dir`; `None` if that build has not compiled it.
    pub(super) fn finish(self, dir: &Path) -> Option<Recorded> {
        let record = fs::read(self.0.path().join(FILE)).ok()?;
        let recorded: Recorded = serde_json::from_slice(&record).ok()?;
        let compiled = recorded.environment.get("CARGO_MANIFEST_DIR")?;
        (Path::new(compiled) == dir).then_some(recorded)
    }
}

/// Returns whether the author has chosen a compiler, a wrapper around it, or variables for it. A wrapper such as sccache
/// would take this program for a compiler that it doesn't know.
fn has_compiler_of_its_own(dir: &Path) -> bool {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let dirs = dir.ancestors().map(|dir| dir.join(".cargo")).chain(home);
    let files = dirs.flat_map(|dir| ["config.toml", "config"].map(|name| dir.join(name)));
    let mut texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let sets = |line: &str| {
        COMPILER_LINES
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    COMPILERS.iter().any(is_set) || texts.any(|text| text.lines().any(sets))
}

/// Becomes the compiler if this process is its wrapper, and writes down its command for a dynamic library. Otherwise
/// returns `None`.
pub(crate) fn become_compiler() -> Option<ExitCode> {
    let directory = std::env::var_os(DIRECTORY)?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next()?;
    let is_compiler = Path::new(&program)
        .file_stem()
        .is_some_and(|stem| stem.as_encoded_bytes().starts_with(b"rustc"));
    if !is_compiler {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    if let Some(recorded) = Recorded::here(&program, &arguments)
        && let Ok(text) = serde_json::to_vec(&recorded)
    {
        // Without a record, the next build goes through cargo again.
        let _ = fs::write(Path::new(&directory).join(FILE), text);
    }
    let mut compiler = Command::new(&program);
    let became = become_program(compiler.args(arguments).env_remove(DIRECTORY));
    Some(became.unwrap_or_else(|error| {
        let text = format!("cannot run {}: {error}", program.to_string_lossy());
        eprintln!("dae-host: {}", dae_store::printable::message(&text));
        ExitCode::FAILURE
    }))
}

impl Recorded {
    /// Returns this process's command if it compiles a dynamic library, and if all of it is UTF-8.
    fn here(program: &OsString, arguments: &[OsString]) -> Option<Self> {
        let text = |text: &OsString| text.to_str().map(str::to_owned);
        let arguments: Vec<String> = arguments.iter().map(text).collect::<Option<_>>()?;
        let makes_library = arguments
            .windows(2)
            .any(|pair| pair[0] == "--crate-type" && pair[1] == "cdylib");
        if !makes_library {
            return None;
        }
        let variables = std::env::vars_os().filter(|(name, _)| is_of_cargo(name));
        let variables = variables.map(|(name, value)| Some((text(&name)?, text(&value)?)));
        let environment = variables.collect::<Option<_>>()?;
        Some(Recorded {
            program: text(program)?,
            arguments,
            directory: std::env::current_dir().ok()?,
            environment,
        })
    }

    /// Returns the command, with messages for a person.
    pub(super) fn command(&self, is_coloured: bool) -> Command {
        // Cargo asks for JSON, and prints the text in it.
        let is_for_cargo = |argument: &&String| {
            argument.starts_with("--error-format") || argument.starts_with("--json")
        };
        let arguments = self
            .arguments
            .iter()
            .filter(|argument| !is_for_cargo(argument));
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .arg(match is_coloured {
                true => "--color=always",
                false => "--color=never",
            })
            .current_dir(&self.directory)
            .envs(&self.environment);
        for name in JOB_SERVER {
            command.env_remove(name);
        }
        command
    }

    /// Returns the file that the command makes, and the list of the sources that it reads.
    fn output(&self) -> Option<(PathBuf, PathBuf)> {
        let directory = self.directory.join(self.value_of("--out-dir")?);
        let name = self.value_of("--crate-name")?;
        let suffix = self
            .arguments
            .iter()
            .find_map(|argument| argument.strip_prefix("extra-filename="))
            .unwrap_or_default();
        let (prefix, extension) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let library = directory.join(format!("{prefix}{name}{extension}"));
        Some((library, directory.join(format!("{name}{suffix}.d"))))
    }

    fn value_of(&self, option: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == option)?;
        arguments.next().map(String::as_str)
    }

    /// Returns the crate's own sources, as of the last run of the compiler.
    pub(super) fn sources(&self) -> Option<Paths> {
        let (_, list) = self.output()?;
        dep_info::read(&list, &self.directory)
    }

    /// Puts the compiled library in the place of the one that cargo has built, as cargo does after a build.
    pub(super) fn put_in_place(&self, file: &Path) -> Result<()> {
        let (library, _) = self
            .output()
            .context("the compiler's command has no output")?;
        if library == file {
            return Ok(());
        }
        let passing = file.with_extension("new");
        let linked = remove(&passing)
            // Not every file system has links.
            .and_then(|()| {
                fs::hard_link(&library, &passing)
                    .or_else(|_| fs::copy(&library, &passing).map(drop))
            })
            .and_then(|()| fs::rename(&passing, file));
        linked.with_context(|| format!("cannot put {} in its place", file.display()))?;
        // Two names of one file stay two.
        let _ = remove(&passing);
        Ok(())
    }
}

/// Returns whether cargo may have set a variable for the compiler. Those with a token are for cargo itself.
fn is_of_cargo(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let is_known = OF_CARGO.iter().any(|start| name.starts_with(start));
    is_known && !name.contains("TOKEN") && !JOB_SERVER.contains(&&*name)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(arguments: &[&str]) -> Recorded {
        Recorded {
            program: "/bin/rustc".to_owned(),
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
            directory: PathBuf::from("/crate"),
            environment: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        }
    }

    #[test]
    fn the_command_is_cargos_with_messages_for_a_person() {
        let recorded = recorded(&[
            "--crate-name",
            "my_plugin",
            "--error-format=json",
            "--json=artifacts",
            "--crate-type",
            "cdylib",
            "-C",
            "metadata=1",
            "--out-dir",
            "target/deps",
        ]);
        let command = recorded.command(false);
        let arguments: Vec<_> = command.get_args().collect();
        assert!(
            !arguments
                .iter()
                .any(|one| one.to_string_lossy().contains("json"))
        );
        assert_eq!(arguments.last().unwrap(), &"--color=never");
        assert_eq!(command.get_current_dir(), Some(Path::new("/crate")));
        let (library, list) = recorded.output().unwrap();
        assert_eq!(list, Path::new("/crate/target/deps/my_plugin.d"));
        assert!(library.starts_with("/crate/target/deps"));
    }

    #[test]
    fn a_wrapper_of_the_authors_own_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut cargo = Command::new("cargo");
        let config = dir.path().join(".cargo/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        fs::write(&config, "[build]\nrustc-wrapper = \"sccache\"\n").unwrap();
        let target = dir.path().join("target");
        assert!(Recording::of(&mut cargo, dir.path(), &target).is_none());
        assert_eq!(cargo.get_envs().count(), 0);
        for (name, expected) in [
            ("CARGO_PKG_NAME", true),
            ("CARGO_REGISTRY_TOKEN", false),
            ("CARGO_MAKEFLAGS", false),
            ("PASSWORD", false),
        ] {
            assert_eq!(is_of_cargo(&name.into()), expected, "{name}");
        }
    }
}
