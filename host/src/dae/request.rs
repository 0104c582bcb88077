//! From a request to what is to run, and to what the registry keeps of it.
//!
//! What a request leaves open stays as it was before. Nothing is done here: what may not be is refused, and the fault says
//! why, before anything that runs is touched.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Fault, FaultKind, Inner};
use crate::manifest;
use crate::registry::{Desired, Entry};
use crate::report::{InstallRequest, Mode};
use crate::store::Artefact;
use crate::supervise::{Daemon, Spec};

/// Stored files of before that a daemon can be rolled back to.
const PREVIOUS_MAX: usize = 3;

/// A config is an object, whoever gave it.
pub(super) fn check_config(config: Option<&Value>) -> Result<(), Fault> {
    match config {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(Fault::failed(format!(
            "a config is a JSON object; got {other}"
        ))),
    }
}

/// What is said of a name that another has.
pub(super) fn taken(name: &str, before: &Entry) -> Fault {
    let from = before
        .source
        .as_ref()
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

/// The layers of settings that were given, the new ones over those of before.
fn given_settings(request: &InstallRequest, before: Option<&Entry>) -> Value {
    let before = before.map_or(Value::Null, |entry| entry.settings.clone());
    request.settings.clone().unwrap_or(before)
}

impl Inner {
    /// What is to run, if it may.
    pub(super) fn checked_spec(
        &self,
        name: &str,
        request: &InstallRequest,
        before: Option<&Entry>,
        artefact: Arc<Artefact>,
    ) -> Result<Spec, Fault> {
        if let Some(before) = before {
            let checked = before.check_quarantine(&artefact.hash, request.force);
            checked.map_err(Fault::failed)?;
        }
        let spec = self.new_spec(name, request, before, artefact)?;
        if spec.mode == Mode::InProcess {
            manifest::check_in_process(&spec.artefact.manifest)
                .map_err(|fault| Fault::failed(fault.to_string()))?;
        }
        self.check_order(name, &spec.settings.after)?;
        Ok(spec)
    }

    /// What is to run. What the request leaves open stays as it was before.
    fn new_spec(
        &self,
        name: &str,
        request: &InstallRequest,
        before: Option<&Entry>,
        artefact: Arc<Artefact>,
    ) -> Result<Spec, Fault> {
        let config = request
            .config
            .clone()
            .or(before.map(|entry| entry.config.clone()));
        let settings = self
            .shared
            .config
            .settings(name, &given_settings(request, before))
            .map_err(Fault::failed)?;
        let mode = request
            .mode
            .or(before.map(|entry| entry.mode))
            .or(settings.mode);
        Ok(Spec {
            name: name.to_owned(),
            artefact,
            config: config.unwrap_or_else(|| json!({})),
            port: request.port.or(before.and_then(|entry| entry.port)),
            is_port_pinned: request.port.is_some() || before.is_some_and(|entry| entry.port_pinned),
            mode: mode.unwrap_or_default(),
            settings: Arc::new(settings),
        })
    }

    /// No daemon may wait for one that waits for it.
    fn check_order(&self, name: &str, after: &[String]) -> Result<(), Fault> {
        let others = self.all_daemons();
        let after_of = |other: &str| {
            let found = others.iter().find(|daemon| daemon.door.name == other);
            found
                .map(|daemon| daemon.starts_after())
                .unwrap_or_default()
        };
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
            // Circles among the others were refused when they were made; this bounds one that a config file has.
            if depth <= others.len() {
                left.extend(after_of(&other).into_iter().map(|next| (next, depth + 1)));
            }
        }
        Ok(())
    }
}

/// What the registry keeps of it.
pub(super) fn new_entry(
    request: &InstallRequest,
    before: Option<&Entry>,
    daemon: &Daemon,
) -> Entry {
    let glance = daemon.glance();
    let spec = glance.spec;
    let mut previous: Vec<String> = before
        .map(|entry| entry.previous.clone())
        .unwrap_or_default();
    if let Some(before) = before.filter(|before| before.hash != spec.artefact.hash) {
        previous.retain(|hash| *hash != spec.artefact.hash && *hash != before.hash);
        previous.insert(0, before.hash.clone());
        previous.truncate(PREVIOUS_MAX);
    }
    Entry {
        plugin: spec.artefact.manifest.name.clone(),
        version: spec.artefact.manifest.version.clone(),
        hash: spec.artefact.hash.clone(),
        source: Some(request.file.clone()),
        source_hash: None,
        settings: given_settings(request, before),
        quarantined: before
            .map(|before| before.quarantine_after(&spec.artefact.hash, request.force))
            .unwrap_or_default(),
        drop_in: request.drop_in,
        port: glance.port,
        port_pinned: spec.is_port_pinned,
        config: spec.config,
        mode: spec.mode,
        desired: Desired::Running,
        previous,
    }
}
