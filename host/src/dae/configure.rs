//! Changes the values that a daemon runs with: its config, settings, port and mode. Its code stays.
//!
//! The change is checked before anything that runs is touched. A new instance takes over as at a reload, and if it doesn't
//! start, the old one runs on with the old values. Only another port needs a stop and a start, after a check that
//! it can be had; if the daemon doesn't start there, it goes back to its port.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::carry::ChangeKind;
use super::change::{refused, waits_for_start};
use super::{Dae, Fault, Inner};
use crate::supervise::listen;
use crate::supervise::{ChangeStart, Daemon, DaemonSpec, Replacement, StartFrom};
use dae_store::daemon_config::{self, DaemonConfig};
use dae_store::daemon_state::DaemonState;
use dae_store::difference::{Difference, differences};
use dae_store::durations;
use dae_store::event::{ChangedSetting, DaeEventKind};
use dae_store::install_plan;
use dae_store::manifest;
use dae_store::ranged;
use dae_store::registry::Entry;
use dae_store::report::{ConfigureRequest, Configured, Mode, TakesEffect, ValueChange};

impl Dae {
    /// Returns the values that a daemon runs with, and the layer that each of its settings comes from.
    ///
    /// # Errors
    /// Fails if this host has no daemon of that name.
    pub fn config_of(&self, name: &str) -> Result<DaemonConfig, Fault> {
        let inner = &self.inner;
        inner.known(name)?;
        let entry = inner.entry(name)?;
        DaemonConfig::of(name, &entry, &inner.shared.config(), &inner.home.data)
            .map_err(Fault::failed)
    }

    /// Changes the values that a daemon runs with, or says what would change.
    ///
    /// # Errors
    /// Fails if a value is wrong, or if the daemon doesn't start with the new values. It runs on with the old ones then.
    pub async fn configure(&self, request: ConfigureRequest) -> Result<Configured, Fault> {
        let name = request.name.clone();
        let is_dry = request.dry_run;
        self.carry_through(move |dae, begin| async move {
            let configured = dae.configure_now(request, &begin).await;
            if !is_dry {
                dae.inner
                    .note_outcome(&name, ChangeKind::Configure, &configured);
            }
            configured
        })
        .await
    }

    async fn configure_now(
        &self,
        request: ConfigureRequest,
        begin: &Arc<ChangeStart>,
    ) -> Result<Configured, Fault> {
        let (began, inner) = (Instant::now(), &self.inner);
        let name = request.name.clone();
        let _turn = inner.running.turn(&name).await;
        let daemon = inner.known(&name)?;
        let mut entry = inner.changed_entry(&request)?;
        let before = daemon.glance().spec;
        let after = inner.checked_spec(&before, &entry)?;
        let found = changed_values(&before, &after);
        let takes_effect = takes_effect(&daemon, &found);
        let is_to_do = !request.dry_run && takes_effect != TakesEffect::Unchanged;
        if is_to_do {
            let specs = (before.clone(), after.clone());
            inner.apply(&daemon, specs, begin).await?;
            // A port that is not pinned may be another one by now.
            entry.port = daemon.port().or(entry.port);
            if let Err(error) = inner.record_values(&name, entry).await {
                // The daemon ran by these values just now. If it doesn't any more, its state says why.
                let _ = inner.apply(&daemon, (after, before), begin).await;
                let text =
                    format!("{name}: the change could not be recorded, and was undone: {error:#}");
                return Err(Fault::failed(text));
            }
            inner.send_change(&daemon, &found);
        }
        Ok(Configured {
            name,
            changed: found,
            takes_effect,
            dry_run: request.dry_run,
            ms: durations::in_ms(began.elapsed()),
        })
    }
}

impl Inner {
    /// Returns the daemon's entry with the values of the request.
    fn changed_entry(&self, request: &ConfigureRequest) -> Result<Entry, Fault> {
        let mut entry = self.entry(&request.name)?;
        if let Some(config) = &request.config {
            if !config.is_object() {
                let text = format!("a config is a JSON object; got {config}");
                return Err(Fault::bad_arguments(text));
            }
            entry.config = config.clone();
        }
        if let Some(settings) = &request.settings {
            entry.settings = settings.clone();
        }
        for ValueChange { path, value } in &request.values {
            let (object, inner) = match path.strip_prefix("config.") {
                Some(inner) => (&mut entry.config, inner),
                None => (&mut entry.settings, path.as_str()),
            };
            daemon_config::put(object, inner, value.clone()).map_err(Fault::bad_arguments)?;
            if value.is_none() && inner == path {
                // An empty object of settings says nothing, and would count as a difference.
                daemon_config::prune(object, inner);
            }
        }
        entry.mode = chosen_mode(request, &mut entry)?;
        if request.unpin {
            entry.port_pinned = false;
        }
        if let Some(port) = request.port {
            ranged::check_port(port)
                .map_err(|text| Fault::bad_arguments(format!("port: {text}")))?;
            (entry.port, entry.port_pinned) = (Some(port), true);
        }
        Ok(entry)
    }

    /// Records the values of a changed entry.
    async fn record_values(&self, name: &str, changed: Entry) -> anyhow::Result<()> {
        let record = self.change_registry(|registry| {
            if let Some(entry) = registry.daemons.get_mut(name) {
                (entry.config, entry.settings) = (changed.config, changed.settings);
                (entry.port, entry.port_pinned) = (changed.port, changed.port_pinned);
                entry.mode = changed.mode;
            }
        });
        record.await
    }

    /// Returns what the daemon would run by that entry.
    fn checked_spec(&self, before: &DaemonSpec, entry: &Entry) -> Result<DaemonSpec, Fault> {
        let (name, config) = (&before.name, &self.shared.config());
        let settings = config.settings(name, &entry.settings);
        let settings = settings.map_err(Fault::failed)?;
        self.catalogue.read(|registry| {
            if let Some(port) = entry.port.filter(|_| entry.port_pinned) {
                install_plan::check_port(registry, name, port)?;
            }
            install_plan::check_order((registry, config), name, &settings.after)
        })?;
        match entry.mode {
            Mode::Subprocess if before.mode != Mode::Subprocess => {
                self.check_has_file(name, ChangeKind::Isolate)?;
            }
            Mode::Subprocess => {}
            Mode::InProcess => manifest::check_in_process(&before.artefact.manifest)
                .map_err(|fault| Fault::failed(fault.to_string()))?,
        }
        Ok(DaemonSpec {
            config: entry.config.clone(),
            mode: entry.mode,
            port: entry.port.or(before.port),
            is_port_pinned: entry.port_pinned,
            settings: Arc::new(settings),
            ..before.clone()
        })
    }

    /// Lets the daemon run by the new values, or leaves it with the old ones.
    pub(super) async fn apply(
        &self,
        daemon: &Daemon,
        (before, after): (DaemonSpec, DaemonSpec),
        begin: &Arc<ChangeStart>,
    ) -> Result<(), Fault> {
        let name = after.name.clone();
        let is_moved = after.port != before.port && daemon.port().is_some();
        let replacement = Replacement::of(after, StartFrom::Kept);
        let made = match daemon.glance().state {
            DaemonState::Stopped | DaemonState::Finished | DaemonState::Starting => {
                daemon.prepare(begin, replacement).await
            }
            // Only the listener changes; the daemon stays asleep.
            DaemonState::Asleep { .. } => daemon.replace(begin, replacement).await,
            _ if is_moved => return self.restart_at(daemon, (before, replacement), begin).await,
            _ => daemon.replace(begin, replacement).await,
        };
        made.map(drop).map_err(|text| refused(&name, &text, daemon))
    }

    /// Stops the daemon and starts it at its new port, or at its old one if it doesn't start there.
    async fn restart_at(
        &self,
        daemon: &Daemon,
        (before, replacement): (DaemonSpec, Replacement),
        begin: &Arc<ChangeStart>,
    ) -> Result<(), Fault> {
        let name = before.name.clone();
        let failed = |text: String| Fault::failed(format!("{name}: {text}"));
        // A port that can't be had interrupts nobody.
        let free = listen::check(&replacement.spec, &self.shared.runtime);
        free.map_err(|text| refused(&name, &text, daemon))?;
        daemon.stop(begin).await.map_err(failed)?;
        let started = match daemon.prepare(begin, replacement).await {
            Ok(_) => daemon.start(begin).await,
            Err(text) => Err(text),
        };
        let Err(text) = started else { return Ok(()) };
        let back = Replacement::of(before, StartFrom::Kept);
        // The daemon ran by these values just now. If it doesn't start by them any more, its state says why.
        let _ = daemon.stop(begin).await;
        let _ = daemon.prepare(begin, back).await;
        let _ = daemon.start(begin).await;
        Err(refused(&name, &text, daemon))
    }

    /// Sends the event of a change, if there is any.
    pub(super) fn send_change(&self, daemon: &Daemon, found: &[Difference]) {
        if found.is_empty() {
            return;
        }
        let (name, generation) = (&daemon.gate.name, daemon.glance().generation);
        let changed = DaeEventKind::SettingsChanged {
            changed: found.iter().map(kept).collect(),
        };
        let generation = (generation > 0).then_some(generation);
        self.shared.events.send(name, generation, changed);
    }
}

/// Returns the mode that the request leads to. It stands in the entry, and may also stand in the settings there: both are
/// the same from then on.
fn chosen_mode(request: &ConfigureRequest, entry: &mut Entry) -> Result<Mode, Fault> {
    let is_set = |value: &ValueChange| value.path == "mode" && value.value.is_some();
    let is_in_request = request.settings.is_some() || request.values.iter().any(is_set);
    let given = entry.settings.get("mode").filter(|_| is_in_request);
    let by_settings = match given.cloned() {
        None | Some(serde_json::Value::Null) => None,
        Some(mode) => Some(serde_json::from_value(mode).map_err(|error| {
            Fault::bad_arguments(format!("mode: expected in-process or subprocess: {error}"))
        })?),
    };
    let mode = request.mode.or(by_settings).unwrap_or(entry.mode);
    if let Some(given) = entry.settings.get_mut("mode") {
        *given = json!(mode);
    }
    Ok(mode)
}

/// Returns a difference for the kept events. A config, an environment and a command line may hold secrets, so of these only
/// the names are kept.
fn kept(one: &Difference) -> ChangedSetting {
    let is_secret = ["config", "settings.env", "settings.on_crash"]
        .iter()
        .any(|path| one.path.starts_with(path));
    match is_secret {
        true => ChangedSetting::hidden(&one.path),
        false => ChangedSetting::of(one),
    }
}

/// Returns the values that differ.
pub(super) fn changed_values(before: &DaemonSpec, after: &DaemonSpec) -> Vec<Difference> {
    // Settings are plain data, so they can always be written.
    let values = |spec: &DaemonSpec| {
        json!({
            "config": spec.config,
            "mode": spec.mode,
            "port": spec.port,
            "settings": &*spec.settings,
        })
    };
    let mut found = differences("", &values(before), &values(after));
    if before.is_port_pinned != after.is_port_pinned && before.port == after.port {
        found.push(Difference {
            path: "port_pinned".to_owned(),
            before: Some(json!(before.is_port_pinned)),
            now: Some(json!(after.is_port_pinned)),
        });
    }
    found
}

fn takes_effect(daemon: &Daemon, found: &[Difference]) -> TakesEffect {
    let is_down = waits_for_start(&daemon.glance().state);
    match found {
        [] => TakesEffect::Unchanged,
        _ if is_down => TakesEffect::NextStart,
        found if found.iter().any(|one| one.path == "port") => TakesEffect::Restart,
        _ => TakesEffect::Reload,
    }
}
