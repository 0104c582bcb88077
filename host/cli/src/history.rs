//! `state`: a daemon's state, with `--history` its archived states, which are kept for a week, and with `--export` and
//! `--import` states outside of the home.
//!
//! The host is asked for the current state, since the daemon itself may have to supply it. Archived states are read
//! from the home, with or without a host.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use serde_json::value::RawValue;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::{change, interrupted, words};
use dae_store::archive::{Archive, NumberedDeparture};
use dae_store::atomic_file;
use dae_store::json_form;
use dae_store::registry::Registry;
use dae_store::report::{ImportRequest, Installed};
use dae_store::retention;
use dae_store::snapshots::KeptState;
use dae_store::text_file;

/// The largest state that is read from a file (bytes), which is the largest that crosses to a plugin.
const STATE_BYTES_MAX: u64 = 256 << 20;

/// The arguments of `state`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's name
    name: String,
    /// List the archived states, newest first; `install --state ID` starts from one
    #[arg(long, conflicts_with_all = ["export", "import"])]
    history: bool,
    /// Write the state to a file, which must not exist; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "import")]
    export: Option<PathBuf>,
    /// Have the daemon start from the state in a file, as --export writes it; its present state is kept for a week
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
}

/// Prints the state, or lists the archived ones.
pub(super) fn state(session: &Session, args: &Args) -> Result<()> {
    if args.history {
        return history(session, &args.name);
    }
    if let Some(path) = &args.import {
        return import(session, &args.name, path);
    }
    let answer = Client::control(session)?.call("state", &[&args.name])?;
    match args
        .export
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    {
        Some(path) => export(session, &answer, path),
        None => session.out.document(&answer),
    }
}

/// Writes a state to a new file, which only its owner can read: a state may hold anything.
fn export(session: &Session, state: &RawValue, path: &Path) -> Result<()> {
    let written = atomic_file::create_private(path, state.get().as_bytes());
    written.with_context(|| format!("cannot write the state to {}", path.display()))?;
    let bytes = state.get().len();
    if session.out.json {
        return session.out.document(&json!({"file": path, "bytes": bytes}));
    }
    session
        .out
        .note(&format!("{} has the state ({bytes} B)", path.display()));
    Ok(())
}

/// Has a daemon start from the state in a file.
fn import(session: &Session, name: &str, path: &Path) -> Result<()> {
    let text = text_file::read(path, STATE_BYTES_MAX)
        .with_context(|| format!("cannot read the state {}", path.display()))?;
    let state: Box<RawValue> =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let request = ImportRequest {
        name: name.to_owned(),
        state,
    };
    let installed: Installed = interrupted::client(session)?.ask("import_state", &[request])?;
    change::report_accepted(session, &installed)
}

fn history(session: &Session, name: &str) -> Result<()> {
    let all = Archive::of(&session.home).list(name)?;
    if all.is_empty() {
        let registry = Registry::load(&session.home.registry_file())?;
        if !registry.daemons.contains_key(name) {
            return Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into());
        }
    }
    if session.out.json {
        return session
            .out
            .document(&all.iter().map(document).collect::<Vec<_>>());
    }
    if all.is_empty() {
        session
            .out
            .note(&format!("no state of {name} has left in the last week"));
        return Ok(());
    }
    let heading = ["ID", "LEFT", "STATE", "FROM", "KEPT UNTIL"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading.to_vec())
        .chain(all.iter().map(row))
        .collect();
    session.out.line(&words::aligned(&rows))
}

fn document(one: &NumberedDeparture) -> serde_json::Value {
    let departure = &one.departure;
    json!({
        "id": one.id,
        "time": json_form::time_text(departure.time),
        "reason": departure.reason,
        "kept_until": json_form::time_text(retention::kept_until(departure.time)),
        "state": departure.state.as_ref().map(|kept| &kept.state),
        "damaged": departure.damaged,
    })
}

fn row(one: &NumberedDeparture) -> Vec<String> {
    let departure = &one.departure;
    let size = match (&departure.state, &departure.damaged) {
        (Some(state), _) => format!("{} B", state.bytes()),
        (None, Some(_)) => "damaged".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let origin = departure.state.as_ref().map(KeptState::origin);
    let until = retention::kept_until(departure.time);
    vec![
        one.id.clone(),
        departure.reason.as_str().to_owned(),
        size,
        origin.unwrap_or_else(|| "-".to_owned()),
        until.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    ]
}
