//! `dev`: from a plugin's source to a daemon that answers, in one command.
//!
//! Each crate is built with the cargo that is at hand, in its own directory, so that its toolchain and settings hold.
//! Then an ecosystem of its own, in the target directory, is run by this very process; the crate's daemon is installed
//! under the name that it defines itself, in place of the one of the last time. So nothing of a person's real home is
//! touched, and what a daemon has kept is still there the next time.
//!
//! From then on each crate is built again when a file of it is saved, and the daemon goes on with the new code where the
//! old one was. A compile error is shown, and the old code runs on.
//!
//! Standard output has, for each daemon, its name, its port and a line to paste; compiler and log are on standard error.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Artifact, Message, Metadata, MetadataCommand};
use serde_json::json;

use super::Session;
use super::rebuild::Sources;
use super::run;
use super::show;
use crate::Dae;
use crate::home::Home;
use crate::log::Console;
use crate::manifest::{self, Argument, Manifest};
use crate::printable;
use crate::report::{InstallRequest, Installed};

/// The directory below cargo's target directory that is the home.
const HOME_NAME: &str = "dae-dev";

/// What `dev` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directories of plugin crates
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

/// Builds, runs and shows; ends with Ctrl-C.
pub(super) fn dev(session: Session, args: &Args) -> Result<()> {
    let crates = args
        .dirs
        .iter()
        .map(|dir| Crate::at(dir))
        .collect::<Result<Vec<_>>>()?;
    // From before the first build: a person doesn't wait for it to save the next file.
    let sources = crates
        .iter()
        .map(Crate::watch)
        .collect::<Result<Vec<_>>>()?;
    let mut files = Vec::new();
    for plugin in &crates {
        files.extend(plugin.build(session.out.quiet)?);
    }
    let session = match (session.home_named, crates.first()) {
        (false, Some(first)) => in_home(session, first),
        _ => session,
    };
    let console = Console::Human {
        ansi: show::stderr_ansi(),
    };
    run::host(&session, console, async |dae: &Dae| {
        for file in &files {
            install(&session, dae, file).await?;
        }
        for (plugin, sources) in crates.into_iter().zip(sources) {
            plugin.rebuild_on_change(sources, session.out.quiet)?;
        }
        session.out.note(&format!(
            "Ctrl-C ends; elsewhere: `{}`",
            session.command_line("list")
        ));
        Ok(())
    })
}

/// The session in the home of its own: in the crate's target directory.
fn in_home(session: Session, plugin: &Crate) -> Session {
    let target = plugin.metadata.target_directory.as_std_path();
    let dir = target.join(HOME_NAME);
    Session {
        home: Home::at(&dir),
        home_named: true,
        ..session
    }
}

async fn install(session: &Session, dae: &Dae, file: &Path) -> Result<()> {
    let manifest = manifest::read(file)?;
    let request = InstallRequest {
        file: file.to_owned(),
        replace: true,
        ..InstallRequest::default()
    };
    let installed = dae.install_with(request).await?;
    let Installed {
        name,
        version,
        port,
        ..
    } = &installed;
    let port = port.context("a running host gives every daemon a port")?;
    let paste = paste(&manifest, port);
    let document = json!({"name": name, "version": version, "port": port, "paste": paste});
    let sentence = format!("{name} {version} listens on 127.0.0.1:{port}; try\n  {paste}");
    session.out.done(&document, &sentence)
}

/// A crate's directory and what cargo knows of it.
struct Crate {
    dir: PathBuf,
    metadata: Metadata,
}

impl Crate {
    fn at(dir: &Path) -> Result<Crate> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot find the directory {}", dir.display()))?;
        if !dir.join("Cargo.toml").is_file() {
            bail!("{} is not a crate: it has no Cargo.toml", dir.display());
        }
        let metadata = MetadataCommand::new()
            .cargo_path(cargo())
            .current_dir(&dir)
            .no_deps()
            .exec();
        let metadata = metadata.with_context(|| format!("cargo cannot read {}", dir.display()))?;
        Ok(Crate { dir, metadata })
    }

    fn watch(&self) -> Result<Sources> {
        let target = self.metadata.target_directory.clone().into_std_path_buf();
        Sources::watch(&self.dir, target)
    }

    /// Builds the crate again whenever its sources change. The host sees the new file by itself, and reloads.
    fn rebuild_on_change(self, sources: Sources, is_quiet: bool) -> Result<()> {
        sources.on_change(move || {
            if let Err(error) = self.build(is_quiet) {
                let text = format!("{error:#}; what runs, runs on");
                eprintln!("{}", printable::message(&text));
            }
        })
    }

    /// Builds the crate and returns its dynamic libraries; usually one.
    fn build(&self, is_quiet: bool) -> Result<Vec<PathBuf>> {
        let cargo = cargo();
        let mut child = self
            .cargo_build(is_quiet)
            .spawn()
            .with_context(|| format!("cannot run {}", cargo.display()))?;
        let stdout = child.stdout.take().context("cargo was given a pipe")?;
        let files = self.libraries(BufReader::new(stdout));
        let status = child.wait().context("cannot wait for cargo")?;
        let dir = self.dir.display();
        if !status.success() {
            bail!("cargo could not build {dir} ({status}); its reasons stand above");
        }
        let files = files?;
        if files.is_empty() {
            bail!(
                "{dir} builds no dynamic library; its Cargo.toml needs\n[lib]\ncrate-type = [\"cdylib\"]"
            );
        }
        Ok(files)
    }

    /// Messages for us on standard output; errors and progress for the person go straight to standard error.
    fn cargo_build(&self, is_quiet: bool) -> Command {
        let mut command = Command::new(cargo());
        command.args([
            "build",
            "--release",
            "--message-format=json-render-diagnostics",
        ]);
        if is_quiet {
            command.arg("--quiet");
        }
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn libraries(&self, messages: impl std::io::BufRead) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for message in Message::parse_stream(messages) {
            if let Message::CompilerArtifact(artefact) =
                message.context("cannot read what cargo says")?
            {
                files.extend(self.library(&artefact));
            }
        }
        Ok(files)
    }

    /// The artefact's dynamic library, if it is one of the crate itself: a dependency may be one too.
    fn library(&self, artefact: &Artifact) -> Option<PathBuf> {
        let ours = artefact.manifest_path.as_std_path() == self.dir.join("Cargo.toml");
        let member = self.metadata.root_package().is_none()
            && self
                .metadata
                .workspace_members
                .contains(&artefact.package_id);
        let mut files = artefact.filenames.iter();
        let file = files.find(|file| file.extension() == Some(std::env::consts::DLL_EXTENSION))?;
        (artefact.target.is_cdylib() && (ours || member)).then(|| file.clone().into_std_path_buf())
    }
}

/// The cargo that runs us, if one does, so that `cargo run -- dev` uses one toolchain throughout.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// A shell line that calls the daemon: its first command whose arguments we can make up, else the one that every
/// daemon has. A command without arguments is left alone, since it may be one that deletes something.
fn paste(manifest: &Manifest, port: u16) -> String {
    let line = manifest
        .commands
        .iter()
        .find_map(example)
        .unwrap_or_else(|| "dae".to_owned());
    format!("printf '{line}\\n' | nc -N 127.0.0.1 {port}")
}

fn example(command: &manifest::Command) -> Option<String> {
    let required = command
        .arguments
        .iter()
        .filter(|argument| !argument.optional && !argument.rest);
    let values: Vec<_> = required.map(example_value).collect::<Option<_>>()?;
    (!values.is_empty()).then(|| format!("{} [{}]", command.name, values.join(", ")))
}

fn example_value(argument: &Argument) -> Option<&'static str> {
    // As the manifest words them, for a person; what is none of these is a type of the plugin's own.
    match argument.type_name.as_str() {
        "string" => Some("\"Ada\""),
        "number" | "integer" | "integer from 0" => Some("2"),
        "boolean" => Some("true"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(commands: serde_json::Value) -> Manifest {
        let text = json!({
            "name": "Sample", "version": "0.1.0", "abi": 1, "api_version": "0.1.0", "rustc": "rustc 1.95.0",
            "target": "x86_64-unknown-linux-gnu", "panic": "unwind", "about": "", "commands": commands,
        });
        serde_json::from_value(text).expect("a manifest")
    }

    fn argument(type_name: &str) -> serde_json::Value {
        json!({"name": "a", "type": type_name, "optional": false, "rest": false})
    }

    fn command(name: &str, arguments: serde_json::Value) -> serde_json::Value {
        json!({"name": name, "doc": "", "kind": "sync", "arguments": arguments})
    }

    #[test]
    fn the_line_to_paste_is_a_command_we_have_arguments_for() {
        let greet = command("greet", json!([argument("string")]));
        let add = command("add", json!([argument("number"), argument("number")]));
        let odd = command("odd", json!([argument("string"), argument("Shape")]));
        let clear = command("clear", json!([]));
        let cases = [
            (
                json!([greet, add]),
                r#"printf 'greet ["Ada"]\n' | nc -N 127.0.0.1 4000"#,
            ),
            (
                json!([odd, clear, add]),
                r"printf 'add [2, 2]\n' | nc -N 127.0.0.1 4000",
            ),
            (
                json!([odd, clear]),
                r"printf 'dae\n' | nc -N 127.0.0.1 4000",
            ),
            (json!([]), r"printf 'dae\n' | nc -N 127.0.0.1 4000"),
        ];
        for (commands, expected) in cases {
            assert_eq!(paste(&manifest(commands), 4000), expected);
        }
    }

    #[test]
    fn a_directory_without_a_crate_is_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = |dir: &Path| format!("{:#}", Crate::at(dir).err().expect("no crate"));
        assert!(text(dir.path()).contains("no Cargo.toml"));
        assert!(text(&dir.path().join("nowhere")).contains("cannot find the directory"));
    }
}
