//! `logs`: shows the log of the daemons and the host, and with `-f` also new records as they come.
//!
//! Without `-f` the files in the home are read, so that it works after a crash and without a host. With `-f` the host
//! is asked, since only it knows the latest records. Nothing is missed between old and new records, because both come
//! over one connection.
//!
//! Ctrl-C ends it like any program that only reads: there is nothing to clean up.

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use dae_store::log::{Record, tail_files};
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::Status;

/// The number of records that are shown by default: some screens.
const LINES_DEFAULT: usize = 100;

/// The arguments of `logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's name (`Dae` is the host itself) [default: all daemons]
    name: Option<String>,
    /// Follow the log until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// The number of latest records to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = LINES_DEFAULT)]
    lines: usize,
}

/// Shows the log.
pub(super) fn logs(session: &Session, args: &Args) -> Result<()> {
    match args.follow {
        true => follow(session, args),
        false => past(session, args),
    }
}

fn past(session: &Session, args: &Args) -> Result<()> {
    let name = args.name.as_deref();
    let records = tail_files(&session.home.logs_dir(), name, args.lines)?;
    if let (Some(name), true) = (name, records.is_empty()) {
        check_known(session, name)?;
    }
    records
        .iter()
        .try_for_each(|record| session.out.record(record))
}

/// Returns an error if the daemon doesn't exist: a daemon without records may only have written nothing.
fn check_known(session: &Session, name: &str) -> Result<()> {
    let registry = Registry::load(&session.home.registry_file())?;
    if name == DAE_NAME || registry.daemons.contains_key(name) {
        return Ok(());
    }
    // Only a running host knows the foreign daemons.
    let status = Client::control(session).and_then(|mut host| host.ask("status", &[name]));
    if let Ok(Status { foreign: true, .. }) = status {
        bail!("{name} is a foreign daemon, and what it writes is not kept here");
    }
    Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into())
}

fn follow(session: &Session, args: &Args) -> Result<()> {
    let mut client = Client::control(session)?;
    let request = json!([{"name": args.name, "lines": args.lines, "follow": true}]);
    let past: Vec<Record> = client.ask("logs", &request)?;
    past.iter()
        .try_for_each(|record| session.out.record(record))?;
    client.wait_for_ever();
    while let Some(arguments) = client.event("log")? {
        for argument in &arguments {
            let record = serde_json::from_str(argument.get())
                .with_context(|| format!("expected a log record, got {argument}"))?;
            session.out.record(&record)?;
        }
    }
    session.out.note("the host has ended");
    Ok(())
}
