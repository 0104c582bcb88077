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
use serde_json::{Map, Value, json};

use super::Session;
use super::client::Client;
use dae_runtime::os::control_client::ControlClient;
use dae_store::registry::DAE_NAME;
use dae_store::report::Status;
use dae_store::usage::{Usage, UsageRequest};

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
    if session.out.json {
        return session.out.document(&documents(&mut host, args)?);
    }
    let rows = rows(&mut host, args)?;
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

/// Returns the documents of `--json`: the host's own, in the wanted order, each with the members of its usage.
fn documents(host: &mut Client<ControlClient>, args: &Args) -> Result<Value> {
    if args.sort.is_none() && !args.is_wide() {
        return host.ask("list", &json!([]));
    }
    let daemons: Vec<Map<String, Value>> = host.ask("list", &json!([]))?;
    let usages: Vec<Map<String, Value>> = match args.is_wide() {
        true => host.ask("usage", &[UsageRequest::default()])?,
        false => Vec::new(),
    };
    let documents = merged(daemons, &usages);
    let Some(column) = args.sort else {
        return Ok(documents.into());
    };
    Ok(order::sorted(documents, column)?.into())
}

/// Adds the members of a daemon's usage to its document. A daemon without one has them too, with `null`.
fn merged(
    mut daemons: Vec<Map<String, Value>>,
    usages: &[Map<String, Value>],
) -> Vec<Map<String, Value>> {
    let Some(first) = usages.first() else {
        return daemons;
    };
    let name = |document: &Map<String, Value>| document.get("name")?.as_str().map(str::to_owned);
    let by_name: HashMap<_, _> = usages.iter().map(|usage| (name(usage), usage)).collect();
    for daemon in &mut daemons {
        let is_foreign = daemon.get("foreign").is_some_and(|foreign| foreign == true);
        let own = by_name.get(&name(daemon)).filter(|_| !is_foreign);
        for key in first.keys() {
            let value = own.and_then(|usage| usage.get(key)).unwrap_or(&Value::Null);
            // Some members stand in both answers. Those of the status stay.
            daemon.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    daemons
}

/// Returns whether the row is Dae's, which stands first in every order.
fn is_dae(status: &Status) -> bool {
    status.name == DAE_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn every_document_has_the_members_of_a_usage() {
        let daemons = [
            json!({"name": "Dae", "state": "ready"}),
            json!({"name": "A", "state": "ready"}),
            json!({"name": "B", "state": "foreign", "foreign": true}),
        ];
        let usages = [
            json!({"name": "Dae", "state": "ready", "cpu_percent": 1.5}),
            json!({"name": "A", "state": "stopped", "cpu_percent": null}),
            json!({"name": "B", "state": "ready", "cpu_percent": 7.0}),
        ];
        let merged = merged(daemons.map(object).to_vec(), &usages.map(object));
        let expected = json!([
            {"name": "Dae", "state": "ready", "cpu_percent": 1.5},
            {"name": "A", "state": "ready", "cpu_percent": null},
            {"name": "B", "state": "foreign", "foreign": true, "cpu_percent": null},
        ]);
        assert_eq!(json!(merged), expected);
    }
}
