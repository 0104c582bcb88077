//! `new`: makes a plugin crate that builds, passes its test and runs at once.
//!
//! The crate comes from a template: real source of a daemon with the name `Greeter`, which is replaced. All files are
//! written into a temporary directory beside the place, which is then renamed. So there is a whole crate or none, also
//! after a full disk or Ctrl-C. The signals that end the program wait until then.
//!
//! Deliberately absent: `git init`, since the crate may lie in a repository already, and a `Cargo.lock`, which the first
//! build writes.

mod api;
mod files;
mod name;
mod place;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::Session;
use super::dev;
use super::words;
use api::Api;
use dae_runtime::os::signals;
use files::Template;
use name::CrateName;

/// The arguments of `new`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new directory; its last part is the name of the crate: a-z, 0-9, `-` and `_`
    #[arg(value_name = "NAME")]
    path: PathBuf,
    #[command(flatten)]
    template: TemplateArgs,
    /// The directory of dae-plugin-api, or the URL of its git repository [default: the one that dae-host was built with]
    #[arg(long, value_name = "PATH")]
    api: Option<String>,
}

/// The choice of a template.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct TemplateArgs {
    /// Give the daemon a tokio runtime of its own
    #[arg(long)]
    tokio: bool,
    /// Serve a web page, with axum
    #[arg(long)]
    http: bool,
    /// Keep a state with a version, and read an older one
    #[arg(long)]
    state: bool,
}

impl TemplateArgs {
    fn template(&self) -> Template {
        match (self.tokio, self.http, self.state) {
            (true, _, _) => Template::Tokio,
            (_, true, _) => Template::Http,
            (_, _, true) => Template::State,
            _ => Template::Plain,
        }
    }
}

/// Makes the crate, and prints the command that runs it.
///
/// # Errors
/// A bad name, a place that is taken or can't be written, an `--api` that is not the crate, or none where this program
/// knows no directory of it. No file is left then.
pub(super) fn new(session: &Session, args: &Args) -> Result<()> {
    let name = CrateName::of(&args.path)?;
    let api = Api::chosen(args.api.as_deref())?;
    let files = files::of(args.template.template(), &name, &api)?;
    let made = place::make(&args.path, &files);
    // A signal that came meanwhile ends the program here, where the crate is whole or not there.
    signals::let_through();
    made?;
    announce(session, &args.path, &name)
}

fn announce(session: &Session, path: &Path, name: &CrateName) -> Result<()> {
    let dir = path.to_string_lossy();
    let next = format!("{} dev {}", dev::program(), words::shell_word(&dir));
    let document =
        json!({"name": name.package, "daemon": name.daemon, "directory": dir, "next": next});
    let sentence = format!(
        "{dir} is a new crate with the daemon {}; next\n  {next}",
        name.daemon
    );
    session.out.done(&document, &sentence)
}
