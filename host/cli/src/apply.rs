//! `apply`: makes the daemons as a file declares them, and nothing else; `export` writes such a file.
//!
//! The file is compared with what the host has, which gives a plan. The plan is printed or carried out, one daemon after the
//! other in the start order. A second `apply` of the same file finds nothing to do. Daemons that the file doesn't name are
//! left alone, unless an earlier `apply` of the same file had installed them and `--prune` is given. Standard input is no file
//! that an `apply` could come back to, so nothing is pruned by it.

mod declared;
mod export;
mod plan;
mod preview;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dae_runtime::os::control_client::ControlClient;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::{self, ErrorObject, Fault};
use super::interrupted;
use super::progress::Progress;
use dae_store::daemon_config::DaemonConfig;
use dae_store::registry::DAE_NAME;
use dae_store::report::{
    Configured, InstallRequest, Installed, Status, TakesEffect, UninstallRequest, Uninstalled,
};
use declared::DeclaredSet;
pub(super) use export::{ExportArgs, export};
use plan::{PlannedAction, PlannedDaemon, PresentDaemon};

/// The word that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// The file if none is named.
const FILE_DEFAULT: &str = "dae.toml";

/// The arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file is TOML. Paths in it are relative to its directory:

  [daemons.Sorter]
  file = \"target/release/libsorter.so\"
  port = 4000                        # without it the daemon keeps the one it has
  mode = \"subprocess\"                # or \"in-process\"
  config = { every_ms = 500 }        # for the daemon's own code
  after = [\"Index\"]                  # these must be ready first
  bounds = { memory_bytes = 268435456 }
  settings = { restart = { burst_max = 10 } }

Examples:
  dae-host apply --dry-run           what would change
  dae-host apply -f prod.toml --prune
  generate-set | dae-host apply -f -   from standard input"
)]
pub(super) struct Args {
    /// The file that declares the daemons; `-` is standard input
    #[arg(short, long, value_name = "FILE", default_value = FILE_DEFAULT)]
    file: PathBuf,
    /// Print the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Uninstall the daemons that an earlier `apply` of this file had installed and that it names no more
    #[arg(long)]
    prune: bool,
}

/// A line of the plan, and its outcome.
#[derive(Debug, Serialize)]
struct AppliedDaemon<'a> {
    #[serde(flatten)]
    planned: &'a PlannedDaemon,
    /// True once it is done.
    done: bool,
    /// The failure.
    error: Option<ErrorObject>,
}

/// Makes the daemons as the file declares them.
pub(super) fn apply(session: &Session, args: &Args) -> Result<()> {
    let set = match args.file == Path::new(STANDARD_INPUT) {
        true if args.prune => {
            let text = "--prune uninstalls what an earlier `apply` of the same file had installed, and standard input is no file; \
                        name the file with -f";
            return Err(Fault::Usage(text.to_owned()).into());
        }
        true => DeclaredSet::from_reader(std::io::stdin().lock())?,
        false => DeclaredSet::read(&args.file)?,
    };
    let mut client = interrupted::client(session)?;
    let _turn = match args.dry_run {
        true => None,
        false => Some(turn(session)?),
    };
    let present = present(&mut client)?;
    preview::check_after(&set, &present)?;
    let plan = plan::plan(&set, &present, args.prune);
    let (outcomes, failed) = match args.dry_run {
        true => each_planned(session, args, &plan, |one| {
            preview::check(&set, &present, one)
        })?,
        false => each_planned(session, args, &plan, |one| {
            carry_out(&mut client, &set, one)
        })?,
    };
    match session.out.json {
        true => session.out.document(&outcomes)?,
        false => conclude(session, args, &present, &outcomes),
    }
    match failed {
        None => Ok(()),
        // The rows have the errors, and standard error has the first.
        Some(error) if session.out.json => Err(error),
        Some(error) => Err(Fault::Reported(exit::code(&error)).into()),
    }
}

/// Acts for each line of the plan that changes something, and reports it. Returns the outcomes and the first failure.
fn each_planned<'p>(
    session: &Session,
    args: &Args,
    plan: &'p [PlannedDaemon],
    mut act: impl FnMut(&PlannedDaemon) -> Result<()>,
) -> Result<(Vec<AppliedDaemon<'p>>, Option<anyhow::Error>)> {
    let (mut outcomes, mut failed) = (Vec::new(), None);
    let changes = plan.iter().filter(|one| one.action.changes()).count();
    let (progress, mut begun) = (Progress::of(session, u64::try_from(changes)?), 0);
    for planned in plan {
        let done = match planned.action.changes() {
            false => Ok(()),
            true => {
                progress.show(begun, &planned.name);
                begun += 1;
                act(planned)
            }
        };
        if planned.action.changes() && !session.out.json {
            let fate = (done.as_ref().err(), args.dry_run);
            progress.aside(|| report(session, planned, fate))?;
        }
        outcomes.push(AppliedDaemon {
            planned,
            done: !args.dry_run && done.is_ok(),
            error: done.as_ref().err().map(ErrorObject::of),
        });
        failed = failed.or(done.err());
    }
    Ok((outcomes, failed))
}

/// Takes the turn of this home's `apply`.
fn turn(session: &Session) -> Result<File> {
    let turn = session.home.apply_turn();
    let turn = turn.context("cannot take the turn to apply a file")?;
    turn.context("another `apply` changes the daemons of this home; nothing was done; try again once it has ended")
}

/// Returns the daemons that the host has.
fn present(client: &mut Client<ControlClient>) -> Result<Vec<PresentDaemon>> {
    let statuses: Vec<Status> = client.ask("list", &json!([]))?;
    let own = statuses
        .into_iter()
        .filter(|one| !one.foreign && one.name != DAE_NAME);
    own.map(|status| {
        let config: DaemonConfig = client.ask("config", &[&status.name])?;
        Ok(PresentDaemon { status, config })
    })
    .collect()
}

fn report(
    session: &Session,
    planned: &PlannedDaemon,
    (error, is_dry): (Option<&anyhow::Error>, bool),
) -> Result<()> {
    match error {
        None => session.out.changes(planned, &planned.to_string()),
        Some(error) => {
            let failed = match is_dry {
                true => "would fail",
                false => "failed",
            };
            session.out.note(&format!("{planned}: {failed}: {error:#}"));
            Ok(())
        }
    }
}

/// Prints the summary, and what the plan leaves to a person.
fn conclude(session: &Session, args: &Args, present: &[PresentDaemon], outcomes: &[AppliedDaemon]) {
    let named = |action: PlannedAction| -> Vec<&str> {
        let found = outcomes.iter().map(|one| one.planned);
        let found = found.filter(|planned| planned.action == action);
        found.map(|planned| planned.name.as_str()).collect()
    };
    let left = named(PlannedAction::Left);
    if !left.is_empty() {
        session.out.note(&format!(
            "an earlier apply of this file had installed {}; --prune uninstalls what the file names no more",
            left.join(", ")
        ));
    }
    let same = named(PlannedAction::Unchanged);
    let statuses = present.iter().map(|one| &one.status);
    for down in statuses.filter(|one| same.contains(&one.name.as_str())) {
        let Status { name, state, .. } = down;
        if matches!(
            state.as_str(),
            "crash-loop" | "failed" | "backoff" | "degraded"
        ) {
            let explain = session.command_line(&format!("explain {name}"));
            session.out.note(&format!(
                "{name} is as declared, and is in {state}: `{explain}`"
            ));
        }
    }
    let failed = outcomes.iter().filter(|one| one.error.is_some()).count();
    let to_change = outcomes.iter().filter(|one| one.planned.action.changes());
    let changed = to_change.count() - failed;
    let same = same.len();
    session.out.note(&match args.dry_run {
        true if failed > 0 => format!(
            "{changed} to change, {same} unchanged, {failed} would fail; nothing was done (--dry-run)"
        ),
        true => format!("{changed} to change, {same} unchanged; nothing was done (--dry-run)"),
        false => format!("{changed} changed, {same} unchanged, {failed} failed"),
    });
}

/// Carries out one line of the plan.
fn carry_out(
    client: &mut Client<ControlClient>,
    set: &DeclaredSet,
    planned: &PlannedDaemon,
) -> Result<()> {
    let name = &planned.name;
    if planned.action == PlannedAction::Remove {
        let request = UninstallRequest {
            name: name.clone(),
            purge: false,
        };
        client.ask::<Uninstalled>("uninstall", &[request])?;
        return Ok(());
    }
    let declared = set.daemons.get(name);
    let declared = declared.context("a planned daemon is declared")?;
    let is_new = planned.action == PlannedAction::Install;
    if is_new || planned.brings_file {
        let request = InstallRequest {
            name: Some(name.clone()),
            file: declared.file.clone(),
            // A daemon that runs gets another port by a restart, below.
            port: declared.port.filter(|_| is_new),
            config: Some(declared.config.clone()),
            settings: Some(declared.settings.clone()),
            mode: Some(declared.mode()),
            replace: !is_new,
            applied_from: set.path.clone(),
            ..InstallRequest::default()
        };
        client.ask::<Installed>("install", &[request])?;
    }
    if !is_new && (!planned.brings_file || planned.takes_effect == TakesEffect::Restart) {
        client.ask::<Configured>("configure", &[declared.values(name)])?;
    }
    Ok(())
}
