//! `install` and `uninstall` where no host runs: on the store and the registry themselves.
//!
//! The caller holds the home's lock throughout. What only a running daemon can show, whether it starts, is not known
//! here; everything else that makes a host refuse is refused here too, and leaves store and registry as they were.

use std::collections::HashSet;

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::exit::Fault;
use crate::home::Home;
use crate::manifest;
use crate::registry::{self, Desired, Entry, Registry};
use crate::report::{CommandChanges, InstallRequest, Installed, Mode};
use crate::states::States;
use crate::store::{Artefact, Store};

/// As the host would do it, but for what only a running daemon can show: whether it starts.
pub(super) fn install(home: &Home, request: InstallRequest) -> Result<Installed> {
    let name = request.name.clone().unwrap_or_default();
    registry::check_name(&name).map_err(|reason| anyhow!(reason))?;
    let path = home.registry_file();
    let mut registry = Registry::load(&path)?;
    check_free(&registry, &name, &request)?;
    // The file is looked at where it lies first, so that a bad one leaves nothing in the store.
    let old = registry.daemons.get(&name);
    let mode = request.mode.or(old.map(|old| old.mode)).unwrap_or_default();
    let read = manifest::read(&request.file)?;
    if mode == Mode::InProcess {
        manifest::check_in_process(&read)?;
    }
    let store = Store::open(home)?;
    let artefact = store.stage(&request.file)?;
    if let Some(old) = old {
        let checked = old.check_quarantine(&artefact.hash, request.force);
        checked.map_err(|reason| anyhow!(reason))?;
    }
    store.settle(&artefact)?;
    let entry = entry(&artefact, registry.daemons.remove(&name), request);
    let installed = Installed {
        name: name.clone(),
        plugin: entry.plugin.clone(),
        version: entry.version.clone(),
        port: entry.port,
        hash: entry.hash.clone(),
        ms: None,
        generation: 0,
        state_bytes: None,
        changes: CommandChanges::default(),
    };
    registry.daemons.insert(name, entry);
    registry.save(&path)?;
    Ok(installed)
}

fn check_free(registry: &Registry, name: &str, request: &InstallRequest) -> Result<()> {
    if let (Some(old), false) = (registry.daemons.get(name), request.replace) {
        bail!(
            "the name {name} is taken by {} {}; --replace replaces it",
            old.plugin,
            old.version
        );
    }
    let pinned = |entry: &Entry| entry.port_pinned && entry.port == request.port;
    let mut others = registry.daemons.iter().filter(|(other, _)| *other != name);
    if let (Some(port), Some((other, _))) = (request.port, others.find(|(_, entry)| pinned(entry)))
    {
        bail!("port {port} is pinned for {other}; choose another one");
    }
    Ok(())
}

/// The new entry. What the request leaves open stays as it was: guests know the port, and the config is the user's.
fn entry(artefact: &Artefact, old: Option<Entry>, request: InstallRequest) -> Entry {
    let mut previous = Vec::new();
    if let Some(old) = &old {
        previous.push(old.hash.clone());
        previous.extend_from_slice(&old.previous);
        previous.retain(|hash| *hash != artefact.hash);
    }
    let (kept_port, kept_pin) = old
        .as_ref()
        .map_or((None, false), |old| (old.port, old.port_pinned));
    let kept_config = || {
        old.as_ref()
            .map_or_else(|| json!({}), |old| old.config.clone())
    };
    Entry {
        plugin: artefact.manifest.name.clone(),
        version: artefact.manifest.version.clone(),
        hash: artefact.hash.clone(),
        source: Some(request.file),
        source_hash: None,
        settings: request
            .settings
            .unwrap_or_else(|| old.as_ref().map_or(Value::Null, |old| old.settings.clone())),
        quarantined: old
            .as_ref()
            .map(|old| old.quarantine_after(&artefact.hash, request.force))
            .unwrap_or_default(),
        drop_in: request.drop_in,
        port: request.port.or(kept_port),
        port_pinned: request.port.is_some() || kept_pin,
        config: request.config.unwrap_or_else(kept_config),
        mode: request
            .mode
            .or(old.as_ref().map(|old| old.mode))
            .unwrap_or_default(),
        desired: Desired::Running,
        previous,
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
    let needed = |entry: &Entry| {
        entry
            .previous
            .iter()
            .cloned()
            .chain([entry.hash.clone()])
            .collect::<Vec<_>>()
    };
    let keep: HashSet<String> = registry.daemons.values().flat_map(needed).collect();
    States::of(home).forget(name)?;
    Store::open(home)?.sweep(&keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{self, Code};

    fn artefact(hash: &str) -> Artefact {
        let manifest = json!({
            "name": "Sample", "version": "0.2.0", "abi": 1, "api_version": "0.1.0", "rustc": "rustc 1.95.0",
            "target": "x86_64-unknown-linux-gnu", "panic": "unwind", "about": "", "commands": [],
        });
        Artefact {
            hash: hash.to_owned(),
            path: "/store/file.so".into(),
            bytes: 1,
            mapped_bytes: 1,
            manifest: std::sync::Arc::new(serde_json::from_value(manifest).expect("a manifest")),
        }
    }

    fn request(port: Option<u16>) -> InstallRequest {
        InstallRequest {
            file: "/src/libsample.so".into(),
            port,
            ..InstallRequest::default()
        }
    }

    #[test]
    fn a_replacement_keeps_what_is_not_said_anew() {
        let first = InstallRequest {
            config: Some(json!({"a": 1})),
            ..request(Some(4000))
        };
        let first = entry(&artefact("one"), None, first);
        let second = entry(&artefact("two"), Some(first), request(None));
        assert_eq!((second.port, second.port_pinned), (Some(4000), true));
        assert_eq!(
            (second.config.clone(), second.previous.clone()),
            (json!({"a": 1}), vec!["one".to_owned()])
        );
        let back = entry(&artefact("one"), Some(second), request(Some(5000)));
        assert_eq!((back.port, back.port_pinned), (Some(5000), true));
        assert_eq!(
            back.previous,
            ["two"],
            "what runs is not among what ran before"
        );
    }

    #[test]
    fn a_taken_name_or_port_is_refused() {
        let mut registry = Registry::default();
        let old = entry(&artefact("one"), None, request(Some(4000)));
        registry.daemons.insert("Sample".to_owned(), old);
        let refused = |name, request| {
            check_free(&registry, name, &request)
                .err()
                .map(|e| e.to_string())
        };
        let text = refused("Sample", request(None)).expect("the name is taken");
        assert!(
            text.contains("Sample") && text.contains("--replace"),
            "{text}"
        );
        let text = refused("Other", request(Some(4000))).expect("the port is taken");
        assert!(text.contains("4000") && text.contains("Sample"), "{text}");
        let again = InstallRequest {
            replace: true,
            ..request(Some(4000))
        };
        assert_eq!(refused("Sample", again), None);
        assert_eq!(refused("Other", request(None)), None);
    }

    #[test]
    fn what_is_quarantined_stays_so_until_it_is_forced() {
        let mut old = entry(&artefact("one"), None, request(None));
        old.quarantined
            .insert("two".to_owned(), "it crashed".to_owned());
        let refused = old.check_quarantine("two", false).expect_err("quarantined");
        assert!(refused.contains("it crashed"), "{refused}");
        let again = entry(&artefact("one"), Some(old.clone()), request(None));
        assert_eq!(again.quarantined, old.quarantined);
        let forced = InstallRequest {
            force: true,
            ..request(None)
        };
        let forced = entry(&artefact("two"), Some(old), forced);
        assert!(forced.quarantined.is_empty());
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
        registry.daemons.insert(
            "Sample".to_owned(),
            entry(&artefact("one"), None, request(None)),
        );
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
