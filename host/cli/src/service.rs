//! `service`: the host as a service of systemd, of this user or, with `--system`, of the machine.
//!
//! `install` writes the unit, and starts it where systemd runs. Elsewhere, as in the making of an image, it names the
//! command that does. `uninstall` undoes both. A unit of that name that somebody else wrote is never touched: the first
//! line of ours says whose it is.

mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Session;
use super::exit::{Code, Fault};
use super::metrics::MetricsArgs;
use super::words;
use dae_runtime::os::service_manager;
use dae_store::text_file;
use unit::{MARK, Unit};

/// The name of the unit, as systemctl takes it.
const NAME: &str = "dae-host";

/// The words of systemctl that start the service, now and with the machine or at login.
const ENABLE: [&str; 3] = ["enable", "--now", NAME];

/// The home of a service of the machine, unless another one is named.
const SYSTEM_HOME: &str = "/var/lib/dae";

/// The directory of the machine's units.
const SYSTEM_UNITS: &str = "/etc/systemd/system";

/// The largest unit that is looked at (bytes).
const UNIT_BYTES_MAX: u64 = 1 << 20;

/// The arguments of `service`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: ServiceAction,
}

#[derive(Debug, clap::Subcommand)]
enum ServiceAction {
    /// Write the unit, start it, and start it again with the machine or at login
    Install(UnitArgs),
    /// Stop the service and remove its unit; the home stays
    Uninstall(Scope),
    /// Show the unit and whether it runs
    Status(Scope),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Scope {
    /// The service of the machine in place of this user's
    #[arg(long)]
    system: bool,
}

#[derive(Debug, clap::Args)]
struct UnitArgs {
    #[command(flatten)]
    scope: Scope,
    /// The user that the host runs as
    #[arg(long, value_name = "USER", requires = "system", default_value = "dae")]
    user: String,
    /// Print the unit, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// `service`: installs, removes or shows the service.
pub(super) fn service(session: &Session, args: &Args) -> Result<()> {
    if let Some(instead) = service_manager::INSTEAD {
        let text = format!("this system has no systemd; use {instead}");
        return Err(Fault::Usage(text).into());
    }
    match &args.action {
        ServiceAction::Install(args) => install(session, args),
        ServiceAction::Uninstall(scope) => uninstall(session, *scope),
        ServiceAction::Status(scope) => status(session, *scope),
    }
}

impl Scope {
    /// Returns the file of the unit.
    fn file(self) -> Result<PathBuf> {
        let directory = match self.system {
            true => PathBuf::from(SYSTEM_UNITS),
            false => {
                let of_user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
                let of_user = of_user.filter(|dir| dir.is_absolute());
                let of_home = || Some(std::env::home_dir()?.join(".config"));
                let config = of_user.or_else(of_home);
                let config = config.context("this user has no home directory for its units")?;
                config.join("systemd/user")
            }
        };
        Ok(directory.join(format!("{NAME}.service")))
    }

    /// Returns the words of a command line of systemctl.
    fn systemctl<'a>(self, words: &[&'a str]) -> Vec<&'a str> {
        let of_user = (!self.system).then_some("--user");
        ["systemctl"]
            .into_iter()
            .chain(of_user)
            .chain(words.iter().copied())
            .collect()
    }

    /// Runs systemctl, and returns its output.
    fn run(self, words: &[&str]) -> Result<String> {
        let words = self.systemctl(words);
        let line = words.join(" ");
        let output = Command::new(words[0]).args(&words[1..]).output();
        let output = output.with_context(|| format!("cannot run `{line}`"))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("`{line}` has failed: {}", reason.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn install(session: &Session, args: &UnitArgs) -> Result<()> {
    let (scope, file) = (args.scope, args.scope.file()?);
    let text = unit(session, args)?.text()?;
    if args.dry_run {
        return match session.out.json {
            true => {
                let document = json!({"unit": file, "started": false, "text": text});
                session.out.document(&document)
            }
            false => session.out.line(text.trim_end()),
        };
    }
    check_ours(&file)?;
    let is_booted = service_manager::is_booted();
    if is_booted
        && !is_active(scope)
        && let Some(held) = session.home.holder()
    {
        return Err(held.into());
    }
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&file, text))
        .with_context(|| format!("cannot write the unit {}", file.display()))?;
    if is_booted {
        scope.run(&["daemon-reload"])?;
        scope.run(&ENABLE)?;
    }
    let document = json!({"unit": file, "started": is_booted, "text": null});
    session
        .out
        .done(&document, &written(&file, scope, is_booted))?;
    if !scope.system {
        let text =
            "`loginctl enable-linger` keeps it after you log out, and starts it with the machine";
        session.out.note(text);
    }
    Ok(())
}

/// Returns the sentence about a unit that was written.
fn written(file: &Path, scope: Scope, is_booted: bool) -> String {
    let path = file.display();
    if is_booted {
        return format!("{path} is written, and the service runs");
    }
    let line = scope.systemctl(&ENABLE).join(" ");
    format!(
        "{path} is written; systemd doesn't run here, and where it does, `{line}` starts the service"
    )
}

/// Returns the unit for this program and the session's home.
fn unit(session: &Session, args: &UnitArgs) -> Result<Unit> {
    args.metrics.address()?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let home = match (session.home_named, args.scope.system) {
        (true, _) => Some(session.home.data.clone()),
        (false, true) => Some(PathBuf::from(SYSTEM_HOME)),
        (false, false) => None,
    };
    let user = args.scope.system.then(|| args.user.clone());
    Ok(Unit {
        program,
        home,
        user,
        options: args.metrics.words(),
    })
}

/// Checks that nobody else's unit is in the place of ours.
fn check_ours(file: &Path) -> Result<()> {
    match text_file::read(file, UNIT_BYTES_MAX) {
        Ok(text) if !text.starts_with(MARK) => bail!(
            "{} was not written by `service install`, so it stays; move it away first",
            file.display()
        ),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the unit {}", file.display()))
        }
    }
}

fn is_active(scope: Scope) -> bool {
    scope.run(&["is-active", NAME]).is_ok()
}

fn uninstall(session: &Session, scope: Scope) -> Result<()> {
    let file = scope.file()?;
    if !file.exists() {
        bail!("there is no unit {}", file.display());
    }
    check_ours(&file)?;
    let is_booted = service_manager::is_booted();
    if is_booted {
        scope.run(&["disable", "--now", NAME])?;
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    if is_booted {
        scope.run(&["daemon-reload"])?;
    }
    let sentence = format!("{} is removed; the home stays", file.display());
    session.out.done(&json!({"unit": file}), &sentence)
}

fn status(session: &Session, scope: Scope) -> Result<()> {
    let file = scope.file()?;
    let shown = match service_manager::is_booted() {
        true => scope.run(&["show", NAME, "-p", "ActiveState,SubState,MainPID"])?,
        false => String::new(),
    };
    let value = |key: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        let value = lines.find(|(name, _)| *name == key);
        value.map(|(_, value)| value.to_owned())
    };
    let pid = value("MainPID").and_then(|pid| pid.parse::<u32>().ok());
    let (state, detail) = (value("ActiveState"), value("SubState"));
    let is_active = matches!(
        state.as_deref(),
        Some("active" | "activating" | "reloading")
    );
    match session.out.json {
        true => session.out.document(&json!({
            "unit": file,
            "installed": file.exists(),
            "state": state,
            "detail": detail,
            "pid": pid.filter(|pid| *pid != 0),
        }))?,
        false => session
            .out
            .line(&words::facts(&facts(&file, state, detail)))?,
    }
    match is_active {
        true => Ok(()),
        false => Err(Fault::Reported(Code::NotRunning).into()),
    }
}

/// Returns the facts about a service for a person.
fn facts(
    file: &Path,
    state: Option<String>,
    detail: Option<String>,
) -> [(&'static str, String); 2] {
    let installed = match file.exists() {
        true => "installed",
        false => "not installed",
    };
    let state = match (state, detail) {
        (Some(state), Some(detail)) => format!("{state} ({detail})"),
        _ => "unknown: systemd doesn't run here".to_owned(),
    };
    let unit = format!("{} ({installed})", file.display());
    [("unit", unit), ("state", state)]
}
