//! The home itself: its owner, its modes, its settings and registry, the host that holds it, and its times.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::super::client::Client;
use super::{Finding, Patient, counted, word};
use dae_runtime::os::control_client::ControlClient;
use dae_store::config::Config;
use dae_store::event_log::{self, EventQuery};
use dae_store::home::Home;
use dae_store::registry::Registry;

/// The difference of clocks that is no fault: times are written as they happen, and read at once.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// The most bytes of events that are read: the last one is enough.
const EVENT_BYTES_MAX: usize = 64 << 10;

/// Checks the home's directory: others who may write it could have the host run anything.
pub(super) fn top(home: &Home) -> Finding {
    let path = home.data.display();
    if !home.data.exists() {
        return Finding::ok(
            "home",
            format!("{path} is not there yet; the first `run` makes it"),
        );
    }
    match home.check() {
        Ok(()) => Finding::ok("home", format!("{path} belongs to this user alone")),
        Err(error) => Finding::error(
            "home",
            format!("expected a directory that only this user may write: {error:#}"),
            format!("ls -ld {}", word(&home.data)),
        ),
    }
}

/// Reads the settings as a host does.
pub(super) fn config(home: &Home) -> (Config, Finding) {
    let file = home.config_file();
    match Config::load(&file) {
        Ok(config) => {
            let text = match file.exists() {
                true => format!("{} is as expected", file.display()),
                false => "there is no config.json5; the defaults hold".to_owned(),
            };
            (config, Finding::ok("config", text))
        }
        Err(error) => {
            let text = format!("no host starts with these settings: {error:#}");
            let cure = format!("${{EDITOR:-vi}} {}", word(&file));
            (Config::default(), Finding::error("config", text, cure))
        }
    }
}

/// Reads the registry as a host does. Returns `None` for one that can't be read.
pub(super) fn registry(home: &Home) -> (Option<Registry>, Finding) {
    let file = home.registry_file();
    match Registry::load(&file) {
        Ok(registry) => {
            let count = counted(registry.daemons.len(), "installed daemon");
            (Some(registry), Finding::ok("registry", count))
        }
        Err(error) => {
            let text = format!("no host starts with this registry: {error:#}");
            let cure = format!("put back the file of a backup as {}", word(&file));
            (None, Finding::error("registry", text, cure))
        }
    }
}

/// Checks the lock and the control socket together: a process that holds the home must answer. `asked` is the attempt
/// to connect to it.
pub(super) fn host(
    patient: &Patient<'_>,
    asked: Option<&Result<Client<ControlClient>>>,
) -> Finding {
    let session = patient.session;
    let socket = session.home.control_socket();
    let pid = patient.holder.as_ref().and_then(|held| held.pid);
    let pid = pid.map_or_else(|| "an unknown pid".to_owned(), |pid| format!("pid {pid}"));
    match asked {
        Some(Ok(_)) => Finding::ok("host", format!("the host with {pid} answers")),
        Some(Err(error)) => Finding::error(
            "host",
            format!("a process with {pid} holds the home and doesn't answer: {error:#}"),
            session.command_line("logs Dae -n 20"),
        ),
        None if socket.exists() => {
            let text = format!(
                "no host runs, and the control socket of a killed one is left: {}",
                socket.display()
            );
            let stale = Finding::warning("socket", text, format!("rm {}", word(&socket)));
            match patient.fix {
                true => stale.cured(remove_stale(&session.home)),
                false => stale,
            }
        }
        None => Finding::ok("host", "no host runs, and none is left of an earlier one"),
    }
}

/// Removes the socket under the home's lock, since a host that starts just now makes its own.
fn remove_stale(home: &Home) -> Result<()> {
    let _lock = home.lock()?;
    let socket = home.control_socket();
    std::fs::remove_file(&socket).with_context(|| format!("cannot remove {}", socket.display()))
}

/// Checks that the host's directories are closed to others.
pub(super) fn modes(patient: &Patient<'_>) -> Vec<Finding> {
    let home = &patient.session.home;
    let open = home.open_to_others();
    if open.is_empty() {
        return vec![Finding::ok(
            "modes",
            "the host's directories are closed to others",
        )];
    }
    let finding = |dir: &std::path::PathBuf| {
        let text = format!(
            "{}: expected mode 0700, and others may use it",
            dir.display()
        );
        Finding::warning("modes", text, format!("chmod 700 {}", word(dir)))
    };
    let found = open.iter().map(finding);
    match patient.fix {
        false => found.collect(),
        true => {
            // The same as a host does at its start.
            let made = home.create().map_err(|error| format!("{error:#}"));
            let cured = |one: Finding| one.cured(made.clone().map_err(anyhow::Error::msg));
            found.map(cured).collect()
        }
    }
}

/// Checks that nothing was written in the future: after such a jump of the clock, times of the log lie.
pub(super) fn clock(patient: &Patient<'_>) -> Finding {
    let home = &patient.session.home;
    let query = EventQuery {
        lines: 1,
        ..EventQuery::default()
    };
    let last = event_log::read(&home.events_dir(), &query, EVENT_BYTES_MAX);
    let event = last.ok().and_then(|events| Some(events.last()?.time));
    let changed = std::fs::metadata(home.registry_file()).and_then(|file| file.modified());
    let changed = changed.ok().and_then(|time| Timestamp::try_from(time).ok());
    let limit = Timestamp::now() + AHEAD_MAX;
    let ahead = [("the last event", event), ("the registry", changed)];
    let ahead = ahead.into_iter().find_map(|(which, time)| {
        let time = time.filter(|time| *time > limit)?;
        Some(format!(
            "{which} is from {time:.0}, which is in the future; now is {:.0}",
            Timestamp::now()
        ))
    });
    match ahead {
        None => Finding::ok("clock", "nothing of the home is from the future"),
        Some(text) => Finding::warning("clock", text, "timedatectl set-ntp true"),
    }
}
