//! The rules of an install: one pure function decides whether a request may be carried out, and what results from it.
//!
//! A running host and the program without one both carry out the [`InstallPlan`] of [`plan_install`] and decide nothing
//! besides. So a request is refused before anything that runs is touched, with the same text whether or not a host runs.
//! Only a host can find out whether the daemon starts.
//!
//! Options that a request leaves open stay as they were. The rules see no disk, clock or daemon: what they depend on
//! comes in as an [`InstallBasis`] and an [`InstallFile`].

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::archive::Departure;
use crate::config::Config;
use crate::home::Home;
use crate::manifest::{self, Manifest};
use crate::plugin_store::Artefact;
use crate::registry::{self, Desired, Entry, Registry, SetAside};
use crate::report::{InstallRequest, Mode};
use crate::settings::Settings;

/// The most earlier stored files that a daemon can be rolled back to.
const PREVIOUS_MAX: usize = 3;

/// The ecosystem before an install.
#[derive(Debug, Clone, Copy)]
pub struct InstallBasis<'a> {
    /// The ecosystem's home.
    pub home: &'a Home,
    /// The registry.
    pub registry: &'a Registry,
    /// The record of the last uninstall of a daemon of that name, while it is kept.
    pub departed: Option<&'a Departure>,
    /// Whether the names of files ignore the case of letters: [`registry::FILES_IGNORE_CASE`].
    pub ignores_case: bool,
    /// Whether the daemon of that name is stopped, if a host runs it. If the registry could not be written at its last
    /// start or stop, this is right and the registry isn't.
    pub is_stopped: Option<bool>,
}

impl InstallBasis<'_> {
    /// Returns whether the daemon runs, if a host knows.
    fn actual(&self) -> Option<Desired> {
        self.is_stopped.map(|is_stopped| match is_stopped {
            true => Desired::Stopped,
            false => Desired::Running,
        })
    }
}

/// The file that a request names, after it was copied into the plugin store.
#[derive(Debug, Clone, Copy)]
pub struct InstallFile<'a> {
    /// The stored copy.
    pub artefact: &'a Artefact,
    /// False if the file itself has gone since it was copied.
    pub is_there: bool,
}

/// An install that may be carried out.
#[derive(Debug)]
pub struct InstallPlan {
    /// The name that the daemon runs under.
    pub name: String,
    /// The entry for the registry. Its port, if any, is the one to try first.
    pub entry: Entry,
    /// The daemon's settings.
    pub settings: Arc<Settings>,
    /// The state that the daemon starts from.
    pub start_state: StartState,
    /// The hash of the file that was installed under the name before.
    replaced: Option<String>,
}

/// The state that an installed daemon starts from. A state that it doesn't start from is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartState {
    /// The state of the instance before, or the stored one.
    Kept,
    /// No state.
    Nothing,
    /// The archived state with that id, or the newest one (`last`).
    Archived(String),
    /// The state in the record of the last uninstall.
    Departed,
}

impl InstallPlan {
    /// Returns whether the daemon starts without a state that an earlier daemon of its name may have left.
    pub fn ignores_earlier_state(&self) -> bool {
        self.replaced.is_none() && self.start_state == StartState::Nothing
    }

    /// Records in the entry that the state with that id was set aside, for a rollback to it.
    pub fn note_set_aside(&mut self, id: Option<String>) {
        let aside = id.zip(self.replaced.clone());
        if let Some((state, hash)) = aside {
            self.entry.set_aside = Some(SetAside { hash, state });
        }
    }
}

/// The reason why an install is refused, as a text for a person.
#[derive(Debug)]
pub struct InstallRefusal {
    kind: RefusalKind,
    text: String,
}

/// The kind of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request contradicts itself.
    BadArguments,
    /// Another daemon has the name. It may be free later.
    NameTaken,
    /// The file did not last before, so it is installed again only by force.
    Quarantined,
    /// Any other reason.
    Failed,
}

impl InstallRefusal {
    fn failed(text: impl Into<String>) -> Self {
        InstallRefusal {
            kind: RefusalKind::Failed,
            text: text.into(),
        }
    }

    /// Returns the kind of the refusal.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }
}

impl fmt::Display for InstallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for InstallRefusal {}

/// Decides what an install results in.
///
/// # Errors
/// All reasons for which an install is refused before anything starts: those of [`check_request`] and [`daemon_name`]; a
/// drop-in whose file has gone; a name whose files another daemon has; a taken name; quarantined code; a port that is pinned for another daemon; wrong
/// settings; a mode in which the file can't run; and a start order that is a circle.
pub fn plan_install(
    before: InstallBasis<'_>,
    request: &InstallRequest,
    config: &Config,
    file: InstallFile<'_>,
) -> Result<InstallPlan, InstallRefusal> {
    check_request(request)?;
    let artefact = file.artefact;
    let name = daemon_name(request, &artefact.manifest)?;
    check_there(request, file)?;
    check_files_apart(&name, before)?;
    let registered = before.registry.daemons.get(&name);
    if let Some(registered) = registered {
        check_same_kind(&name, registered, artefact)?;
        check_replace(&name, registered, request, before.home)?;
    }
    let departed = before.departed.filter(|_| registered.is_none());
    let remembered = departed.and_then(|departed| remembered_of(departed, before.registry));
    // A drop-in that returns gets its earlier settings. An install by hand names its own.
    let returned = remembered
        .as_ref()
        .filter(|entry| request.drop_in && entry.drop_in);
    let rules = Rules {
        name: &name,
        request,
        config,
        artefact,
        registry: before.registry,
        base: registered.or(returned),
    };
    let (mut entry, settings) = rules.entry(before.home)?;
    entry.port = entry.port.or(remembered.and_then(|entry| entry.port));
    entry.desired = before.actual().unwrap_or(entry.desired);
    Ok(InstallPlan {
        start_state: start_state(request, registered.is_some(), departed),
        replaced: registered.map(|entry| entry.hash.clone()),
        settings: Arc::new(settings),
        name,
        entry,
    })
}

/// Checks the parts of a request that can be checked before its file is read.
///
/// # Errors
/// Fails if the name is not valid for a daemon, the file's path is not usable, the request asks both for a state and for
/// none, or the config is not an object.
pub fn check_request(request: &InstallRequest) -> Result<(), InstallRefusal> {
    if let Some(name) = &request.name {
        registry::check_installed_name(name).map_err(InstallRefusal::failed)?;
    }
    registry::check_source(&request.file).map_err(InstallRefusal::failed)?;
    if request.fresh && request.state.is_some() {
        return Err(InstallRefusal {
            kind: RefusalKind::BadArguments,
            text: "`fresh` starts without a state and `state` from one; ask for one of the two"
                .to_owned(),
        });
    }
    match &request.config {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(InstallRefusal::failed(format!(
            "a config is a JSON object; got {other}"
        ))),
    }
}

/// Returns the name that the daemon runs under: the requested one, or else the plugin's own.
///
/// # Errors
/// Fails if no daemon may run under it.
pub fn daemon_name(
    request: &InstallRequest,
    manifest: &Manifest,
) -> Result<String, InstallRefusal> {
    let name = request.name.as_ref().unwrap_or(&manifest.name);
    registry::check_installed_name(name).map_err(InstallRefusal::failed)?;
    Ok(name.clone())
}

/// Returns whether a request replaces a daemon with what is installed already. `home` is the directory of the registry.
/// The host still gives the daemon a new generation, unless one has been made since the request.
pub fn is_same_again(
    registered: &Entry,
    request: &InstallRequest,
    file: InstallFile<'_>,
    home: &Path,
) -> bool {
    let InstallRequest {
        name: _,
        file: path,
        port,
        config,
        replace,
        mode,
        settings,
        fresh,
        state,
        force,
        drop_in,
        strict: _,
        applied_from: _,
    } = request;
    let is_plain = (port, mode, state) == (&None, &None, &None)
        && (config, settings) == (&None, &None)
        && !(*fresh || *force);
    let is_there = file.is_there || !drop_in;
    let is_same =
        registered.hash == file.artefact.hash && registered.source_in(home).as_ref() == Some(path);
    *replace && is_plain && is_there && is_same
}

/// Refuses a drop-in whose file has gone while the request waited for its turn.
fn check_there(request: &InstallRequest, file: InstallFile<'_>) -> Result<(), InstallRefusal> {
    match request.drop_in && !file.is_there {
        true => Err(InstallRefusal::failed(format!(
            "{} has gone again; nothing was changed",
            request.file.display()
        ))),
        false => Ok(()),
    }
}

/// Refuses a name whose files another daemon has, where the names of files ignore the case of letters.
fn check_files_apart(name: &str, before: InstallBasis<'_>) -> Result<(), InstallRefusal> {
    let Some(other) = before.registry.sharing_files(name, before.ignores_case) else {
        return Ok(());
    };
    let way_out = match before.registry.daemons.get(other) {
        Some(entry) => format!(
            "which is installed already ({} {}): the names of files here ignore the case of letters; choose another name, or \
             uninstall {other} first",
            entry.plugin, entry.version
        ),
        None => "the daemon of daemons: the names of files here ignore the case of letters; choose another name"
            .to_owned(),
    };
    Err(InstallRefusal::failed(format!(
        "a daemon {name} would share its files with {other}, {way_out}"
    )))
}

/// Returns what the daemon starts from. A drop-in that returns continues from its state. Any other new daemon starts
/// without an earlier daemon's state, unless the request names one.
fn start_state(
    request: &InstallRequest,
    is_known: bool,
    departed: Option<&Departure>,
) -> StartState {
    if let Some(which) = &request.state {
        return StartState::Archived(which.clone());
    }
    let returns = |departed: &Departure| request.drop_in && departed.is_drop_in();
    match departed {
        _ if request.fresh => StartState::Nothing,
        _ if is_known => StartState::Kept,
        Some(departed) if returns(departed) && departed.state.is_some() => StartState::Departed,
        _ => StartState::Nothing,
    }
}

/// Returns the part of an entry that an uninstall leaves. The store has removed its files, and its port may be taken by
/// others.
fn remembered_of(departed: &Departure, registry: &Registry) -> Option<Entry> {
    let departed = departed.entry.as_ref()?;
    let is_free = |port: &u16| {
        registry
            .daemons
            .values()
            .all(|entry| entry.port != Some(*port))
    };
    Some(Entry {
        hash: String::new(),
        previous: Vec::new(),
        port: departed.port.filter(is_free),
        port_pinned: false,
        ..departed.clone()
    })
}

/// Refuses to replace a daemon that is built into a program by a file, and the other way round. Neither could go back to
/// what was before.
fn check_same_kind(
    name: &str,
    registered: &Entry,
    artefact: &Artefact,
) -> Result<(), InstallRefusal> {
    let text = match (registered.is_built_in, artefact.is_built_in) {
        (true, false) => format!(
            "there is a daemon {name} already ({} {}), which is built into a program that embeds this home's host, and no \
             file can replace it; uninstall it first, or choose another name",
            registered.plugin, registered.version
        ),
        (false, true) => format!(
            "there is a daemon {name} already ({} {}), which runs a plugin file; uninstall it first, or give the built-in \
             daemon another name",
            registered.plugin, registered.version
        ),
        _ => return Ok(()),
    };
    Err(InstallRefusal {
        kind: RefusalKind::NameTaken,
        text,
    })
}

/// Refuses a name that another daemon has, unless the request replaces it.
fn check_replace(
    name: &str,
    registered: &Entry,
    request: &InstallRequest,
    home: &Home,
) -> Result<(), InstallRefusal> {
    if request.replace {
        return Ok(());
    }
    let from = registered
        .source_in(&home.data)
        .map(|source| format!(" from {}", source.display()))
        .unwrap_or_default();
    Err(InstallRefusal {
        kind: RefusalKind::NameTaken,
        text: format!(
            "there is a daemon {name} already ({} {}{from}); an install with `replace` replaces it, another name keeps both",
            registered.plugin, registered.version
        ),
    })
}

/// Refuses a port that is pinned for another daemon, even if that one doesn't run.
///
/// # Errors
/// The port is pinned.
pub fn check_port(registry: &Registry, name: &str, port: u16) -> Result<(), InstallRefusal> {
    let is_pinned = |entry: &Entry| entry.port_pinned && entry.port == Some(port);
    let mut others = registry.daemons.iter().filter(|(other, _)| *other != name);
    match others.find(|(_, entry)| is_pinned(entry)) {
        Some((other, _)) => Err(InstallRefusal::failed(format!(
            "port {port} is pinned for {other}; choose another one"
        ))),
        None => Ok(()),
    }
}

/// Refuses settings by which the daemon waits for one that waits for it. A circle in the config file is reported
/// when the host starts, and doesn't prevent an install.
///
/// # Errors
/// There is a circle.
pub fn check_order(
    (registry, config): (&Registry, &Config),
    name: &str,
    after: &[String],
) -> Result<(), InstallRefusal> {
    let after_of = |installed: &str| {
        let entry = registry.daemons.get(installed);
        let settings = entry.and_then(|entry| config.settings(installed, &entry.settings).ok());
        settings.map(|settings| settings.after).unwrap_or_default()
    };
    let mut seen = HashSet::new();
    let mut way = vec![name.to_owned()];
    let mut left: Vec<(String, usize)> = after.iter().map(|other| (other.clone(), 1)).collect();
    while let Some((other, depth)) = left.pop() {
        way.truncate(depth);
        way.push(other.clone());
        if other == name {
            return Err(InstallRefusal::failed(format!(
                "its start order is a circle: {}",
                way.join(" after ")
            )));
        }
        // Each daemon is visited once, whatever ways lead to it.
        if seen.insert(other.clone()) {
            let next = after_of(&other).into_iter();
            left.extend(next.map(|next| (next, depth + 1)));
        }
    }
    Ok(())
}

/// The data that the entry of an install depends on.
struct Rules<'a> {
    name: &'a str,
    request: &'a InstallRequest,
    config: &'a Config,
    artefact: &'a Artefact,
    registry: &'a Registry,
    /// The entry whose options count where the request leaves them open.
    base: Option<&'a Entry>,
}

impl Rules<'_> {
    /// Returns the new entry and the daemon's settings.
    fn entry(&self, home: &Home) -> Result<(Entry, Settings), InstallRefusal> {
        if let Some(base) = self.base {
            let checked = base.check_quarantine(&self.artefact.hash, self.request.force);
            checked.map_err(|text| InstallRefusal {
                kind: RefusalKind::Quarantined,
                text,
            })?;
        }
        if let Some(port) = self.request.port {
            check_port(self.registry, self.name, port)?;
        }
        let given = self.given_settings();
        let settings = self.config.settings(self.name, &given);
        let settings = settings.map_err(InstallRefusal::failed)?;
        let mode = self.mode(&settings)?;
        if self.request.settings.is_some() {
            check_order((self.registry, self.config), self.name, &settings.after)?;
        }
        let applied_from = match self.base {
            Some(base) => &base.applied_from,
            None => &self.request.applied_from,
        };
        let mut entry = Entry {
            settings: given,
            mode,
            applied_from: applied_from.clone(),
            ..self.plain_entry()
        };
        if !self.artefact.is_built_in {
            entry.set_source(&home.data, &self.request.file);
        }
        Ok((entry, settings))
    }

    /// Returns the given settings: the new ones, or else the previous ones.
    fn given_settings(&self) -> Value {
        let before = self
            .base
            .map_or(Value::Null, |entry| entry.settings.clone());
        self.request.settings.clone().unwrap_or(before)
    }

    /// Returns the mode of the daemon, if the file can run in it.
    fn mode(&self, settings: &Settings) -> Result<Mode, InstallRefusal> {
        let requested = self.request.mode.or(self.base.map(|entry| entry.mode));
        let mode = requested.or(settings.mode).unwrap_or_default();
        if mode == Mode::InProcess {
            let checked = manifest::check_in_process(&self.artefact.manifest);
            checked.map_err(|fault| InstallRefusal::failed(fault.to_string()))?;
        }
        Ok(mode)
    }

    /// Returns the new entry, without its source, settings, mode and `apply`.
    fn plain_entry(&self) -> Entry {
        let (request, base) = (self.request, self.base);
        let Artefact { hash, manifest, .. } = self.artefact;
        let same = base.filter(|base| base.hash == *hash);
        let previous = match same {
            // A program has no code but its own.
            _ if self.artefact.is_built_in => Vec::new(),
            Some(same) => same.previous.clone(),
            None => base.map_or_else(Vec::new, |base| base.previous_after(hash, PREVIOUS_MAX)),
        };
        let config = request
            .config
            .clone()
            .or(base.map(|entry| entry.config.clone()));
        Entry {
            plugin: manifest.name.clone(),
            version: manifest.version.clone(),
            hash: hash.clone(),
            source: None,
            source_in_home: None,
            source_hash: None,
            settings: Value::Null,
            applied_from: None,
            quarantined: base
                .map(|base| base.quarantine_after(hash, request.force))
                .unwrap_or_default(),
            drop_in: request.drop_in,
            is_built_in: self.artefact.is_built_in,
            port: request.port.or(base.and_then(|entry| entry.port)),
            port_pinned: request.port.is_some() || base.is_some_and(|entry| entry.port_pinned),
            config: config.unwrap_or_else(|| json!({})),
            mode: Mode::default(),
            // A daemon that its owner has stopped stays stopped, whatever file it gets.
            desired: base.map_or(Desired::Running, |entry| entry.desired),
            // Kept as long as the same code runs.
            set_aside: same.and_then(|same| same.set_aside.clone()),
            previous,
            newer: same.map(|same| same.newer.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
