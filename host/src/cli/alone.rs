//! `install` and `uninstall` where no host runs: on the store and the registry themselves.
//!
//! The caller holds the home's lock throughout. What is refused, and what the registry then says, is decided by the same
//! function as in a host ([`request::decide`]); only whether the daemon starts is not known here. A refusal leaves store and
//! registry as they were.

use anyhow::Result;

use super::exit::Fault;
use crate::config::Config;
use crate::dae::request::{self, Known};
use crate::home::Home;
use crate::manifest;
use crate::registry::{self, Desired, Entry, Registry};
use crate::report::{CommandChanges, InstallRequest, Installed};
use crate::states::States;
use crate::store::Store;

/// Installs as the host would, without starting anything.
pub(super) fn install(home: &Home, mut request: InstallRequest) -> Result<Installed> {
    request::check_request(&request)?;
    request.file = home.path_through(&request.file);
    let config = Config::load(&home.config_file())?;
    let path = home.registry_file();
    let mut registry = Registry::load(&path)?;
    // The file is looked at where it lies first, so that a bad one leaves nothing in the store.
    let plugin = manifest::read(&request.file)?.name;
    let name = request.name.clone().unwrap_or(plugin);
    registry::check_name(&name).map_err(anyhow::Error::msg)?;
    let store = Store::open(home)?;
    let artefact = store.stage(&request.file)?;
    let known = Known {
        home,
        config: &config,
        registry: &registry,
        departed: None,
    };
    let entry = match request::decide(&name, &request, &artefact, known) {
        Ok(decided) => decided.entry,
        Err(fault) => {
            store.sweep(&registry.hashes())?;
            return Err(fault.into());
        }
    };
    store.settle(&artefact)?;
    let installed = installed(&name, &entry);
    registry.daemons.insert(name, entry);
    registry.save(&path)?;
    store.sweep(&registry.hashes())?;
    Ok(installed)
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
        waits: entry.desired == Desired::Stopped,
    }
}

/// Forgets the daemon `name`, and the files that nobody needs any more.
pub(super) fn uninstall(home: &Home, name: &str) -> Result<()> {
    let path = home.registry_file();
    let mut registry = Registry::load(&path)?;
    if registry.daemons.remove(name).is_none() {
        return Err(Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into());
    }
    registry.save(&path)?;
    // After the registry: a file that nobody names is only waste, an entry without its file is a daemon lost.
    States::of(home).forget(name)?;
    Store::open(home)?.sweep(&registry.hashes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{self, Code};

    fn entry() -> Entry {
        let text = r#"{"plugin": "Sample", "version": "1", "hash": "00"}"#;
        serde_json::from_str(text).expect("an entry")
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
        let error = uninstall(&home, "Sampel").expect_err("there is none");
        assert_eq!(exit::code(&error), Code::UnknownName);
        assert!(
            error.to_string().contains("did you mean Sample?"),
            "{error}"
        );
        uninstall(&home, "Sample").expect("it is there");
        let left = Registry::load(&home.registry_file()).expect("loaded");
        assert!(left.daemons.is_empty());
    }
}
