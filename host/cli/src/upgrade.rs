//! `upgrade`: gives daemons new files, one batch after the other, and stops at the first failure.
//!
//! Each upgrade is an `install --replace`: the file is checked and tried out, takes over with the state, and gives way to the
//! code before it if it doesn't last. `--pause` waits between two batches, and a daemon that was rolled back, or that doesn't
//! answer any more by then, counts as a failure too.

use std::collections::BTreeMap;
use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dae_runtime::os::control_client::ControlClient;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::{content_hash, interrupted, time_span, words};
use dae_store::manifest;
use dae_store::registry::DAE_NAME;
use dae_store::report::{InstallRequest, Installed, Status};

/// The interval for checking daemons during a pause.
const PAUSE_POLL: Duration = Duration::from_millis(200);

/// The arguments of `upgrade`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dae-host upgrade [OPTIONS] <NAME> <FILE>\n       dae-host upgrade [OPTIONS] --all <DIR>",
    after_help = "Examples:
  dae-host upgrade Sorter target/release/libsorter.so --pause 30s
  dae-host upgrade --all /srv/plugins --batch 2 --pause 10s"
)]
pub(super) struct Args {
    /// The daemon's name
    #[arg(required_unless_present = "all", requires = "file")]
    name: Option<String>,
    /// The new plugin file
    file: Option<PathBuf>,
    /// Upgrade each daemon to the file in DIR that has the name of its present file, or that holds its plugin
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "file"])]
    all: Option<PathBuf>,
    /// The number of daemons that are upgraded before a pause
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// The time after each batch in which its daemons must last, such as 10s [default: none]
    #[arg(long, value_name = "TIME", value_parser = time_span::parse)]
    pause: Option<Duration>,
}

/// The outcome for one daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
enum UpgradeOutcome {
    /// The new code runs.
    Upgraded {
        /// The duration of the take-over, in milliseconds.
        ms: u64,
    },
    /// The file has the code that runs already.
    Unchanged,
    /// The new code was refused, did not last, or left the daemon down.
    Failed {
        /// The reason, a text.
        reason: String,
    },
    /// An earlier one failed.
    NotTried,
}

/// A daemon to upgrade, and what came of it.
#[derive(Debug, Serialize)]
struct Upgrade {
    name: String,
    file: PathBuf,
    /// The version and the content hash before.
    from: String,
    /// The version and the content hash after.
    to: String,
    #[serde(skip)]
    hash: String,
    #[serde(flatten)]
    outcome: UpgradeOutcome,
}

/// Upgrades one daemon, or all that have a file in a directory.
pub(super) fn upgrade(session: &Session, args: &Args) -> Result<()> {
    let mut client = interrupted::client(session)?;
    let mut upgrades = match (&args.all, &args.name, &args.file) {
        (Some(dir), ..) => all_in(session, &mut client, dir)?,
        (None, Some(name), Some(file)) => vec![one(&mut client, name, file)?],
        _ => bail!("upgrade takes a daemon and a file, or --all and a directory"),
    };
    let batch = usize::try_from(args.batch).unwrap_or(usize::MAX);
    for batch in upgrades.chunks_mut(batch) {
        if batch.iter_mut().any(|one| !one.carry_out(&mut client)) {
            break;
        }
        if !lasts(&mut client, batch, args.pause)? {
            break;
        }
    }
    match session.out.json {
        true => session.out.document(&upgrades)?,
        false => session.out.line(&table(&upgrades))?,
    }
    let failed = upgrades.iter().find_map(|one| match &one.outcome {
        UpgradeOutcome::Failed { reason } => Some(format!("{}: {reason}", one.name)),
        _ => None,
    });
    match failed {
        Some(text) => Err(anyhow::Error::msg(text)),
        None => Ok(()),
    }
}

impl Upgrade {
    fn of(status: &Status, file: &Path) -> Result<Self> {
        let file = std::path::absolute(file)?;
        Ok(Upgrade {
            name: status.name.clone(),
            file,
            from: code_of(&status.version, &status.hash),
            to: String::new(),
            hash: status.hash.clone(),
            outcome: UpgradeOutcome::NotTried,
        })
    }

    /// Gives the daemon its file. Returns false if that failed.
    fn carry_out(&mut self, client: &mut Client<ControlClient>) -> bool {
        // A file that can't be read is refused with the reason.
        if content_hash::of_file(&self.file).is_ok_and(|hash| hash == self.hash) {
            self.to.clone_from(&self.from);
            self.outcome = UpgradeOutcome::Unchanged;
            return true;
        }
        let request = InstallRequest {
            name: Some(self.name.clone()),
            file: self.file.clone(),
            replace: true,
            ..InstallRequest::default()
        };
        let installed = client.ask::<Installed>("install", &[request]);
        self.outcome = match installed {
            Ok(installed) => {
                self.to = code_of(&installed.version, &installed.hash);
                self.hash = installed.hash;
                UpgradeOutcome::Upgraded {
                    ms: installed.ms.unwrap_or(0),
                }
            }
            Err(error) => UpgradeOutcome::Failed {
                reason: format!("{error:#}"),
            },
        };
        !matches!(self.outcome, UpgradeOutcome::Failed { .. })
    }

    /// Notes a daemon that doesn't run the new code any more. Returns false for one.
    fn check(&mut self, status: &Status) -> bool {
        let is_up = matches!(
            status.state.as_str(),
            "ready" | "reloading" | "asleep" | "stopped" | "finished"
        );
        if is_up && status.hash == self.hash {
            return true;
        }
        let reason = match &status.last_end {
            Some(end) if status.hash != self.hash => format!("rolled back: {}", end.cause),
            _ => format!("{}: {}", status.state, status.reason),
        };
        self.outcome = UpgradeOutcome::Failed { reason };
        false
    }
}

fn code_of(version: &str, hash: &str) -> String {
    format!("{version} ({})", words::short_hash(hash))
}

/// Waits for the pause. Returns false as soon as one of the daemons has not lasted.
fn lasts(
    client: &mut Client<ControlClient>,
    batch: &mut [Upgrade],
    pause: Option<Duration>,
) -> Result<bool> {
    let began = Instant::now();
    let is_new = |one: &Upgrade| matches!(one.outcome, UpgradeOutcome::Upgraded { .. });
    while let Some(left) = pause.and_then(|pause| pause.checked_sub(began.elapsed())) {
        for one in batch.iter_mut().filter(|one| is_new(one)) {
            let status: Status = client.ask("status", &[&one.name])?;
            if !one.check(&status) {
                return Ok(false);
            }
        }
        thread::sleep(left.min(PAUSE_POLL));
    }
    Ok(true)
}

fn one(client: &mut Client<ControlClient>, name: &str, file: &Path) -> Result<Upgrade> {
    let status: Status = client.ask("status", &[name])?;
    if status.foreign || name == DAE_NAME {
        return Err(Fault::unknown(name, std::iter::empty()).into());
    }
    Upgrade::of(&status, file)
}

/// Returns the daemons that have a file in the directory, in the order of their names.
fn all_in(
    session: &Session,
    client: &mut Client<ControlClient>,
    dir: &Path,
) -> Result<Vec<Upgrade>> {
    let files = plugin_files(dir)?;
    let statuses: Vec<Status> = client.ask("list", &json!([]))?;
    let own = statuses
        .iter()
        .filter(|one| !one.foreign && one.name != DAE_NAME);
    let (mut upgrades, mut without) = (Vec::new(), Vec::new());
    for status in own {
        match file_for(status, &files) {
            Some(file) => upgrades.push(Upgrade::of(status, file)?),
            None => without.push(status.name.as_str()),
        }
    }
    if !without.is_empty() {
        let names = without.join(", ");
        session
            .out
            .note(&format!("{} has no file for {names}", dir.display()));
    }
    if upgrades.is_empty() {
        bail!("{} has no file for any daemon", dir.display());
    }
    Ok(upgrades)
}

/// Returns the libraries of a directory with the names of their plugins, empty for one that is no plugin: a daemon whose
/// file has its name learns so by the attempt.
fn plugin_files(dir: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let entries = std::fs::read_dir(dir);
    let entries = entries.with_context(|| format!("cannot read {}", dir.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let is_library = |path: &PathBuf| path.to_string_lossy().ends_with(DLL_SUFFIX);
    let named = paths.filter(is_library).map(|path| {
        let plugin = manifest::read_with_needs(&path).map(|(manifest, _)| manifest.name);
        (path, plugin.unwrap_or_default())
    });
    Ok(named.collect())
}

/// Returns the file of a daemon: the one that has the name of its present file, or else the only one that holds its plugin.
fn file_for<'f>(status: &Status, files: &'f BTreeMap<PathBuf, String>) -> Option<&'f Path> {
    let source = status.source.as_ref().map(Path::new);
    let name = source.and_then(Path::file_name);
    let same_name = files.keys().find(|path| path.file_name() == name);
    let is_same = |plugin: &str| !plugin.is_empty() && plugin == status.plugin;
    let mut same_plugin = files.iter().filter(|(_, plugin)| is_same(plugin));
    let only = match (same_plugin.next(), same_plugin.next()) {
        (Some((path, _)), None) => Some(path),
        _ => None,
    };
    same_name.or(only).map(PathBuf::as_path)
}

fn table(upgrades: &[Upgrade]) -> String {
    let heading = ["NAME", "FROM", "TO", "OUTCOME"].map(str::to_owned);
    let row = |one: &Upgrade| {
        let outcome = match &one.outcome {
            UpgradeOutcome::Upgraded { ms } => format!("upgraded ({ms} ms)"),
            UpgradeOutcome::Unchanged => "unchanged".to_owned(),
            UpgradeOutcome::Failed { reason } => format!("failed: {reason}"),
            UpgradeOutcome::NotTried => "not tried".to_owned(),
        };
        let to = match one.to.as_str() {
            "" => "-",
            to => to,
        };
        vec![one.name.clone(), one.from.clone(), to.to_owned(), outcome]
    };
    let rows: Vec<_> = std::iter::once(heading.to_vec())
        .chain(upgrades.iter().map(row))
        .collect();
    words::aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_gets_the_file_of_its_name_or_the_only_one_of_its_plugin() {
        let files: BTreeMap<PathBuf, String> = [
            ("/new/a.so", "Sorter"),
            ("/new/b.so", "Sorter"),
            ("/new/c.so", "Index"),
        ]
        .map(|(path, plugin)| (PathBuf::from(path), plugin.to_owned()))
        .into();
        let of = |source: &str, plugin: &str| {
            let status = Status {
                source: Some(source.to_owned()),
                plugin: plugin.to_owned(),
                ..Status::default()
            };
            file_for(&status, &files).map(Path::to_path_buf)
        };
        assert_eq!(of("/old/b.so", "Sorter"), Some(PathBuf::from("/new/b.so")));
        assert_eq!(of("/old/x.so", "Index"), Some(PathBuf::from("/new/c.so")));
        assert_eq!(of("/old/x.so", "Sorter"), None, "two hold its plugin");
        assert_eq!(of("/old/x.so", "Other"), None);
        assert_eq!(of("/old/x.so", ""), None);
    }
}
