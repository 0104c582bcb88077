//! `events`: shows what has happened to the daemons and to the host, and with `-f` also what happens.
//!
//! Without `-f` the files in the home are read, so that it works after a crash and without a host. With `-f` the host is
//! asked, and after its end the one that comes next. Events have ids that grow, so nothing is shown twice or left out in
//! between.

use anyhow::{Context as _, Result};
use dae_runtime::os::control_client::ControlClient;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::{follow, moment};
use dae_store::event::DaeEvent;
use dae_store::event_log::{self, EventQuery};
use dae_store::registry::{DAE_NAME, Registry};

/// The number of events that are shown by default: some screens.
const LINES_DEFAULT: usize = 100;

/// The number of events that are shown with `--since`, unless `-n` gives one.
const LINES_SINCE: usize = 100_000;

/// The arguments of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dae-host events --since 8h          what happened last night
  dae-host events -f Sorter           one daemon, as it happens
  dae-host --json events -n 1000      one JSON object a line")]
pub(super) struct Args {
    /// The daemons' names (`Dae` is the host itself) [default: all]
    names: Vec<String>,
    /// Show new events as they come, until Ctrl-C; goes on with the next host after a restart
    #[arg(short, long)]
    follow: bool,
    /// The number of latest events to show [default: 100, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Show no earlier events: `10m`, `17:30`, `2026-11-30 17:30`
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// Show no later events
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "follow")]
    until: Option<Timestamp>,
}

impl Args {
    fn lines(&self) -> usize {
        let default = match self.since {
            Some(_) => LINES_SINCE,
            None => LINES_DEFAULT,
        };
        self.lines.unwrap_or(default)
    }
}

/// Shows the events.
pub(super) fn events(session: &Session, args: &Args) -> Result<()> {
    if !args.follow {
        return past(session, args);
    }
    let mut last = None;
    follow::over_restarts(session, |client| follow(session, args, client, &mut last))
}

fn past(session: &Session, args: &Args) -> Result<()> {
    let query = EventQuery {
        names: args.names.clone(),
        lines: args.lines(),
        after: None,
        since: args.since,
        until: args.until,
    };
    let events = event_log::read(&session.home.events_dir(), &query, usize::MAX)?;
    // One without events may be unknown.
    let is_there = |name: &&String| events.iter().any(|event| event.daemon == **name);
    let without: Vec<String> = args
        .names
        .iter()
        .filter(|name| !is_there(name))
        .cloned()
        .collect();
    check_known(session, &without)?;
    if events.is_empty() {
        session.out.note("no events");
    }
    events.iter().try_for_each(|event| session.out.event(event))
}

/// Returns an error if one of these daemons doesn't exist: a daemon without events may be older than the kept events.
fn check_known(session: &Session, names: &[String]) -> Result<()> {
    let registry = Registry::load(&session.home.registry_file())?;
    let known = |name: &&String| *name == DAE_NAME || registry.daemons.contains_key(*name);
    match names.iter().find(|name| !known(name)) {
        Some(name) => {
            let names = registry.daemons.keys().map(String::as_str);
            Err(Fault::unknown(name, names).into())
        }
        None => Ok(()),
    }
}

/// Shows the events of one host until it ends. `last` is the id of the last event that was shown.
fn follow(
    session: &Session,
    args: &Args,
    client: &mut Client<ControlClient>,
    last: &mut Option<u64>,
) -> Result<()> {
    let past: Vec<DaeEvent> = client.ask("events", &[request(args, *last)])?;
    let mut show = |event: &DaeEvent| {
        // The event about events that were left out has no id.
        *last = Some(event.id.max(last.unwrap_or(0)));
        session.out.event(event)
    };
    past.iter().try_for_each(&mut show)?;
    client.wait_for_ever();
    while let Some(arguments) = client.event("event")? {
        for argument in &arguments {
            let event: DaeEvent = serde_json::from_str(argument.get())
                .with_context(|| format!("expected an event, got {argument}"))?;
            show(&event)?;
        }
    }
    Ok(())
}

fn request(args: &Args, last: Option<u64>) -> Value {
    let lines = match last {
        // All that happened while there was no connection.
        Some(_) => LINES_SINCE,
        None => args.lines(),
    };
    json!({
        "names": args.names,
        "lines": lines,
        "after": last,
        "since": args.since,
        "follow": true,
    })
}
