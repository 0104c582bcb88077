//! `explain`: the supervisor's decisions about a daemon in sentences, with their times and the rules behind them.
//!
//! The decisions are the daemon's kept events, so it works with or without a host. A rule whose numbers the event keeps is
//! told with these. All others are told with the settings as they are now.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use super::Session;
use super::client::Client;
use super::document::EventDocument;
use super::exit::Fault;
use super::moment;
use super::names::{self, Names};
use super::past;
use dae_store::config::Config;
use dae_store::event::{DaeEvent, DaeEventKind};
use dae_store::event_log::{self, EventQuery};
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::{Mode, Status};
use dae_store::restart::When;
use dae_store::restart_rule::span;
use dae_store::settings::Settings;

/// The number of last events that are explained: the history of one bad night.
const EVENTS_DEFAULT: usize = 20;

/// The arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    names: Names,
    /// The number of latest events to explain
    #[arg(short = 'n', long, value_name = "N", default_value_t = EVENTS_DEFAULT)]
    lines: usize,
}

/// The answer to `explain`.
#[derive(Debug, Default)]
struct Explanation {
    /// The daemon's name.
    name: String,
    /// Its state; `None` if no host runs.
    state: Option<String>,
    /// The reason for the state, for a person.
    reason: Option<String>,
    /// The next step, for a person.
    next: Option<String>,
    /// The last events, oldest first.
    events: Vec<ExplainedEvent>,
}

/// An event, and the rule behind it.
#[derive(Debug)]
struct ExplainedEvent {
    event: DaeEvent,
    /// The rule behind it, for a person; `None` if the event needs none.
    because: Option<String>,
}

/// The answer as `--json` prints it.
#[derive(Debug, Serialize)]
struct ExplanationDocument<'a> {
    name: &'a str,
    state: Option<&'a str>,
    reason: Option<&'a str>,
    next: Option<&'a str>,
    events: Vec<ExplainedDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct ExplainedDocument<'a> {
    #[serde(flatten)]
    event: EventDocument<'a>,
    because: Option<&'a str>,
}

impl<'a> From<&'a Explanation> for ExplanationDocument<'a> {
    fn from(explanation: &'a Explanation) -> Self {
        let reason = explanation.reason.as_deref();
        let event = |one: &'a ExplainedEvent| ExplainedDocument {
            event: EventDocument::from(&one.event),
            because: one.because.as_deref(),
        };
        ExplanationDocument {
            name: &explanation.name,
            state: explanation.state.as_deref(),
            reason: reason.filter(|text| !text.is_empty()),
            next: explanation.next.as_deref(),
            events: explanation.events.iter().map(event).collect(),
        }
    }
}

impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ExplanationDocument::from(self).serialize(serializer)
    }
}

/// Explains daemons.
pub(super) fn explain(session: &Session, args: &Args) -> Result<()> {
    if let Some(name) = args.names.single() {
        let explanation = explanation(session, name, args.lines)?;
        return match session.out.json {
            true => session.out.document(&explanation),
            false => session.out.line(&text(&explanation)),
        };
    }
    let registry = Registry::load(&session.home.registry_file())?;
    let mut known: BTreeSet<String> = registry.daemons.into_keys().collect();
    if !args.names.is_all() {
        known.extend(past::with_events(session)?);
    }
    let names = args.names.among(known.iter())?;
    let mut is_first = true;
    names::each(session, &names, |name| {
        let explanation = explanation(session, name, args.lines)?;
        let text = text(&explanation);
        let gap = match std::mem::take(&mut is_first) {
            true => "",
            false => "\n",
        };
        Ok((explanation, format!("{gap}{text}")))
    })
}

fn explanation(session: &Session, name: &str, lines: usize) -> Result<Explanation> {
    let query = EventQuery {
        names: vec![name.to_owned()],
        lines,
        ..EventQuery::default()
    };
    let mut events = event_log::read(&session.home.events_dir(), &query, usize::MAX)?;
    let registry = Registry::load(&session.home.registry_file())?;
    let status = status(session, name)?;
    let entry = registry.daemons.get(name);
    if entry.is_some() {
        // A foreign daemon may have had the name before.
        events.retain(|event| !event.kind.is_foreign());
    }
    if events.is_empty() && status.is_none() && entry.is_none() && name != DAE_NAME {
        return Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into());
    }
    let config = Config::load(&session.home.config_file())?;
    let given = entry
        .map(|entry| entry.settings.clone())
        .unwrap_or_default();
    // Settings that can't be read are the reason for a failed start, which is an event.
    let settings = config.settings(name, &given).unwrap_or_default();
    let next = |status: &Status| next(status, &settings, session);
    let events = events.into_iter().map(|event| ExplainedEvent {
        because: rule(&event, &settings, session),
        event,
    });
    Ok(Explanation {
        name: name.to_owned(),
        next: status.as_ref().and_then(next),
        events: events.collect(),
        reason: status.as_ref().map(|status| status.reason.clone()),
        state: status.map(|status| status.state),
    })
}

/// Returns the daemon's status; `None` without a host, or if the host has no such daemon.
fn status(session: &Session, name: &str) -> Result<Option<Status>> {
    let asked = Client::control(session).and_then(|mut host| host.ask("status", &[name]));
    match asked {
        Ok(status) => Ok(Some(status)),
        Err(error) => match error.downcast_ref() {
            Some(Fault::NoHost { .. } | Fault::Refused { .. }) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Returns the next step after the daemon's state, and the command that changes it.
fn next(status: &Status, settings: &Settings, session: &Session) -> Option<String> {
    let name = &status.name;
    let command = |what: &str| format!("`{}`", session.command_line(&format!("{what} {name}")));
    let text = match status.state.as_str() {
        "ready" | "reloading" if name == DAE_NAME => return None,
        "ready" | "reloading" | "starting" => after_an_end(settings),
        "foreign" | "impostor" => "this host doesn't run it, and doesn't restart it".to_owned(),
        "backoff" => format!(
            "it starts by itself after the wait; {} starts it now",
            command("restart")
        ),
        "crash-loop" => format!(
            "nothing starts by itself; {} tries again, a new file or {} brings other code",
            command("restart"),
            command("rollback")
        ),
        "asleep" => format!(
            "the next command starts it; {} starts it now",
            command("start")
        ),
        "failed" => format!("nothing starts by itself; {} tries again", command("start")),
        "stopped" | "finished" => {
            format!("nothing starts by itself; {} starts it", command("start"))
        }
        "degraded" if status.mode == Some(Mode::InProcess) => format!(
            "code in the host's process can't be ended; {} moves it to a subprocess, which can be",
            command("isolate")
        ),
        "degraded" => format!(
            "{} missed health checks in a row end the subprocess, and it is restarted",
            settings.health_misses_max
        ),
        _ => return None,
    };
    Some(text)
}

/// Returns the step after an end of the running instance.
fn after_an_end(settings: &Settings) -> String {
    let policy = &settings.restart;
    let (served, first) = (span(policy.served_ms), span(policy.backoff_first_ms));
    let restart = format!(
        "leads to a restart: at once after {served} of service, else after {first} and more"
    );
    match policy.restart {
        When::Never => "an end by itself is final (restart.restart is \"never\")".to_owned(),
        When::Always => format!("any end {restart} (restart.restart is \"always\")"),
        When::OnFailure => format!(
            "a failure {restart} (restart.restart is \"on-failure\"); a `run` that returns doesn't end it"
        ),
    }
}

/// Returns the rule behind an event.
fn rule(event: &DaeEvent, settings: &Settings, session: &Session) -> Option<String> {
    let window = span(settings.rollback_window_ms);
    let text = match &event.kind {
        DaeEventKind::RestartPlanned { rule, .. } => format!("because {}", rule.as_ref()?),
        DaeEventKind::Asleep { rule } => format!("because {rule}; the next command starts it"),
        DaeEventKind::CrashLoop { rule, .. } => {
            let rule = rule.as_ref()?;
            format!(
                "because of {rule}, with at most {} allowed ({}); nothing starts by itself any more",
                rule.max,
                rule.settings()
            )
        }
        DaeEventKind::RolledBack { .. } => format!(
            "because new code that ends within {window} of its start gives way to the code before it (rollback_window_ms)"
        ),
        DaeEventKind::Quarantined { .. } => {
            let install = format!("install {} FILE --replace --force", event.daemon);
            format!(
                "because its code did not last; the file is not taken again by itself, and `{}` takes it anyway",
                session.command_line(&install)
            )
        }
        DaeEventKind::Reloaded { .. } => format!(
            "the code before ran until this one answered; connections stayed, and the state was handed over; if it ends by \
             itself within {window}, the code before it takes over again"
        ),
        DaeEventKind::Degraded { .. } => format!(
            "because {} health checks in a row were missed, one each {} (health_misses_max, health_ms)",
            settings.health_misses_max,
            span(settings.health_ms)
        ),
        DaeEventKind::Finished => format!(
            "because an instance that has ended is not followed by another (restart.restart is {})",
            serde_json::to_string(&settings.restart.restart).ok()?
        ),
        other => plain_rule(other)?.to_owned(),
    };
    Some(text)
}

/// Returns the rule behind an event, if it has no numbers.
fn plain_rule(kind: &DaeEventKind) -> Option<&'static str> {
    match kind {
        DaeEventKind::Woken { .. } => Some("because it slept, and only its code can answer that"),
        DaeEventKind::Refused { .. } => Some("the change was not made; what ran before runs on"),
        DaeEventKind::Unrecorded { .. } => {
            Some("the registry was not written; the next host starts as before the change")
        }
        DaeEventKind::Failed { .. } => {
            Some("a daemon that can't be started is not tried again by itself")
        }
        DaeEventKind::StateUnsaved { .. } => {
            Some("the next start uses the state that was saved before")
        }
        DaeEventKind::HostStarted {
            after_crash: true, ..
        } => Some(
            "its log has the last lines of the host before it; a crash of code in the host's process ends all daemons, \
             and `isolate` keeps a daemon's crashes to itself",
        ),
        _ => None,
    }
}

/// Returns the text without the reason of the crash before it.
fn without(text: &str, crash: &str) -> String {
    text.replace(&format!(": {crash}; "), "; ")
        .replace(&format!(": {crash}"), "")
}

/// The blanks before a rule on a line of its own.
const INDENT: &str = "                ";

fn text(explanation: &Explanation) -> String {
    let Explanation {
        name,
        state,
        reason,
        next,
        events,
    } = explanation;
    let mut lines = vec![match state {
        Some(state) => format!("{name} is {state}"),
        None => format!("{name}: no host runs it now"),
    }];
    let reason = reason.iter().filter(|reason| !reason.is_empty());
    lines.extend(reason.map(|reason| format!("  reason: {reason}")));
    lines.extend(next.iter().map(|next| format!("  next: {next}")));
    lines.extend((!events.is_empty()).then(String::new));
    let mut crash = "";
    for ExplainedEvent { event, because } in events {
        let time = moment::short(event.time, &TimeZone::system());
        let generation = event
            .generation
            .map(|number| format!("generation {number}: "));
        let generation = generation.unwrap_or_default();
        let kind = match crash {
            "" => event.kind.to_string(),
            crash => without(&event.kind.to_string(), crash),
        };
        lines.push(format!("{time}  {generation}{kind}"));
        crash = match &event.kind {
            DaeEventKind::Crashed { cause, .. } => cause,
            _ => "",
        };
        lines.extend(because.iter().map(|rule| format!("{INDENT}{rule}")));
    }
    lines.join("\n")
}
