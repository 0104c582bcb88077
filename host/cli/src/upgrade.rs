//! `upgrade`: gives daemons new files, one batch after the other, and stops at the first failure.
//!
//! Each upgrade is an `install --replace`: the file is checked and tried out, takes over with the state, and gives way to the
//! code before it if it doesn't last. `--pause` waits between two batches, and a daemon that was rolled back, or that doesn't
//! answer any more by then, counts as a failure too.

use std::collections::BTreeMap;
use std::env::consts::DLL_SUFFIX;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dae_runtime::os::control_client::ControlClient;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::{ErrorObject, Fault};
use super::progress::Progress;
use super::{content_hash, interrupted, time_span, words};
use dae_store::json_form::text_or_null;
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
#[derive(Debug)]
enum UpgradeOutcome {
    /// The new code runs.
    Upgraded {
        /// The duration of the take-over, in milliseconds.
        ms: u64,
    },
    /// The file has the code that runs already.
    Unchanged,
    /// The new code was refused, did not last, or left the daemon down.
    Failed(ErrorObject),
    /// An earlier one failed.
    NotTried,
    /// The directory has no file for it.
    NoFile,
}

impl UpgradeOutcome {
    /// Returns the word for programs.
    fn word(&self) -> &'static str {
        match self {
            UpgradeOutcome::Upgraded { .. } => "upgraded",
            UpgradeOutcome::Unchanged => "unchanged",
            UpgradeOutcome::Failed(_) => "failed",
            UpgradeOutcome::NotTried => "not-tried",
            UpgradeOutcome::NoFile => "no-file",
        }
    }
}

/// The code of a daemon.
#[derive(Debug, Clone, Serialize)]
struct UpgradeCode {
    #[serde(with = "text_or_null")]
    version: String,
    hash: String,
}

/// Formats as `1.2.0 (b2cfbc5bfdf6)`.
impl fmt::Display for UpgradeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, words::short_hash(&self.hash))
    }
}

/// A daemon to upgrade, and what came of it.
#[derive(Debug)]
struct Upgrade {
    name: String,
    /// The new file; empty if there is none.
    file: PathBuf,
    /// The code before.
    from: UpgradeCode,
    /// The code after; `None` if nothing was installed.
    to: Option<UpgradeCode>,
    outcome: UpgradeOutcome,
}

/// The row of `--json` for one daemon.
#[derive(Debug, Serialize)]
struct UpgradeDocument<'a> {
    name: &'a str,
    file: Option<&'a Path>,
    from: &'a UpgradeCode,
    to: Option<&'a UpgradeCode>,
    outcome: &'static str,
    ms: Option<u64>,
    error: Option<&'a ErrorObject>,
}

impl<'a> From<&'a Upgrade> for UpgradeDocument<'a> {
    fn from(one: &'a Upgrade) -> Self {
        UpgradeDocument {
            name: &one.name,
            file: Some(&*one.file).filter(|file| !file.as_os_str().is_empty()),
            from: &one.from,
            to: one.to.as_ref(),
            outcome: one.outcome.word(),
            ms: match one.outcome {
                UpgradeOutcome::Upgraded { ms } => Some(ms),
                _ => None,
            },
            error: match &one.outcome {
                UpgradeOutcome::Failed(error) => Some(error),
                _ => None,
            },
        }
    }
}

/// Upgrades one daemon, or all that have a file in a directory.
pub(super) fn upgrade(session: &Session, args: &Args) -> Result<()> {
    let mut client = interrupted::client(session)?;
    let mut upgrades = match (&args.all, &args.name, &args.file) {
        (Some(dir), ..) => all_in(session, &mut client, dir)?,
        (None, Some(name), Some(file)) => vec![one(&mut client, name, file)?],
        _ => bail!("upgrade takes a daemon and a file, or --all and a directory"),
    };
    let with_file = upgrades.partition_point(|one| !matches!(one.outcome, UpgradeOutcome::NoFile));
    carry_out_all(session, args, (&mut client, &mut upgrades[..with_file]))?;
    match session.out.json {
        true => {
            let rows: Vec<UpgradeDocument<'_>> = upgrades.iter().map(Into::into).collect();
            session.out.document(&rows)?;
        }
        false => {
            let shown = rows(&upgrades[..with_file]);
            session.out.line(&session.out.texts(&shown))?;
        }
    }
    let failed = upgrades.iter().find_map(|one| match &one.outcome {
        UpgradeOutcome::Failed(error) => Some(format!("{}: {}", one.name, error.message)),
        _ => None,
    });
    match failed {
        Some(text) => Err(anyhow::Error::msg(text)),
        None => Ok(()),
    }
}

/// Carries the upgrades out in batches, until one fails or doesn't last.
fn carry_out_all(
    session: &Session,
    args: &Args,
    (client, upgrades): (&mut Client<ControlClient>, &mut [Upgrade]),
) -> Result<()> {
    let progress = Progress::of(session, u64::try_from(upgrades.len())?);
    let batch = usize::try_from(args.batch).unwrap_or(usize::MAX);
    let mut done = 0;
    for batch in upgrades.chunks_mut(batch) {
        for one in batch.iter_mut() {
            progress.show(done, &one.name);
            done += 1;
            if !one.carry_out(client) {
                return Ok(());
            }
        }
        if !lasts(client, batch, args.pause)? {
            return Ok(());
        }
    }
    Ok(())
}

impl Upgrade {
    fn of(status: &Status, file: &Path) -> Result<Self> {
        Ok(Upgrade {
            file: std::path::absolute(file)?,
            outcome: UpgradeOutcome::NotTried,
            ..Upgrade::without_file(status)
        })
    }

    fn without_file(status: &Status) -> Self {
        Upgrade {
            name: status.name.clone(),
            file: PathBuf::new(),
            from: UpgradeCode {
                version: status.version.clone(),
                hash: status.hash.clone(),
            },
            to: None,
            outcome: UpgradeOutcome::NoFile,
        }
    }

    /// Returns the content hash that the daemon should have.
    fn hash(&self) -> &str {
        let code = self.to.as_ref().unwrap_or(&self.from);
        &code.hash
    }

    /// Gives the daemon its file. Returns false if that failed.
    fn carry_out(&mut self, client: &mut Client<ControlClient>) -> bool {
        // A file that can't be read is refused with the reason.
        if content_hash::of_file(&self.file).is_ok_and(|hash| hash == self.hash()) {
            self.to = Some(self.from.clone());
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
                self.to = Some(UpgradeCode {
                    version: installed.version,
                    hash: installed.hash,
                });
                UpgradeOutcome::Upgraded {
                    ms: installed.ms.unwrap_or(0),
                }
            }
            Err(error) => UpgradeOutcome::Failed(ErrorObject::of(&error)),
        };
        !matches!(self.outcome, UpgradeOutcome::Failed(_))
    }

    /// Notes a daemon that doesn't run the new code any more. Returns false for one.
    fn check(&mut self, status: &Status) -> bool {
        let is_up = matches!(
            status.state.as_str(),
            "ready" | "reloading" | "asleep" | "stopped" | "finished"
        );
        let is_its_code = status.hash == self.hash();
        if is_up && is_its_code {
            return true;
        }
        self.outcome = UpgradeOutcome::Failed(match &status.last_end {
            Some(end) if !is_its_code => {
                ErrorObject::new("rolled-back", &format!("rolled back: {}", end.cause))
            }
            _ => {
                let text = format!("{}: {}", status.state, status.reason);
                ErrorObject::new("not-ready", &text)
            }
        });
        false
    }
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

/// Returns the daemons that have a file in the directory, in the order of their names, and behind them those without.
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
            None => without.push(Upgrade::without_file(status)),
        }
    }
    if !without.is_empty() {
        let names: Vec<&str> = without.iter().map(|one| one.name.as_str()).collect();
        let names = names.join(", ");
        session
            .out
            .note(&format!("{} has no file for {names}", dir.display()));
    }
    if upgrades.is_empty() {
        bail!("{} has no file for any daemon", dir.display());
    }
    upgrades.extend(without);
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

fn rows(upgrades: &[Upgrade]) -> Vec<Vec<String>> {
    let heading = ["NAME", "FROM", "TO", "OUTCOME"].map(str::to_owned);
    let row = |one: &Upgrade| {
        let outcome = match &one.outcome {
            UpgradeOutcome::Upgraded { ms } => format!("upgraded ({ms} ms)"),
            UpgradeOutcome::Unchanged => "unchanged".to_owned(),
            UpgradeOutcome::Failed(error) => format!("failed: {}", error.message),
            UpgradeOutcome::NotTried => "not tried".to_owned(),
            UpgradeOutcome::NoFile => "no file".to_owned(),
        };
        let to = one.to.as_ref().map(ToString::to_string);
        let to = to.unwrap_or_else(|| "-".to_owned());
        vec![one.name.clone(), one.from.to_string(), to, outcome]
    };
    std::iter::once(heading.to_vec())
        .chain(upgrades.iter().map(row))
        .collect()
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
