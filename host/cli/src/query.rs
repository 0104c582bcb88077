//! Commands that change nothing: `scan`, `status`, `options`.
//!
//! `scan` and `status` ask the host on its control socket. `options` asks it only for the daemon's address, and
//! then calls the daemon itself, as any other guest would.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::{Code, Fault};
use super::guest::{DaemonAddress, address};
use super::list::Listed;
use super::signatures;
use super::words;
use dae_store::printable::one_line;
use dae_store::report::{LoadedLibraries, Refused, ReserveStatus, Retired, Scan, Status};

/// The argument of `status` and `options`.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The daemon's name
    pub(super) name: String,
}

/// `scan`: searches for foreign daemons and shows them.
pub(super) fn scan(session: &Session) -> Result<()> {
    let scan: Scan = Client::control(session)?.ask("scan", &json!([]))?;
    if session.out.json {
        return session.out.document(&scan);
    }
    for Refused { port, pid, reason } in &scan.refused {
        let text = format!("port {port} (pid {pid}) answers, but not as a daemon: {reason}");
        session.out.note(&one_line(&text));
    }
    let Scan {
        sockets,
        asked,
        hidden,
        ms,
        ..
    } = &scan;
    session.out.note(&format!(
        "{} on this machine; {asked} asked for the first time ({ms} ms)",
        sockets_listen(*sockets)
    ));
    if *hidden > 0 {
        session.out.note(&format!(
            "behind {hidden} of them, this user's, no process can be seen; nobody is asked there"
        ));
    }
    if scan.daemons.is_empty() {
        session.out.note("no foreign daemon is there");
        return Ok(());
    }
    let rows: Vec<Listed> = scan.daemons.into_iter().map(Listed::from).collect();
    session.out.list(&rows)
}

fn sockets_listen(count: u64) -> String {
    match count {
        1 => "1 socket listens".to_owned(),
        count => format!("{count} sockets listen"),
    }
}

/// `status`: shows one daemon in full. Of one that is stopped or failed, the exit code says so.
pub(super) fn status(session: &Session, name: &Name) -> Result<()> {
    let status: Status = Client::control(session)?.ask("status", &[&name.name])?;
    match session.out.json {
        true => session.out.document(&status)?,
        false => session.out.line(&in_full(&status))?,
    }
    match status.state.as_str() {
        "stopped" | "failed" => Err(Fault::Reported(Code::NotRunning).into()),
        _ => Ok(()),
    }
}

fn in_full(status: &Status) -> String {
    let mut facts = Vec::new();
    if !status.reason.is_empty() {
        facts.push(("reason", status.reason.clone()));
    }
    match status.foreign {
        true => facts.extend(what_is_known(status)),
        false => facts.extend(what_runs(status)),
    }
    facts.extend(what_was(status));
    let title = format!("{}: {}", status.name, status.state);
    format!("{}\n{}", one_line(&title), words::facts(&facts))
}

type Fact = (&'static str, String);

/// Returns what a foreign daemon reports of itself. Only its own host, if it has one, knows more.
fn what_is_known(status: &Status) -> [Fact; 3] {
    let own_name = format!("{} {}", status.plugin, status.version);
    let own_name = own_name.trim_end().to_owned();
    match (&status.host, &status.provider) {
        (Some(host), Some(provider)) => [
            ("plugin", own_name),
            ("host", host.clone()),
            ("provided by", provider.clone()),
        ],
        _ => [
            ("calls itself", own_name),
            ("pid", or_dash(status.pid.map(|pid| pid.to_string()))),
            ("address", or_dash(address_of(status))),
        ],
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn address_of(status: &Status) -> Option<String> {
    match (status.port, status.kept_port) {
        (Some(port), _) => Some(address(status, port).to_string()),
        (None, Some(port)) => Some(format!("{} (once it runs)", address(status, port))),
        (None, None) => None,
    }
}

/// Returns the facts that every daemon of this host has.
fn what_runs(status: &Status) -> [Fact; 11] {
    let calls = format!(
        "{} ({} answered with an error)",
        status.calls, status.errors
    );
    // Dae has no file.
    let hash = Some(&status.hash).filter(|hash| !hash.is_empty());
    [
        ("plugin", format!("{} {}", status.plugin, status.version)),
        (
            "mode",
            or_dash(status.mode.map(|mode| mode.as_str().to_owned())),
        ),
        ("pid", or_dash(status.pid.map(|pid| pid.to_string()))),
        ("address", or_dash(address_of(status))),
        ("uptime", or_dash(status.uptime_ms.map(words::uptime))),
        ("generation", status.generation.to_string()),
        ("restarts", status.restarts.to_string()),
        ("calls", calls),
        ("guests", status.guests.to_string()),
        // A whole hash is too wide for most terminals; `--json` has it.
        (
            "hash",
            or_dash(hash.map(|hash| words::short_hash(hash).to_owned())),
        ),
        ("source", source(status)),
    ]
}

/// Returns the facts that only some daemons have.
fn what_was(status: &Status) -> Vec<Fact> {
    let mut facts = Vec::new();
    if !status.state_from.is_empty() {
        facts.push(("state from", status.state_from.clone()));
    }
    if !status.start_note.is_empty() {
        facts.push(("start order", status.start_note.clone()));
    }
    if let Some(refusal) = &status.last_refusal {
        let text = format!(
            "{:.0}, {}: {}",
            refusal.time, refusal.change, refusal.reason
        );
        facts.push(("last refusal", text));
    }
    for (hash, reason) in &status.quarantined {
        let text = format!("{}: {reason}", words::short_hash(hash));
        facts.push(("quarantined", text));
    }
    facts.extend(status.retired.map(|all| ("retired", retired(all))));
    facts.extend(status.libraries.map(|all| ("loaded plugins", loaded(all))));
    let in_reserve = status.reserve.as_ref();
    facts.extend(in_reserve.map(|all| ("in reserve", reserve(all))));
    if !status.recent.is_empty() {
        facts.push(("recent restarts", status.recent.clone()));
    }
    if let Some(end) = &status.last_end {
        let (time, generation) = (end.time, end.generation);
        let text = format!("{time:.0}, generation {generation}: {}", end.cause);
        facts.push(("last end", text));
    }
    facts
}

/// Returns the source file, and a note if it is not the file that runs.
fn source(status: &Status) -> String {
    let path = status.source.clone().unwrap_or_else(|| "-".to_owned());
    match status.source_note.as_str() {
        "" => path,
        note => format!("{path} ({note})"),
    }
}

/// Formats retired generations: `6 generations, 3.1 MiB`.
fn retired(retired: Retired) -> String {
    let plural = if retired.generations == 1 { "" } else { "s" };
    let mapped = words::mebibytes(retired.bytes);
    let text = format!("{} generation{plural}, {mapped}", retired.generations);
    match retired.left_behind {
        0 => text,
        left => format!("{text}; of {left} a thread or memory could not be ended"),
    }
}

/// Formats loaded libraries: `7 of at most 900, 3.6 MiB`.
fn loaded(libraries: LoadedLibraries) -> String {
    let LoadedLibraries { loaded, max, bytes } = libraries;
    format!("{loaded} of at most {max}, {}", words::mebibytes(bytes))
}

/// Formats the processes in reserve: `1 process of at most 1, 0.7 MiB`.
fn reserve(reserve: &ReserveStatus) -> String {
    let (count, max) = (reserve.pids.len(), reserve.max);
    let plural = if count == 1 { "" } else { "es" };
    let memory = reserve.memory_bytes.map(words::mebibytes);
    let memory = memory.unwrap_or_else(|| "memory not known".to_owned());
    format!("{count} process{plural} of at most {max}, {memory}")
}

/// `options`: shows a daemon's commands: at a terminal their signatures, with `--verbose` their schemas too.
pub(super) fn options(session: &Session, name: &Name) -> Result<()> {
    let daemon = DaemonAddress::find(session, &name.name)?;
    if session.verbose > 0 {
        return options_in_full(session, &daemon);
    }
    if let Some(width) = session.out.table_width() {
        let help = daemon.help(&mut daemon.connect()?, &[])?;
        if let Some(commands) = help.and_then(|help| signatures::commands(&help)) {
            return session.out.line(&signatures::table(&commands, width));
        }
    }
    let answer = daemon.connect()?.call("options", &json!([]))?;
    if session.out.json {
        return session.out.document(&answer);
    }
    // Sorted by name, in whatever order the daemon sent them.
    let commands: BTreeMap<String, serde_json::Value> = serde_json::from_str(answer.get())?;
    let heading = vec!["COMMAND".to_owned(), "ARGUMENTS".to_owned()];
    let row = |(name, count): (String, serde_json::Value)| {
        vec![one_line(&name).into_owned(), count.to_string()]
    };
    let rows: Vec<_> = std::iter::once(heading)
        .chain(commands.into_iter().map(row))
        .collect();
    session.out.line(&words::aligned(&rows))
}

/// Shows the answer to `help`, where the schemas are.
fn options_in_full(session: &Session, daemon: &DaemonAddress) -> Result<()> {
    let help = daemon.help(&mut daemon.connect()?, &[])?;
    let described = help.and_then(|help| Some((signatures::commands(&help)?, help)));
    let Some((commands, help)) = described else {
        let name = &daemon.name;
        let plain = session.command_line(&format!("options {name}"));
        bail!("{name} doesn't describe its commands; `{plain}` lists their names");
    };
    if session.out.json {
        return session.out.document(&help);
    }
    let blocks: Vec<String> = commands.values().map(signatures::details).collect();
    session.out.line(&blocks.join("\n\n"))
}
