//! `install` and `uninstall` without a running host: they change the store and the registry directly.
//!
//! The caller holds the home's lock throughout. The same function as in a host ([`install_plan::plan_install`]) decides on
//! refusals, on the registry's new entry and on the state to start from; only the daemon's start is not tried here. A
//! refusal leaves store and registry as they were.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use jiff::Timestamp;

use super::exit::Fault;
use dae_store::archive::{Archive, Departure, DepartureReason};
use dae_store::config::Config;
use dae_store::event_log::EventLog;
use dae_store::home::Home;
use dae_store::install_plan::{self, InstallBasis, InstallFile, InstallPlan, StartState};
use dae_store::manifest;
use dae_store::plugin_store::{Artefact, PluginStore};
use dae_store::registry::{Desired, Entry, FILES_IGNORE_CASE, Registry};
use dae_store::report::{CommandChanges, InstallRequest, Installed, UninstallRequest, Uninstalled};
use dae_store::snapshots::Snapshots;
use dae_store::uninstall;

/// Installs as the host would, without starting anything.
pub(super) fn install(home: &Home, mut request: InstallRequest) -> Result<Installed> {
    install_plan::check_request(&request)?;
    request.file = home.path_through(&request.file);
    let config = Config::load(&home.config_file())?;
    let mut registry = Registry::load(&home.registry_file())?;
    // Read the file in its own place first, so that a bad one leaves nothing in the store.
    let name = install_plan::daemon_name(&request, &manifest::read(&request.file)?)?;
    let store = PluginStore::open(home)?;
    let artefact = store.stage(&request.file)?;
    let ecosystem = Ecosystem {
        home,
        config: &config,
        registry: &registry,
    };
    let prepared = ecosystem.prepare(&name, &request, (&store, &artefact));
    // A refusal leaves nothing in the store.
    let prepared = prepared.inspect_err(|_| drop(store.sweep(&registry.hashes())))?;
    let Prepared {
        plan,
        set_aside,
        changes,
    } = prepared;
    store.settle(&artefact)?;
    let installed = Installed {
        changes,
        set_aside: set_aside.filter(|_| registry.daemons.contains_key(&plan.name)),
        earlier_state: match plan.ignores_earlier_state() {
            true => Archive::of(home).last_state_time(&plan.name),
            false => None,
        },
        ..installed(&plan.name, &plan.entry)
    };
    registry.daemons.insert(plan.name, plan.entry);
    registry.save(&home.registry_file())?;
    store.sweep(&registry.hashes())?;
    Ok(installed)
}

/// A planned install, whose state is prepared.
struct Prepared {
    plan: InstallPlan,
    /// The id of the state that was set aside.
    set_aside: Option<String>,
    changes: CommandChanges,
}

/// An ecosystem without a host.
struct Ecosystem<'a> {
    home: &'a Home,
    config: &'a Config,
    registry: &'a Registry,
}

impl Ecosystem<'_> {
    /// Plans an install, and prepares its state.
    fn prepare(
        &self,
        name: &str,
        request: &InstallRequest,
        (store, artefact): (&PluginStore, &Artefact),
    ) -> Result<Prepared> {
        let departed = Archive::of(self.home).last_uninstall(name);
        let before = InstallBasis {
            home: self.home,
            registry: self.registry,
            departed: departed.as_ref(),
            ignores_case: FILES_IGNORE_CASE,
            is_stopped: None,
        };
        let file = InstallFile {
            artefact,
            is_there: true,
        };
        let mut plan = install_plan::plan_install(before, request, self.config, file)?;
        let changes = self.changes(name, (store, artefact));
        manifest::check_strict(&changes, request.strict, &plan.settings)
            .map_err(|reason| anyhow!("refused {name}: {reason}"))?;
        let set_aside = set_state(self.home, &plan, departed)?;
        plan.note_set_aside(set_aside.clone());
        Ok(Prepared {
            plan,
            set_aside,
            changes,
        })
    }

    /// Returns the changes for callers. Schemas that only the code knows are compared as far as they are in the store. A
    /// stored file that can't be read is none that callers could rely on.
    fn changes(&self, name: &str, (store, artefact): (&PluginStore, &Artefact)) -> CommandChanges {
        let registered = self.registry.daemons.get(name);
        let before = registered.filter(|entry| entry.hash != artefact.hash);
        let before = before.and_then(|entry| store.find(&entry.hash).ok());
        before.map_or_else(CommandChanges::default, |before| {
            manifest::changes(&before.manifest, &artefact.manifest)
        })
    }
}

/// Prepares the planned state for the next start, and sets the previous one aside. Returns its id.
fn set_state(
    home: &Home,
    plan: &InstallPlan,
    departed: Option<Departure>,
) -> Result<Option<String>> {
    let (archive, states) = (Archive::of(home), Snapshots::of(home));
    let wanted = match &plan.start_state {
        StartState::Kept => return Ok(None),
        StartState::Nothing => None,
        StartState::Archived(which) => Some(archive.state(&plan.name, which)?),
        StartState::Departed => departed.and_then(|departed| departed.state),
    };
    let reason = match &wanted {
        Some(_) => DepartureReason::Replaced,
        None => DepartureReason::Fresh,
    };
    let id = archive.set_aside(&states, &plan.name, reason)?;
    let made = match &wanted {
        Some(state) => states.keep(&plan.name, state),
        None => states.forget(&plan.name),
    };
    if made.is_err()
        && let Some(id) = &id
    {
        // The state stays where it is.
        archive.take_back(&plan.name, id);
    }
    made.map(|()| id)
}

fn installed(name: &str, entry: &Entry) -> Installed {
    Installed {
        name: name.to_owned(),
        plugin: entry.plugin.clone(),
        version: entry.version.clone(),
        port: entry.port,
        hash: entry.hash.clone(),
        ms: None,
        generation: 0,
        state_bytes: None,
        changes: CommandChanges::default(),
        set_aside: None,
        earlier_state: None,
        waits: entry.desired == Desired::Stopped,
    }
}

/// Removes a daemon, and the files that no daemon needs any more. Its state and log are kept for a while.
pub(super) fn uninstall(home: &Home, request: &UninstallRequest) -> Result<Uninstalled> {
    let path = home.registry_file();
    let (archive, name) = (Archive::of(home), request.name.as_str());
    let events = EventLog::in_directory(&home.events_dir());
    let mut registry = Registry::load(&path)?;
    let Some(entry) = registry.daemons.remove(name) else {
        if request.purge && (events.forget(name)? | archive.purge(name)?) {
            return Ok(Uninstalled::purged(name));
        }
        return Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into());
    };
    let noted = uninstall::note_leaving(&archive, request, Some(&entry));
    if let Err(error) = registry.save(&path) {
        uninstall::take_back(&archive, request, noted);
        return Err(error);
    }
    // After the registry: a file without an entry is only waste, but an entry without its file is a lost daemon.
    let dropped = entry.source_in(&home.data).filter(|_| entry.drop_in);
    let mut uninstalled = uninstall::leave(&archive, &Snapshots::of(home), request, Some(entry));
    if request.purge {
        events.forget(name)?;
    }
    if uninstalled.note.is_empty() {
        uninstall::take_back(&archive, request, noted);
    }
    if let Some(file) = dropped {
        uninstall::move_aside(&file, &mut uninstalled);
    }
    PluginStore::open(home)?.sweep(&registry.hashes())?;
    let installed: HashSet<String> = registry.daemons.into_keys().collect();
    archive.sweep(&installed, Timestamp::now())?;
    Ok(uninstalled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{self, Code};

    fn entry() -> Entry {
        let hash = "ab".repeat(32);
        let text = format!(r#"{{"plugin": "Sample", "version": "1", "hash": "{hash}"}}"#);
        serde_json::from_str(&text).expect("an entry")
    }

    #[test]
    fn a_file_that_is_no_plugin_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("home"));
        home.create().expect("a home");
        let file = dir.path().join("text.so");
        std::fs::write(&file, "no library").expect("a file");
        let request = InstallRequest {
            name: Some("Sample".to_owned()),
            file,
            ..InstallRequest::default()
        };
        install(&home, request).expect_err("it is a text file");
        assert!(!home.registry_file().exists());
        let stored = std::fs::read_dir(home.store_dir())
            .expect("the store")
            .count();
        assert_eq!(stored, 0);
    }

    #[test]
    fn an_unknown_name_is_told_from_other_faults() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        home.create().expect("a home");
        let mut registry = Registry::default();
        registry.daemons.insert("Sample".to_owned(), entry());
        registry.save(&home.registry_file()).expect("saved");
        let of = |name: &str| UninstallRequest {
            name: name.to_owned(),
            purge: false,
        };
        let error = uninstall(&home, &of("Sampel")).expect_err("there is none");
        assert_eq!(exit::code(&error), Code::UnknownName);
        assert!(
            error.to_string().contains("did you mean Sample?"),
            "{error}"
        );
        uninstall(&home, &of("Sample")).expect("it is there");
        let left = Registry::load(&home.registry_file()).expect("loaded");
        assert!(left.daemons.is_empty());
    }
}
