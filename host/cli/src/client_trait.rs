//! `client`: writes the source of a client with types, from what a running daemon or a plugin's file describes.
//!
//! `types` chooses a Rust type for each schema, `names` an identifier for each name, and `source` writes both in the form
//! that rustfmt gives them. Nothing of the plugin runs: the schemas of an author's own types, which only its code can
//! make, come from the running daemon.

mod names;
mod source;
mod types;

use std::collections::BTreeMap;
use std::env::consts::DLL_EXTENSION;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Session;
use super::guest::DaemonAddress;
use dae_store::json_form::text_or_null;
use dae_store::manifest::{self, Manifest};

/// The arguments of `client`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!(
        "A target with a slash or with the ending `{}` is a file. A file has no schemas of the author's own types; they \
         are `json::Value` there.",
        std::env::consts::DLL_SUFFIX
    )
)]
pub(super) struct ClientArgs {
    /// The daemon's name, or a compiled plugin
    #[arg(value_name = "NAME_OR_FILE")]
    target: String,
    /// The name of the client in the source [default: the daemon's name]
    #[arg(long, value_name = "IDENTIFIER", value_parser = names::type_name)]
    name: Option<String>,
}

/// The commands of a daemon, as their callers see them.
#[derive(Debug)]
struct Interface {
    /// The name of the daemon.
    daemon: String,
    about: String,
    commands: Vec<CommandShape>,
}

/// A command: its text and its schemas.
#[derive(Debug, Deserialize)]
struct CommandShape {
    #[serde(default)]
    name: String,
    #[serde(default, with = "text_or_null")]
    doc: String,
    arguments: Vec<ArgumentShape>,
    result: Value,
}

#[derive(Debug, Deserialize)]
struct ArgumentShape {
    name: String,
    #[serde(default, with = "text_or_null")]
    description: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    rest: bool,
    schema: Value,
}

/// A command in the answer to `help`. A daemon of another make may have no schema.
#[derive(Debug, Deserialize)]
struct HelpEntry {
    #[serde(default, with = "text_or_null")]
    doc: String,
    schema: Option<CommandShape>,
}

/// The document that `--json` prints.
#[derive(Debug, Serialize)]
struct Written<'a> {
    daemon: &'a str,
    name: &'a str,
    source: &'a str,
}

/// Writes the source of a client to standard output.
pub(super) fn client(session: &Session, args: &ClientArgs) -> Result<()> {
    let interface = match is_file(&args.target) {
        true => of_file(session, Path::new(&args.target))?,
        false => of_running(session, &args.target)?,
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => names::pascal(&interface.daemon, "Client"),
    };
    let source = source::of(&interface, &name);
    match session.out.json {
        true => session.out.document(&Written {
            daemon: &interface.daemon,
            name: &name,
            source: &source,
        }),
        false => session.out.line(source.trim_end()),
    }
}

fn is_file(target: &str) -> bool {
    let is_library = Path::new(target)
        .extension()
        .is_some_and(|end| end == DLL_EXTENSION);
    is_library || target.contains(std::path::is_separator)
}

/// Reads the manifest of a file, none of whose code runs.
fn of_file(session: &Session, path: &Path) -> Result<Interface> {
    let manifest = manifest::read(path)?;
    if manifest.run_time_schemas {
        session.out.note(
            "the types of the plugin's own have schemas only while it runs; ask the running daemon for them",
        );
    }
    let Manifest {
        name,
        about,
        commands,
        ..
    } = manifest;
    Ok(Interface {
        daemon: name,
        about,
        commands: serde_json::from_value(serde_json::to_value(commands)?)?,
    })
}

/// Asks a running daemon for its commands.
fn of_running(session: &Session, name: &str) -> Result<Interface> {
    /// The commands that the host answers for every daemon.
    const OF_THE_HOST: [&str; 4] = ["dae", "options", "help", "stats"];
    let address = DaemonAddress::find(session, name)?;
    let help = address.help(&mut address.connect()?, &[])?;
    let help = help.as_ref().map_or("{}", |help| help.get());
    let help: BTreeMap<String, HelpEntry> = serde_json::from_str(help).unwrap_or_default();
    let own = help
        .into_iter()
        .filter(|(name, _)| !OF_THE_HOST.contains(&name.as_str()));
    let commands = own.filter_map(|(name, HelpEntry { doc, schema })| {
        Some(CommandShape {
            name,
            doc,
            ..schema?
        })
    });
    let commands: Vec<CommandShape> = commands.collect();
    if commands.is_empty() {
        bail!(
            "{name} shows no command with a schema in its `help`, and a client is written from the schemas: its host is older, or \
             it is of another make; write the trait by hand"
        );
    }
    Ok(Interface {
        daemon: name.to_owned(),
        about: String::new(),
        commands,
    })
}

#[cfg(test)]
mod tests;
