//! Commands that change nothing: `list`, `scan`, `status`, `options`, `call`.
//!
//! `list`, `scan` and `status` ask the host on its control socket. `options` and `call` ask it only for the daemon's
//! address, and then call the daemon itself, as any other guest would.
//!
//! The result of a command is always printed as JSON on one line, at a terminal too. A string in quotes can't be
//! mistaken for a number, and a script gets the same output as a person.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use dae_common_tcp::{NAME_BYTES_MAX, is_name};
use serde_json::json;
use serde_json::value::RawValue;

use super::Session;
use super::client::Client;
use super::exit::{self, Fault};
use super::words;
use dae_store::printable::one_line;
use dae_store::report::{LoadedLibraries, Refused, Retired, Scan, Status};
use dae_store::text_file;

/// The argument of `status` and `options`.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The daemon's name
    pub(super) name: String,
}

/// The arguments of `call`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The result is printed as JSON on one line, a string in its quotes, `null` for no result."
)]
pub(super) struct CallArgs {
    /// The daemon's name
    name: String,
    /// The command's name
    command: String,
    /// The arguments as JSON; anything else is a string. After `--` they may begin with a dash
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// The longest wait for the result [default: as long as the daemon's host lets a command run]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
}

/// `list`: shows all daemons, Dae first.
pub(super) fn list(session: &Session) -> Result<()> {
    let answer = Client::control(session)?.call("list", &json!([]))?;
    if session.out.json {
        return session.out.document(&answer);
    }
    let daemons: Vec<Status> = serde_json::from_str(answer.get())?;
    session.out.list(&daemons)
}

/// `scan`: searches for foreign daemons and shows them.
pub(super) fn scan(session: &Session) -> Result<()> {
    let answer = Client::control(session)?.call("scan", &json!([]))?;
    if session.out.json {
        return session.out.document(&answer);
    }
    let scan: Scan = serde_json::from_str(answer.get())?;
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
    session.out.list(&scan.daemons)
}

fn sockets_listen(count: u64) -> String {
    match count {
        1 => "1 socket listens".to_owned(),
        count => format!("{count} sockets listen"),
    }
}

/// `status`: shows one daemon in full.
pub(super) fn status(session: &Session, name: &Name) -> Result<()> {
    let answer = Client::control(session)?.call("status", &[&name.name])?;
    if session.out.json {
        return session.out.document(&answer);
    }
    let status: Status = serde_json::from_str(answer.get())?;
    session.out.line(&in_full(&status))
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
    [
        ("calls itself", own_name.trim_end().to_owned()),
        ("pid", or_dash(status.pid.map(|pid| pid.to_string()))),
        ("address", or_dash(address_of(status))),
    ]
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
        ("hash", words::short_hash(&status.hash).to_owned()),
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

/// `options`: shows a daemon's commands and the number of arguments of each.
pub(super) fn options(session: &Session, name: &Name) -> Result<()> {
    let answer = daemon(session, &name.name)?.call("options", &json!([]))?;
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

/// `call`: runs one command of a daemon and prints its result.
pub(super) fn call(session: &Session, args: &CallArgs) -> Result<()> {
    check_command(&args.command)?;
    check_answered(&args.command, !args.arguments.is_empty())?;
    let arguments: Vec<_> = args.arguments.iter().map(|text| argument(text)).collect();
    let mut daemon = daemon(session, &args.name)?;
    if let Some(seconds) = args.timeout {
        daemon.wait_at_most(Duration::from_secs(seconds));
    }
    let result = daemon.call(&args.command, &arguments);
    let result = match session.out.json {
        true => result.map_err(exit::documented),
        false => result,
    };
    session.out.document(&result?)
}

/// Connects to the daemon `name` as a guest.
fn daemon(session: &Session, name: &str) -> Result<Client<std::net::TcpStream>> {
    // By its port and not by its credential: a daemon that is being restarted has no credential, but its port is open,
    // and a command waits there for the next instance.
    let status: Status = Client::control(session)?.ask("status", &[name])?;
    match status.port {
        _ if status.state == "impostor" => Err(Fault::Refused {
            code: "impostor".to_owned(),
            message: format!("{name} is an impostor: {}", status.reason),
        }
        .into()),
        Some(port) if status.foreign => Client::foreign(name, address(&status, port)),
        Some(port) => {
            let answer_max = status.answer_ms.map(Duration::from_millis);
            Client::daemon(name, address(&status, port), answer_max)
        }
        None => Err(not_running(session, &status).into()),
    }
}

fn address(status: &Status, port: u16) -> SocketAddr {
    let ip = status.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(ip, port)
}

fn not_running(session: &Session, status: &Status) -> Fault {
    let Status {
        name,
        state,
        reason,
        ..
    } = status;
    let why = match reason.is_empty() {
        true => String::new(),
        false => format!(" ({reason})"),
    };
    let start = session.command_line(&format!("start {name}"));
    Fault::Refused {
        code: "not-running".to_owned(),
        message: format!("{name} is {state}{why}; `{start}` starts it"),
    }
}

/// Refuses a name with characters that end it early: the line would then hold another command.
fn check_command(command: &str) -> Result<(), Fault> {
    if is_name(command) {
        return Ok(());
    }
    Err(Fault::Usage(format!(
        "a command's name has 1 to {NAME_BYTES_MAX} bytes, without blanks and `#`; got {command:?}"
    )))
}

/// Refuses commands that the protocol leaves unanswered, so that two daemons don't answer each other forever.
fn check_answered(command: &str, has_arguments: bool) -> Result<(), Fault> {
    let advice = match command {
        "dae" | "options" if has_arguments => "send it without arguments",
        "error" => "it is what a failed command is answered with",
        _ => return Ok(()),
    };
    let what = if has_arguments { " with arguments" } else { "" };
    Err(Fault::Usage(format!(
        "no daemon answers {command}{what}; {advice}"
    )))
}

/// Returns JSON as it was written, down to the digits of a number; any other text becomes a string.
fn argument(text: &str) -> Box<RawValue> {
    let as_json = serde_json::from_str(text_file::without_mark(text));
    as_json
        .unwrap_or_else(|_| serde_json::value::to_raw_value(text).expect("a string is always JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_is_a_string() {
        let cases = [
            ("Ada", r#""Ada""#),
            (r#""Ada""#, r#""Ada""#),
            ("1", "1"),
            ("-1.50", "-1.50"),
            ("18446744073709551616", "18446744073709551616"),
            ("true", "true"),
            ("null", "null"),
            ("[1, 2]", "[1, 2]"),
            (r#"{"b": 1, "a": 2}"#, r#"{"b": 1, "a": 2}"#),
            ("{x: 1}", r#""{x: 1}""#),
            ("01", r#""01""#),
            ("", r#""""#),
            ("two words\n", r#""two words\n""#),
            (r#"a "quote""#, r#""a \"quote\"""#),
        ];
        for (text, expected) in cases {
            assert_eq!(argument(text).get(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_no_daemon_answers_is_not_sent() {
        for (command, has_arguments, is_sent) in [
            ("dae", false, true),
            ("dae", true, false),
            ("options", false, true),
            ("options", true, false),
            ("error", false, false),
            ("error", true, false),
            ("help", true, true),
        ] {
            let checked = check_answered(command, has_arguments);
            assert_eq!(checked.is_ok(), is_sent, "{command} {has_arguments}");
        }
    }

    #[test]
    fn a_command_cannot_smuggle_in_another_line() {
        for wrong in ["", "a b", "a\nb", "a#b", "a\u{7f}", &"x".repeat(129)] {
            assert!(check_command(wrong).is_err(), "{wrong:?}");
        }
        for right in ["greet", "größe", "a.b-c_d", &"x".repeat(128)] {
            assert!(check_command(right).is_ok(), "{right:?}");
        }
    }
}
