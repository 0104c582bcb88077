//! Commands that change the ecosystem: `install`, `uninstall`, `start`, `stop`, `restart`, `reload`, `rollback`,
//! `isolate`, `embed`.
//!
//! A running host makes all changes itself. Without a host, `install` and `uninstall` work on the store and the
//! registry directly, and the change takes effect at the next run. The home's lock keeps the two apart: only its holder
//! may write. So a host that is just starting and a command that found none can't both write.
//!
//! Several names are handled one after another. A failure is reported and doesn't stop the others.

use std::env::consts::DLL_SUFFIX;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::Session;
use super::caller_check::CallerCheck;
use super::client::Client;
use super::exit::{self, Fault};
use super::interrupted::{self, EndMessage};
use super::json_object;
use super::names::{Names, each};
use super::offline;
use super::progress::Progress;
use super::words;
use dae_runtime::os::control_client::ControlClient;
use dae_store::home::{HomeBusy, HomeLock};
use dae_store::printable::one_line;
use dae_store::registry::{self, Registry};
use dae_store::report::{
    Changed, InstallRequest, Installed, Mode, ReloadRequest, RollbackRequest, UninstallRequest,
    Uninstalled, Version,
};

/// The longest time for a host to hold the lock without answering, while it starts or ends: its final grace is 5 s.
const HOST_SETTLES_MAX: Duration = Duration::from_secs(10);

/// The interval for trying again.
const HOST_SETTLES_POLL: Duration = Duration::from_millis(50);

/// The arguments of `install`.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// The daemon's name: 1 to 64 of A-Z a-z 0-9 _ . - [default: the plugin's own name]
    #[arg(value_name = "NAME")]
    name_or_file: PathBuf,
    #[arg(help = format!("The compiled plugin ({DLL_SUFFIX}); the host runs a private copy of it"))]
    file: Option<PathBuf>,
    /// The port to listen on [default: the system chooses one, and the daemon keeps it]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The daemon's config, a JSON object that its `start` gets, or @ and the name of a file that holds it
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Run it in a subprocess, so that a crash ends nothing else
    #[arg(long)]
    isolate: bool,
    /// Settings that override those of config.json5: a JSON object, or @ and the name of a file that holds it
    #[arg(long, value_name = "JSON|@FILE")]
    settings: Option<String>,
    /// Give it a right beyond those of every daemon: a bridge provides daemons of other hosts
    #[arg(long, value_name = "GRANT", value_parser = ["bridge"])]
    grant: Vec<String>,
    /// Start without the state of the replaced daemon, which is kept for a week
    #[arg(long)]
    fresh: bool,
    /// Start from an archived state: `last`, or an ID from `state NAME --history`
    #[arg(long, value_name = "last|ID", conflicts_with = "fresh")]
    state: Option<String>,
    /// Accept a file that is quarantined because it crashed before
    #[arg(long)]
    force: bool,
    /// Replace the daemon of that name; if the new code doesn't start, the old code runs on
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    caller_check: CallerCheck,
}

/// The arguments of `uninstall`.
#[derive(Debug, clap::Args)]
pub(super) struct UninstallArgs {
    #[command(flatten)]
    names: Names,
    /// Remove state and log at once, also those that an earlier uninstall has kept
    #[arg(long)]
    purge: bool,
}

/// The side that carries out a change.
enum Worker {
    /// The running host.
    Host(Box<Client<ControlClient>>),
    /// This process: no other can change anything while it holds this lock.
    Ours(HomeLock),
}

/// Returns the running host, or the lock that proves that there is none.
fn hands(session: &Session) -> Result<Worker> {
    let until = Instant::now() + HOST_SETTLES_MAX;
    loop {
        match interrupted::client(session) {
            Ok(client) => return Ok(Worker::Host(Box::new(client))),
            Err(error) if exit::code(&error) == exit::Code::NoHost => {}
            Err(error) if exit::code(&error) == exit::Code::HomeHeld && Instant::now() < until => {
                continue;
            }
            Err(error) => return Err(error),
        }
        session.home.create()?;
        match session.home.lock() {
            Ok(lock) => {
                let text =
                    "has ended this command; the home has its change as a whole, or not at all";
                interrupted::before_the_end(session, || EndMessage::of_signal(text, None));
                return Ok(Worker::Ours(lock));
            }
            // A host that starts holds the lock before it listens, and one that ends holds it after.
            Err(error) if error.is::<HomeBusy>() && Instant::now() < until => {
                thread::sleep(HOST_SETTLES_POLL)
            }
            Err(error) => return Err(error),
        }
    }
}

/// `install`: installs a plugin's file as a daemon.
pub(super) fn install(session: &Session, args: InstallArgs) -> Result<()> {
    let request = request(args)?;
    match hands(session)? {
        Worker::Host(mut client) => {
            let installed = install_in_host(session, &mut client, &request);
            let installed = installed.map_err(|error| not_installed(session, &request, error))?;
            let sentence = match request.replace && (installed.generation > 1 || installed.waits) {
                true => accepted(session, &installed),
                false => running(&installed),
            };
            session.out.done(&installed, &sentence)?;
            note_states(session, &installed);
            Ok(())
        }
        Worker::Ours(_lock) => {
            let installed = offline::install(&session.home, request)?;
            let Installed {
                name,
                version,
                hash,
                ..
            } = &installed;
            let text = format!(
                "{name} {version} is installed (hash {})",
                words::short_hash(hash)
            );
            session.out.done(&installed, &text)?;
            note_states(session, &installed);
            session.out.note(&next_run(session));
            Ok(())
        }
    }
}

/// Has the host install a file, and shows at a terminal that it is at work: it copies the file, tries it out and starts it.
fn install_in_host(
    session: &Session,
    client: &mut Client<ControlClient>,
    request: &InstallRequest,
) -> Result<Installed> {
    let file = request.file.file_name().unwrap_or_default();
    let what = format!("the host installs {}", one_line(&file.to_string_lossy()));
    let _progress = Progress::waiting(session, &what);
    client.ask("install", &[request])
}

/// Adds the command that lists the kept states to an error of an install that asked for one.
fn not_installed(
    session: &Session,
    request: &InstallRequest,
    error: anyhow::Error,
) -> anyhow::Error {
    match (&request.name, &request.state) {
        (Some(name), Some(_)) => {
            let history = session.command_line(&format!("state {name} --history"));
            exit::advised(error, &format!("`{history}` lists the kept states"))
        }
        _ => error,
    }
}

fn request(args: InstallArgs) -> Result<InstallRequest> {
    let InstallArgs {
        name_or_file,
        file,
        port,
        config,
        isolate,
        settings,
        grant,
        fresh,
        state,
        force,
        replace,
        caller_check,
    } = args;
    let (name, file) = name_and_file(name_or_file, file)?;
    let file =
        std::path::absolute(&file).with_context(|| format!("cannot find {}", file.display()))?;
    registry::check_source(&file).map_err(|reason| anyhow!(reason))?;
    let config = json_object::config(config.as_deref())?;
    let settings = settings
        .map(|text| json_object::read("settings", &text))
        .transpose()?;
    let settings = with_grants(settings, grant)?;
    Ok(InstallRequest {
        name,
        file,
        port,
        config,
        replace,
        mode: isolate.then_some(Mode::Subprocess),
        settings,
        fresh,
        state,
        force,
        drop_in: false,
        strict: caller_check.strict,
        applied_from: None,
    })
}

/// Returns the settings with the rights of `--grant`.
fn with_grants(
    settings: Option<serde_json::Value>,
    grants: Vec<String>,
) -> Result<Option<serde_json::Value>, Fault> {
    if grants.is_empty() {
        return Ok(settings);
    }
    let mut settings = settings.unwrap_or_else(|| serde_json::json!({}));
    if settings.get("grants").is_some() {
        let text = "the rights are given twice, by --grant and by `grants` in --settings; keep one";
        return Err(Fault::Usage(text.to_owned()));
    }
    settings["grants"] = grants.into();
    Ok(Some(settings))
}

/// Splits the words into a name and a file, or a file alone.
fn name_and_file(
    first: PathBuf,
    second: Option<PathBuf>,
) -> Result<(Option<String>, PathBuf), Fault> {
    let Some(file) = second else {
        return match first.exists() {
            true => Ok((None, first)),
            false => Err(Fault::Usage(format!(
                "install takes a name and a file, or a file alone; there is no file {}",
                first.display()
            ))),
        };
    };
    Ok((Some(first.to_string_lossy().into_owned()), file))
}

fn running(installed: &Installed) -> String {
    let Installed {
        name,
        version,
        port,
        hash,
        ms,
        ..
    } = installed;
    let address = port.map_or_else(String::new, |port| format!(" on 127.0.0.1:{port}"));
    let ms = ms.map_or_else(String::new, |ms| format!(", {ms} ms"));
    let (runs, until) = match is_asleep(installed) {
        true => ("sleeps", ", until its first command"),
        false => ("runs", ""),
    };
    format!(
        "{name} {version} {runs}{address}{until} (hash {}{ms})",
        words::short_hash(hash)
    )
}

/// Returns whether the daemon has no instance and starts with its next command.
pub(super) fn is_asleep(installed: &Installed) -> bool {
    installed.generation == 0 && !installed.waits
}

/// Prints which stored states the daemon was started without, and how to go back to them.
fn note_states(session: &Session, installed: &Installed) {
    let name = &installed.name;
    let history = session.command_line(&format!("state {name} --history"));
    if installed.set_aside.is_some() {
        let back = session.command_line(&format!("rollback {name}"));
        session.out.note(&format!(
            "its former state is kept for a week: `{back}` goes back to it, `{history}` shows it"
        ));
    }
    if let Some(time) = installed.earlier_state {
        session.out.note(&format!(
            "a state of an earlier {name} is kept, which left at {time:.0}: `install --replace --state last` starts from it, `{history}` shows it"
        ));
    }
}

fn next_run(session: &Session) -> String {
    let home = session.home.data.display();
    let start = session.command_line("run");
    format!("no host runs for the home {home}; it takes effect at the next `{start}`")
}

/// `uninstall`: stops daemons and removes them; their states and logs are kept for a week.
pub(super) fn uninstall(session: &Session, args: &UninstallArgs) -> Result<()> {
    let request = |name: &str| UninstallRequest {
        name: name.to_owned(),
        purge: args.purge,
    };
    let said = |uninstalled: Uninstalled| {
        let mut text = uninstalled.to_string();
        if uninstalled.state_bytes.is_some() {
            let name = &uninstalled.name;
            let again = session.command_line(&format!("install {name} FILE --state last"));
            let history = session.command_line(&format!("state {name} --history"));
            text += &format!("; `{again}` starts from its state, `{history}` shows it");
        }
        (uninstalled, text)
    };
    match hands(session)? {
        Worker::Host(mut client) => {
            let names = args.names.of_host(&mut client)?;
            each(session, &names, |name| {
                let uninstalled = client.ask("uninstall", &[request(name)])?;
                Ok(said(uninstalled))
            })
        }
        Worker::Ours(_lock) => {
            let registry = Registry::load(&session.home.registry_file())?;
            let names = args.names.among(registry.daemons.keys())?;
            each(session, &names, |name| {
                offline::uninstall(&session.home, &request(name)).map(said)
            })?;
            session.out.note(&next_run(session));
            Ok(())
        }
    }
}

/// Runs `start`, `stop`, `restart`, `isolate` and `embed` through the host; without one there is nothing to change.
pub(super) fn change(session: &Session, command: &str, names: &Names) -> Result<()> {
    let mut client = interrupted::client(session)?;
    let names = names.of_host(&mut client)?;
    each(session, &names, |name| {
        let changed: Changed = client.ask(command, &[name])?;
        let Changed {
            name,
            state,
            ms,
            note,
        } = &changed;
        let note = match note.as_str() {
            "" => String::new(),
            note => format!("; {note}"),
        };
        let text = format!("{name} is {state} ({ms} ms){note}");
        Ok((changed, text))
    })
}

/// The arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    names: Names,
    /// Start without the state of the running generation
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    caller_check: CallerCheck,
}

/// `reload`: replaces the code of daemons with their files as they are now.
pub(super) fn reload(session: &Session, args: &ReloadArgs) -> Result<()> {
    let mut client = interrupted::client(session)?;
    let names = args.names.of_host(&mut client)?;
    let mut reload = |name: &str| {
        let request = ReloadRequest {
            name: name.to_owned(),
            fresh: args.fresh,
            strict: args.caller_check.strict,
        };
        client.ask::<Installed>("reload", &[request])
    };
    if let Some(name) = args.names.single() {
        return report_accepted(session, &reload(name)?);
    }
    each(session, &names, |name| {
        let installed = reload(name)?;
        let sentence = accepted(session, &installed);
        Ok((installed, sentence))
    })
}

/// Reports an accepted change, and the state that was set aside by it.
pub(super) fn report_accepted(session: &Session, installed: &Installed) -> Result<()> {
    let sentence = accepted(session, installed);
    session.out.done(installed, &sentence)?;
    note_states(session, installed);
    Ok(())
}

/// The arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The daemon's name
    name: String,
    /// Show the stored versions, newest first, and change nothing
    #[arg(long, conflicts_with_all = ["to", "fresh"])]
    list: bool,
    /// The version to run: its hash or the first characters of it [default: the next older one]
    #[arg(long, value_name = "HASH")]
    to: Option<String>,
    /// Start without the state of the running generation
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    caller_check: CallerCheck,
}

/// `rollback`: replaces the daemon's code with the previous or a chosen version.
pub(super) fn rollback(session: &Session, args: RollbackArgs) -> Result<()> {
    let RollbackArgs {
        name,
        list,
        to,
        fresh,
        caller_check,
    } = args;
    let mut client = interrupted::client(session)?;
    if list {
        let versions: Vec<Version> = client.ask("versions", &[&name])?;
        return match session.out.json {
            true => session.out.document(&versions),
            false => session.out.line(&words::aligned(&rows(&versions))),
        };
    }
    let stored = session.command_line(&format!("rollback {name} --list"));
    let strict = caller_check.strict;
    let request = RollbackRequest {
        name,
        to,
        fresh,
        strict,
    };
    let installed = client.ask("rollback", &[&request]);
    let installed: Installed = installed
        .map_err(|error| exit::advised(error, &format!("`{stored}` shows the stored versions")))?;
    session.out.done(&installed, &accepted(session, &installed))
}

/// Returns a heading and one row per version.
fn rows(versions: &[Version]) -> Vec<Vec<String>> {
    let heading = ["HASH", "VERSION", "PLACE", "NOTE"].map(str::to_owned);
    let row = |version: &Version| {
        let note = match version.fault.as_str() {
            "" => "-",
            fault => fault,
        };
        let cells = [
            words::short_hash(&version.hash),
            &version.version,
            &version.place,
            note,
        ];
        cells.map(|cell| one_line(cell).into_owned()).to_vec()
    };
    std::iter::once(heading.to_vec())
        .chain(versions.iter().map(row))
        .collect()
}

fn accepted(session: &Session, installed: &Installed) -> String {
    let Installed {
        name,
        hash,
        generation,
        ..
    } = installed;
    let (generation, waits) = match installed.waits {
        true => {
            let start = session.command_line(&format!("start {name}"));
            let waits = format!("; {name} is stopped, and runs it from the next `{start}` on");
            (String::new(), waits)
        }
        false if is_asleep(installed) => {
            let waits = format!("; {name} is asleep, and runs it from the next command on");
            (String::new(), waits)
        }
        false => (format!(" generation {generation}"), String::new()),
    };
    let ms = installed
        .ms
        .map(|ms| format!(", {ms} ms"))
        .unwrap_or_default();
    let state = installed
        .state_bytes
        .map(|bytes| format!(", state {bytes} B"))
        .unwrap_or_default();
    let changes = match installed.changes.is_empty() {
        true => String::new(),
        false => format!("\n  commands: {}", installed.changes),
    };
    format!(
        "accepted {name}{generation} ({}{ms}{state}){waits}{changes}",
        words::short_hash(hash)
    )
}
