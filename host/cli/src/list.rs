//! `list`: shows all daemons, Dae first; with `--wide` what they use, with `--watch` again and again.
//!
//! Plain `list` asks the host once, and the answer comes at once. Only `--wide`, and an order by CPU time or memory,
//! make the host measure, which takes a moment. The order and the remarks are pure functions. `top` shows the same
//! rows.

mod attention;
mod order;
mod watch;

use std::collections::HashMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::client::Client;
use dae_runtime::os::control_client::ControlClient;
use dae_store::registry::DAE_NAME;
use dae_store::report::Status;
use dae_store::usage::{CommandRates, CpuKind, Usage, UsageRequest};

pub(super) use attention::remark;
pub(super) use order::{SortColumn, sort};

/// The arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show also CPU time, memory and guests; the host measures for a quarter of a second
    #[arg(long, short)]
    wide: bool,
    /// Sort by this column: texts upwards, numbers downwards; `cpu` and `mem` imply --wide
    #[arg(long, value_name = "COLUMN")]
    sort: Option<SortColumn>,
    /// Show the table anew every 2 s, until Ctrl-C or `q`
    #[arg(long)]
    watch: bool,
}

impl Args {
    fn is_wide(&self) -> bool {
        self.wide || self.sort.is_some_and(SortColumn::needs_usage)
    }
}

/// A daemon as `list` and `top` show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    pub(super) status: Status,
    /// Absent if it was not asked for, and for a foreign daemon.
    pub(super) usage: Option<Usage>,
}

impl From<Status> for Listed {
    fn from(status: Status) -> Self {
        Listed {
            status,
            usage: None,
        }
    }
}

/// Shows all daemons.
pub(super) fn list(session: &Session, args: &Args) -> Result<()> {
    if args.watch {
        return watch::watch(session, args);
    }
    let mut host = Client::control(session)?;
    let rows = rows(&mut host, args)?;
    if session.out.json {
        return session.out.document(&documents(&rows, args));
    }
    session.out.list(&rows)?;
    if let Some(text) = attention::remark(&rows, |command| session.command_line(command)) {
        session.out.note(&text);
    }
    Ok(())
}

/// Returns the rows in the wanted order.
fn rows(host: &mut Client<ControlClient>, args: &Args) -> Result<Vec<Listed>> {
    let daemons: Vec<Status> = host.ask("list", &json!([]))?;
    let usages: Vec<Usage> = match args.is_wide() {
        true => host.ask("usage", &[UsageRequest::default()])?,
        false => Vec::new(),
    };
    let mut rows = joined(daemons, usages);
    if let Some(column) = args.sort {
        order::sort(&mut rows, column);
    }
    Ok(rows)
}

/// Returns each daemon with its usage, if there is one. A foreign daemon has none, though it may have the name of one
/// that was there a moment ago.
pub(super) fn joined(daemons: Vec<Status>, usages: Vec<Usage>) -> Vec<Listed> {
    let mut usages: HashMap<String, Usage> = usages
        .into_iter()
        .map(|usage| (usage.name.clone(), usage))
        .collect();
    let row = |status: Status| Listed {
        usage: usages.remove(&status.name).filter(|_| !status.foreign),
        status,
    };
    daemons.into_iter().map(row).collect()
}

/// The document of a daemon: its status, and with `--wide` what it uses.
#[derive(Debug, Serialize)]
struct ListDocument<'a> {
    #[serde(flatten)]
    status: &'a Status,
    #[serde(flatten)]
    usage: Option<UsageMembers>,
}

/// The members of a usage that a status lacks; all are `null` if nothing is known.
#[derive(Debug, Default, Serialize)]
struct UsageMembers {
    cpu_percent: Option<f64>,
    cpu_kind: Option<CpuKind>,
    memory_bytes: Option<u64>,
    calls_per_s: Option<f64>,
    errors_per_s: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
}

impl From<&Usage> for UsageMembers {
    fn from(usage: &Usage) -> Self {
        let CommandRates {
            calls_per_s,
            errors_per_s,
            p50_us,
            p99_us,
        } = usage.commands;
        UsageMembers {
            cpu_percent: usage.cpu_percent,
            cpu_kind: usage.cpu_kind,
            memory_bytes: usage.memory_bytes,
            calls_per_s: Some(calls_per_s),
            errors_per_s: Some(errors_per_s),
            p50_us,
            p99_us,
        }
    }
}

/// Returns the documents of `--json`.
fn documents<'a>(rows: &'a [Listed], args: &Args) -> Vec<ListDocument<'a>> {
    let usage = |usage: Option<&Usage>| usage.map(UsageMembers::from).unwrap_or_default();
    let document = |row: &'a Listed| ListDocument {
        status: &row.status,
        usage: args.is_wide().then(|| usage(row.usage.as_ref())),
    };
    rows.iter().map(document).collect()
}

/// Returns whether the row is Dae's, which stands first in every order.
fn is_dae(status: &Status) -> bool {
    status.name == DAE_NAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_document_of_a_list_has_the_same_members() {
        let named = |name: &str| Status {
            name: name.to_owned(),
            ..Status::default()
        };
        let usage = Usage {
            name: "A".to_owned(),
            state: "stopped".to_owned(),
            cpu_percent: Some(7.0),
            cpu_kind: Some(CpuKind::Process),
            memory_bytes: Some(1),
            commands: CommandRates::default(),
            guests: 0,
            restarts: 0,
            generation: 1,
            uptime_ms: None,
        };
        let foreign = Status {
            foreign: true,
            ..named("B")
        };
        let rows = joined(vec![named("A"), foreign], vec![usage]);
        for wide in [false, true] {
            let args = Args {
                wide,
                sort: None,
                watch: false,
            };
            let documents = json!(documents(&rows, &args));
            let keys = |at: usize| documents[at].as_object().expect("an object").keys();
            assert!(keys(0).eq(keys(1)), "{documents}");
            assert_eq!(documents[0].get("cpu_percent"), wide.then_some(&json!(7.0)));
            let of_foreign = documents[1].get("cpu_percent");
            assert_eq!(of_foreign, wide.then_some(&Value::Null));
            assert_eq!(documents[1]["mode"], Value::Null);
        }
    }
}
