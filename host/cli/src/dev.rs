//! `dev`: builds plugins from source and runs their daemons, in one command.
//!
//! Each crate is built in its own directory by the cargo at hand, so that its toolchain and settings apply. This
//! process then runs a separate ecosystem in the target directory. It installs each crate's daemon there under the
//! plugin's own name, in place of the one from the last run. So the user's real home is untouched, and a daemon finds
//! its state again the next time.
//!
//! After that, a crate is built again when one of its files is saved, and the daemon continues with the new code and
//! its state. If a build fails, its error is shown and the old code keeps running.
//!
//! Standard output gets each daemon's name, its port and a command line to paste. The compiler's output and the log go
//! to standard error.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::Session;
use super::offline;
use super::package::Crate;
use super::rebuild::Sources;
use super::run;
use super::show;
use super::words;
use dae_host::Dae;
use dae_store::home::Home;
use dae_store::log::Console;
use dae_store::manifest::{self, Argument, Manifest};
use dae_store::registry::Registry;
use dae_store::report::{InstallRequest, Status};

/// The program's name at the start of its own command lines.
const PROGRAM: &str = "dae-host";

/// The home's directory below cargo's target directory.
const HOME_NAME: &str = "dae-dev";

/// The arguments of `dev`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directories of plugin crates
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

/// Builds the crates and runs their daemons until Ctrl-C.
pub(super) fn dev(session: Session, args: &Args) -> Result<()> {
    let crates = args
        .dirs
        .iter()
        .map(|dir| Crate::at(dir))
        .collect::<Result<Vec<_>>>()?;
    let session = match (session.home_named, crates.first()) {
        (false, Some(first)) => in_home(session, first),
        _ => session,
    };
    // Check before the build, which may take minutes.
    if let Some(held) = session.home.holder() {
        return Err(held.into());
    }
    // Watch from before the first build: the next file may be saved while it runs.
    let sources: Vec<Sources> = crates.iter().map(|plugin| plugin.watch(&session)).collect();
    let mut files = Vec::new();
    for plugin in &crates {
        files.extend(plugin.build(session.out.quiet)?.files);
    }
    let present = replace_present(&session.home, &files)?;
    let console = Console::Human {
        ansi: show::stderr_ansi(),
    };
    run::host(&session, console, async |dae: &Dae| {
        install_all(&session, dae, (&files, &present)).await?;
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

/// Returns the session with a home in the crate's target directory.
fn in_home(session: Session, plugin: &Crate) -> Session {
    let dir = plugin.target_directory().join(HOME_NAME);
    Session {
        home: Home::at(&dir),
        home_named: true,
        ..session
    }
}

/// Replaces the files of the daemons that the home already has, so that these start once and with the new files.
/// Returns their names.
fn replace_present(home: &Home, files: &[PathBuf]) -> Result<HashSet<String>> {
    home.create()?;
    let _lock = home.lock()?;
    let registry = Registry::load(&home.registry_file())?;
    let mut present = HashSet::new();
    for file in files {
        let name = manifest::read(file)?.name;
        if registry.daemons.contains_key(&name) {
            offline::install(home, request(file))?;
            present.insert(name);
        }
    }
    Ok(present)
}

fn request(file: &Path) -> InstallRequest {
    InstallRequest {
        file: file.to_owned(),
        replace: true,
        ..InstallRequest::default()
    }
}

/// Installs the files whose daemons are not present yet, and prints the port of each daemon.
async fn install_all(
    session: &Session,
    dae: &Dae,
    (files, present): (&[PathBuf], &HashSet<String>),
) -> Result<()> {
    dae.ready().await;
    for file in files {
        let name = manifest::read(file)?.name;
        if !present.contains(&name) {
            dae.install_with(request(file)).await?;
        }
        announce(session, dae, file)?;
    }
    Ok(())
}

fn announce(session: &Session, dae: &Dae, file: &Path) -> Result<()> {
    let manifest = manifest::read(file)?;
    let status = dae.status(&manifest.name)?;
    let Status { name, version, .. } = &status;
    let port = match (status.state.as_str(), status.port) {
        ("ready", Some(port)) => port,
        ("stopped", _) => {
            let start = session.command_line(&format!("start {name}"));
            session.out.note(&format!(
                "{name} was stopped and stays so; `{start}` starts it"
            ));
            return Ok(());
        }
        (state, _) => bail!("{name} does not start: it is {state} ({})", status.reason),
    };
    let paste = paste(session, &manifest);
    let document = json!({"name": name, "version": version, "port": port, "paste": paste});
    let sentence = format!("{name} {version} listens on 127.0.0.1:{port}; try\n  {paste}");
    session.out.done(&document, &sentence)
}

/// Returns a command line that calls the daemon: its first command whose arguments can be made up, else `dae`, which
/// every daemon has. A command without arguments is never called, since it may delete something. `nc` would do as well,
/// but each variant of it needs other options to end a conversation.
fn paste(session: &Session, manifest: &Manifest) -> String {
    let example = manifest.commands.iter().find_map(example);
    let command = example.unwrap_or_else(|| "dae".to_owned());
    let line = session.command_line(&format!(
        "call {} {command}",
        words::shell_word(&manifest.name)
    ));
    match line.strip_prefix(PROGRAM) {
        Some(rest) => format!("{}{rest}", program()),
        None => line,
    }
}

/// Returns this program as a shell finds it: by name if it is on the search path, else by its own path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else {
        return PROGRAM.to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(PROGRAM));
    let mut found = found.filter_map(|file| file.canonicalize().ok());
    match found.next() == own.canonicalize().ok() {
        true => PROGRAM.to_owned(),
        false => words::shell_word(&own.to_string_lossy()).into_owned(),
    }
}

fn example(command: &manifest::Command) -> Option<String> {
    let required = command
        .arguments
        .iter()
        .filter(|argument| !argument.optional && !argument.rest);
    let values: Vec<_> = required.map(example_value).collect::<Option<_>>()?;
    let name = words::shell_word(&command.name);
    (!values.is_empty()).then(|| format!("{name} {}", values.join(" ")))
}

fn example_value(argument: &Argument) -> Option<&'static str> {
    // The manifest's words for types; any other type is the plugin's own.
    match argument.type_name.as_str() {
        "string" => Some("Ada"),
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
            (json!([greet, add]), "greet Ada"),
            (json!([odd, clear, add]), "add 2 2"),
            (json!([odd, clear]), "dae"),
            (json!([]), "dae"),
        ];
        let session = Session {
            home: Home::at("/h"),
            home_named: true,
            out: show::Out::new(false, false),
            verbose: 0,
        };
        for (commands, expected) in cases {
            let line = paste(&session, &manifest(commands));
            let expected = format!(" --home /h call Sample {expected}");
            assert!(line.ends_with(&expected), "{line}");
        }
    }
}
