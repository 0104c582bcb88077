//! The arguments by which `logs` and `events` choose what they show, and the check of the names that they are given.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::{moment, names, time_span};
use dae_store::event_log;
use dae_store::log;
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::Status;

/// The number of latest entries that are shown by default: some screens.
const LINES_DEFAULT: usize = 100;

/// The choice of what is shown.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PastArgs {
    /// The daemons' names, or patterns with * and ?, also of uninstalled ones (`Dae` is the host itself) [default: all]
    pub(super) names: Vec<String>,
    /// Show new ones as they come, until Ctrl-C; goes on with the next host after a restart
    #[arg(short, long)]
    pub(super) follow: bool,
    /// The number of the latest to show [default: 100; with --since far more]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Show none that is earlier: `10m`, `17:30`, `2026-11-30 17:30`
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    pub(super) since: Option<Timestamp>,
    /// Show none that is later
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "follow")]
    until: Option<Timestamp>,
}

impl PastArgs {
    /// Returns the arguments with the names that each pattern stands for.
    ///
    /// # Errors
    /// A pattern or the registry can't be read.
    pub(super) fn expanded(&self, session: &Session, kept: KeptNames) -> Result<Self> {
        let mut expanded = self.clone();
        if names::has_pattern(&self.names) {
            let registry = Registry::load(&session.home.registry_file())?;
            let mut known: BTreeSet<String> = registry.daemons.into_keys().collect();
            known.insert(DAE_NAME.to_owned());
            if !self.follow {
                // A host follows only those that it has.
                known.extend(kept(session)?);
            }
            expanded.names = names::expand(&self.names, known.iter())?;
        }
        Ok(expanded)
    }

    /// Returns the number of entries to show. With `--since` the default is `since_default`.
    pub(super) fn lines(&self, since_default: usize) -> usize {
        let default = match self.since {
            Some(_) => since_default,
            None => LINES_DEFAULT,
        };
        self.lines.unwrap_or(default)
    }

    /// Returns the latest time of an entry that is shown: the end of the millisecond, since entries are printed with that
    /// much of their time.
    pub(super) fn until(&self) -> Option<Timestamp> {
        let end = |time: Timestamp| {
            let whole = time.as_millisecond();
            let next = Timestamp::from_millisecond(whole.saturating_add(1)).ok()?;
            next.checked_sub(SignedDuration::from_nanos(1)).ok()
        };
        self.until.map(|time| end(time).unwrap_or(time))
    }

    /// Checks the names of which nothing was found: a daemon that exists may only have written nothing.
    ///
    /// # Errors
    /// There is no daemon of one of these names, or it is foreign, so that nothing of it is kept here.
    pub(super) fn check_names(
        &self,
        session: &Session,
        kept: KeptNames,
        is_found: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut without = self.names.iter().filter(|name| !is_found(name));
        without.try_for_each(|name| check_known(session, kept, name))
    }
}

/// A function that returns the names of the daemons, installed or not, of which the home keeps something.
pub(super) type KeptNames = fn(&Session) -> Result<BTreeSet<String>>;

/// Returns the names of the daemons of which the home keeps events.
///
/// # Errors
/// A disk error.
pub(super) fn with_events(session: &Session) -> Result<BTreeSet<String>> {
    event_log::names(&session.home.events_dir())
}

/// Returns the names of the daemons of which the home keeps a log.
///
/// # Errors
/// A disk error.
pub(super) fn with_log(session: &Session) -> Result<BTreeSet<String>> {
    let logs = log::kept(&session.home.logs_dir())?;
    Ok(logs.into_keys().collect())
}

fn check_known(session: &Session, kept: KeptNames, name: &str) -> Result<()> {
    let registry = Registry::load(&session.home.registry_file())?;
    let is_known = name == DAE_NAME || registry.daemons.contains_key(name);
    if is_known || kept(session)?.contains(name) {
        return Ok(());
    }
    if time_span::parse(name).is_ok() {
        let text = format!(
            "{name} is no daemon; a time of several words stands in quotes, as in --since '1d {name}'"
        );
        return Err(Fault::Usage(text).into());
    }
    // Only a running host knows the foreign daemons.
    let status = Client::control(session).and_then(|mut host| host.ask("status", &[name]));
    if let Ok(Status { foreign: true, .. }) = status {
        bail!("{name} is a foreign daemon, and what it writes is not kept here");
    }
    Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into())
}
