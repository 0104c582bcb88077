//! Derives a registry entry from an install request: one function, for a running host and for the program without
//! one.
//!
//! Options that a request leaves open stay as they were. The decision uses no disk and no daemon. So a request is
//! refused before anything that runs is touched, with the same text whether or not a host runs. Only a host can
//! find out whether the daemon starts.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Fault;
use super::departure::check_state_wish;
use super::fault::FaultKind;
use dae_store::config::Config;
use dae_store::home::Home;
use dae_store::manifest;
use dae_store::plugin_store::Artefact;
use dae_store::registry::{self, Desired, Entry, Registry};
use dae_store::report::{InstallRequest, Mode};
use dae_store::settings::Settings;

/// The most earlier stored files that a daemon can be rolled back to.
const PREVIOUS_MAX: usize = 3;

/// The data that an install is decided from, besides its request.
#[derive(Debug, Clone, Copy)]
pub struct InstallBasis<'a> {
    pub home: &'a Home,
    pub config: &'a Config,
    pub registry: &'a Registry,
    /// The entry that an earlier daemon of the name had when it was uninstalled, while that is remembered.
    pub departed: Option<&'a Entry>,
}

impl<'a> InstallBasis<'a> {
    /// Creates the basis for a name of which no daemon was uninstalled.
    pub fn of(home: &'a Home, config: &'a Config, registry: &'a Registry) -> Self {
        InstallBasis {
            home,
            config,
            registry,
            departed: None,
        }
    }
}

/// An install that may be carried out.
#[derive(Debug)]
pub struct InstallDecision {
    /// The entry for the registry. Its port, if any, is the one to try first.
    pub entry: Entry,
    /// The daemon's settings.
    pub settings: Arc<Settings>,
}

/// Checks the parts of a request that can be checked before its file is read.
///
/// # Errors
/// Fails if the name is not valid for a daemon, the file's path is not usable, the request asks both for a state
/// and for none, or the config is not an object.
pub fn check_request(request: &InstallRequest) -> Result<(), Fault> {
    if let Some(name) = &request.name {
        registry::check_name(name).map_err(Fault::failed)?;
    }
    registry::check_source(&request.file).map_err(Fault::failed)?;
    check_state_wish(request)?;
    match &request.config {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(Fault::failed(format!(
            "a config is a JSON object; got {other}"
        ))),
    }
}

/// Decides what an install results in.
///
/// # Errors
/// Fails if the name or a pinned port is taken, the content is quarantined, the settings are wrong, the start order
/// is a circle, or the file can't run in the requested mode.
pub fn decide(
    name: &str,
    request: &InstallRequest,
    artefact: &Artefact,
    known: InstallBasis<'_>,
) -> Result<InstallDecision, Fault> {
    let before = known.registry.daemons.get(name);
    if let (Some(before), false) = (before, request.replace) {
        return Err(taken(name, before, known.home));
    }
    let departed = known.departed.filter(|_| before.is_none());
    let departed = departed.map(|departed| remembered(departed, known.registry));
    // A drop-in that returns gets its earlier settings. An install by hand names its own.
    let returned = departed
        .as_ref()
        .filter(|entry| request.drop_in && entry.drop_in);
    let before = before.or(returned);
    if let Some(before) = before {
        let checked = before.check_quarantine(&artefact.hash, request.force);
        checked.map_err(Fault::failed)?;
    }
    check_port(name, request, known.registry)?;
    let given = given_settings(request, before);
    let settings = known.config.settings(name, &given);
    let settings = settings.map_err(Fault::failed)?;
    let asked = request.mode.or(before.map(|entry| entry.mode));
    let mode = mode_for(artefact, asked.or(settings.mode))?;
    check_order(name, (request, &settings), known)?;
    let mut entry = new_entry(request, before, artefact);
    entry.set_source(&known.home.data, &request.file);
    Ok(InstallDecision {
        entry: Entry {
            settings: given,
            mode,
            port: entry.port.or(departed.and_then(|departed| departed.port)),
            ..entry
        },
        settings: Arc::new(settings),
    })
}

/// Returns the mode of the daemon, if the file can run in it.
fn mode_for(artefact: &Artefact, asked: Option<Mode>) -> Result<Mode, Fault> {
    let mode = asked.unwrap_or_default();
    if mode == Mode::InProcess {
        let checked = manifest::check_in_process(&artefact.manifest);
        checked.map_err(|fault| Fault::failed(fault.to_string()))?;
    }
    Ok(mode)
}

/// Returns the part of an entry that an uninstall leaves. The store has removed its files, and its port may be
/// taken by others.
fn remembered(departed: &Entry, registry: &Registry) -> Entry {
    let is_free = |port: &u16| {
        registry
            .daemons
            .values()
            .all(|entry| entry.port != Some(*port))
    };
    Entry {
        hash: String::new(),
        previous: Vec::new(),
        port: departed.port.filter(is_free),
        port_pinned: false,
        ..departed.clone()
    }
}

/// Returns the fault for a name that another daemon has.
fn taken(name: &str, before: &Entry, home: &Home) -> Fault {
    let from = before
        .source_in(&home.data)
        .map(|source| format!(" from {}", source.display()))
        .unwrap_or_default();
    Fault {
        kind: FaultKind::NameTaken,
        text: format!(
            "there is a daemon {name} already ({} {}{from}); --replace replaces it, another name keeps both",
            before.plugin, before.version
        ),
    }
}

/// Refuses a port that is pinned for another daemon, even if that one doesn't run.
fn check_port(name: &str, request: &InstallRequest, registry: &Registry) -> Result<(), Fault> {
    let Some(port) = request.port else {
        return Ok(());
    };
    let is_pinned = |entry: &Entry| entry.port_pinned && entry.port == Some(port);
    let mut others = registry.daemons.iter().filter(|(other, _)| *other != name);
    match others.find(|(_, entry)| is_pinned(entry)) {
        Some((other, _)) => Err(Fault::failed(format!(
            "port {port} is pinned for {other}; choose another one"
        ))),
        None => Ok(()),
    }
}

/// Returns the given settings: the new ones, or else the previous ones.
fn given_settings(request: &InstallRequest, before: Option<&Entry>) -> Value {
    let before = before.map_or(Value::Null, |entry| entry.settings.clone());
    request.settings.clone().unwrap_or(before)
}

/// Refuses settings by which a daemon waits for one that waits for it. A circle in the config file is reported when
/// the host starts, and doesn't prevent an install.
fn check_order(
    name: &str,
    (request, settings): (&InstallRequest, &Settings),
    known: InstallBasis<'_>,
) -> Result<(), Fault> {
    let after = match request.settings {
        Some(_) => &settings.after[..],
        None => &[],
    };
    let daemons = &known.registry.daemons;
    let after_of = |other: &str| {
        let settings = daemons.get(other).map(|entry| &entry.settings);
        let settings = settings.and_then(|given| known.config.settings(other, given).ok());
        settings.map(|settings| settings.after).unwrap_or_default()
    };
    let mut seen = HashSet::new();
    let mut way = vec![name.to_owned()];
    let mut left: Vec<(String, usize)> = after.iter().map(|other| (other.clone(), 1)).collect();
    while let Some((other, depth)) = left.pop() {
        way.truncate(depth);
        way.push(other.clone());
        if other == name {
            return Err(Fault::failed(format!(
                "its start order is a circle: {}",
                way.join(" after ")
            )));
        }
        // Each daemon is visited once, whatever ways lead to it.
        if seen.insert(other.clone()) {
            left.extend(after_of(&other).into_iter().map(|next| (next, depth + 1)));
        }
    }
    Ok(())
}

/// Returns the new entry, without its source, settings and mode.
fn new_entry(request: &InstallRequest, before: Option<&Entry>, artefact: &Artefact) -> Entry {
    let hash = artefact.hash.clone();
    let same = before.filter(|before| before.hash == hash);
    let previous = match same {
        Some(same) => same.previous.clone(),
        None => before.map_or_else(Vec::new, |before| {
            before.previous_after(&hash, PREVIOUS_MAX)
        }),
    };
    let config = request.config.clone();
    let config = config.or(before.map(|entry| entry.config.clone()));
    Entry {
        plugin: artefact.manifest.name.clone(),
        version: artefact.manifest.version.clone(),
        source: None,
        source_in_home: None,
        source_hash: None,
        settings: Value::Null,
        quarantined: before
            .map(|before| before.quarantine_after(&hash, request.force))
            .unwrap_or_default(),
        drop_in: request.drop_in,
        port: request.port.or(before.and_then(|entry| entry.port)),
        port_pinned: request.port.is_some() || before.is_some_and(|entry| entry.port_pinned),
        config: config.unwrap_or_else(|| json!({})),
        mode: Mode::default(),
        // A daemon that its owner has stopped stays stopped, whatever file it gets.
        desired: before.map_or(Desired::Running, |entry| entry.desired),
        // Kept as long as the same code runs.
        set_aside: before
            .filter(|before| before.hash == hash)
            .and_then(|before| before.set_aside.clone()),
        previous,
        newer: same.map(|same| same.newer.clone()).unwrap_or_default(),
        hash,
    }
}

#[cfg(test)]
mod tests;
