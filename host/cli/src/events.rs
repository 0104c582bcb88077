//! `events`: shows what has happened to the daemons and to the host, and with `-f` also what happens.
//!
//! Without `-f` the files in the home are read, so that it works after a crash and without a host. With `-f` the host is
//! asked, and after its end the one that comes next. Events have ids that grow, so nothing is shown twice or left out in
//! between.

use anyhow::{Context as _, Result};
use dae_runtime::os::control_client::ControlClient;
use serde_json::{Value, json};

use super::Session;
use super::client::Client;
use super::follow;
use super::past::{self, PastArgs};
use dae_store::event::DaeEvent;
use dae_store::event_log::{self, EventQuery};

/// The number of events that are shown with `--since`, unless `-n` gives one.
const LINES_SINCE: usize = 100_000;

/// The arguments of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dae-host events --since 8h          what happened last night
  dae-host events -f Sorter           one daemon, as it happens
  dae-host --json events -n 1000      one JSON object a line")]
pub(super) struct Args {
    #[command(flatten)]
    past: PastArgs,
}

impl Args {
    fn query(&self) -> EventQuery {
        EventQuery {
            names: self.past.names.clone(),
            lines: self.past.lines(LINES_SINCE),
            after: None,
            since: self.past.since,
            until: self.past.until(),
        }
    }
}

/// Shows the events.
pub(super) fn events(session: &Session, args: &Args) -> Result<()> {
    let args = &Args {
        past: args.past.expanded(session, past::with_events)?,
    };
    if !args.past.follow {
        return past(session, args);
    }
    let mut last = None;
    follow::over_restarts(session, |client| follow(session, args, client, &mut last))
}

fn past(session: &Session, args: &Args) -> Result<()> {
    let events = event_log::read(&session.home.events_dir(), &args.query(), usize::MAX)?;
    let is_found = |name: &str| events.iter().any(|event| event.daemon == name);
    args.past
        .check_names(session, past::with_events, is_found)?;
    if events.is_empty() {
        session.out.note("no events");
    }
    events.iter().try_for_each(|event| session.out.event(event))
}

/// Shows the events of one host until it ends. `last` is the id of the last event that was shown.
fn follow(
    session: &Session,
    args: &Args,
    client: &mut Client<ControlClient>,
    last: &mut Option<u64>,
) -> Result<()> {
    let past: Vec<DaeEvent> = client.ask("events", &[request(args, *last)?])?;
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

/// Returns the request for a host. If one was followed before, this one is asked for all that came after it.
fn request(args: &Args, last: Option<u64>) -> Result<Value> {
    let mut query = args.query();
    if last.is_some() {
        (query.after, query.lines) = (last, LINES_SINCE);
    }
    let mut request = serde_json::to_value(query)?;
    request["follow"] = json!(true);
    Ok(request)
}
