//! `logs`: shows the log of the daemons and the host, and with `-f` also new records as they come.
//!
//! Without `-f` the files in the home are read, so that it works after a crash and without a host. With `-f` the host
//! is asked, since only it knows the latest records. Nothing is missed between old and new records, because both come
//! over one connection.
//!
//! Ctrl-C ends it like any program that only reads: there is nothing to clean up.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use dae_runtime::os::control_client::ControlClient;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Session;
use super::client::Client;
use super::follow;
use super::past::{self, PastArgs};
use dae_store::log::{LogQuery, Pattern, Record, read_files};

/// The number of records that are shown with `--since`, unless `-n` gives one; a host returns no more at once either.
const LINES_SINCE: usize = 10_000;

/// The arguments of `logs`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    past: PastArgs,
    /// Show only records that match a regular expression; without capital letters it ignores case
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    grep: Option<Pattern>,
    /// Show only records that are at least so severe
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<String>,
}

fn level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let word = text.to_lowercase();
    if LEVELS.contains(&word.as_str()) {
        return Ok(word);
    }
    let near = dae_common_tcp::nearest(&word, LEVELS.into_iter());
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Err(format!("expected {}{hint}", LEVELS.join(", ")))
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::try_from(text.to_owned())
}

impl Args {
    fn query(&self) -> LogQuery {
        LogQuery {
            names: self.past.names.clone(),
            lines: self.past.lines(LINES_SINCE),
            since: self.past.since,
            until: self.past.until(),
            level: self.level.clone(),
            grep: self.grep.clone(),
        }
    }
}

/// Shows the log.
pub(super) fn logs(session: &Session, args: &Args) -> Result<()> {
    let args = &Args {
        past: args.past.expanded(session, past::with_log)?,
        ..args.clone()
    };
    if !args.past.follow {
        return past(session, args);
    }
    let mut shown = LastShown::default();
    follow::over_restarts(session, |client| follow(session, args, client, &mut shown))
}

fn past(session: &Session, args: &Args) -> Result<()> {
    let records = read_files(&session.home.logs_dir(), &args.query(), usize::MAX)?;
    let is_found = |name: &str| records.iter().any(|record| record.daemon == name);
    args.past.check_names(session, past::with_log, is_found)?;
    if records.is_empty() {
        session.out.note("no records");
    }
    records
        .iter()
        .try_for_each(|record| session.out.record(record))
}

/// The records with the latest time that were shown, so that the next host shows what comes after them.
#[derive(Debug, Default)]
struct LastShown {
    time: Option<Timestamp>,
    texts: HashSet<String>,
}

impl LastShown {
    /// Notes a record. Returns false if it was shown before.
    fn is_new(&mut self, record: &Record) -> bool {
        if self.time.is_none_or(|time| record.time > time) {
            self.time = Some(record.time);
            self.texts.clear();
        }
        let text = || serde_json::to_string(record).unwrap_or_default();
        // Records of several threads are not quite in order. An older one comes from the present host.
        self.time != Some(record.time) || self.texts.insert(text())
    }
}

/// Shows the log of one host until it ends.
fn follow(
    session: &Session,
    args: &Args,
    client: &mut Client<ControlClient>,
    shown: &mut LastShown,
) -> Result<()> {
    let past: Vec<Record> = client.ask("logs", &[request(args, shown.time)?])?;
    let mut show = |record: &Record| match shown.is_new(record) {
        true => session.out.record(record),
        false => Ok(()),
    };
    past.iter().try_for_each(&mut show)?;
    client.wait_for_ever();
    while let Some(arguments) = client.event("log")? {
        for argument in &arguments {
            let record = serde_json::from_str(argument.get())
                .with_context(|| format!("expected a log record, got {argument}"))?;
            show(&record)?;
        }
    }
    Ok(())
}

/// Returns the request for a host. If one was followed before, this one is asked for all that came after it.
fn request(args: &Args, last: Option<Timestamp>) -> Result<Value> {
    let mut query = args.query();
    if last.is_some() {
        (query.since, query.lines) = (last, LINES_SINCE);
    }
    let mut request = serde_json::to_value(query)?;
    request["follow"] = json!(true);
    Ok(request)
}
