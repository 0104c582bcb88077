//! `state`: a daemon's state, and with `--history` its archived states, which are kept for a week.
//!
//! The host is asked for the current state, since the daemon itself may have to supply it. Archived states are read
//! from the home, with or without a host.

use anyhow::Result;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::words;
use dae_store::archive::{Archive, NumberedDeparture};
use dae_store::registry::Registry;
use dae_store::retention;
use dae_store::snapshots::KeptState;

/// The arguments of `state`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's name
    name: String,
    /// List the archived states, newest first; `install --state ID` starts from one
    #[arg(long)]
    history: bool,
}

/// Prints the state, or lists the archived ones.
pub(super) fn state(session: &Session, args: &Args) -> Result<()> {
    if args.history {
        return history(session, &args.name);
    }
    let answer = Client::control(session)?.call("state", &[&args.name])?;
    session.out.document(&answer)
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
        "time": departure.time,
        "reason": departure.reason,
        "kept_until": retention::kept_until(departure.time),
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
