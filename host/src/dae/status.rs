//! The reports of an ecosystem about itself: list, status, find.

use super::carry::FILE_CHANGES;
use super::{Dae, Fault, Inner, lock};
use crate::supervise::{Daemon, RetiredCounts};
use dae_store::durations;
use dae_store::registry::{DAE_NAME, Entry};
use dae_store::report::{Credential, LoadedLibraries, Mode, Refusal, Retired, Status};

impl Dae {
    /// Returns the status of every daemon, Dae first and foreign ones last.
    #[must_use]
    pub fn list(&self) -> Vec<Status> {
        self.inner.list()
    }

    /// Returns the status of one daemon.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name.
    pub fn status(&self, name: &str) -> Result<Status, Fault> {
        self.inner.status(name)
    }

    /// Returns the credential of a running daemon.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, or it isn't running.
    pub fn find(&self, name: &str) -> Result<Credential, Fault> {
        self.inner.find(name)
    }
}

impl Inner {
    pub(super) fn list(&self) -> Vec<Status> {
        let daemons = self.all_daemons();
        let lost = lock(&self.lost).clone();
        let lost = lost
            .iter()
            .map(|(name, reason)| self.lost_status(name, reason));
        let mut all: Vec<Status> = daemons
            .iter()
            .map(|daemon| self.status_of(daemon))
            .chain(lost)
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.insert(0, self.own_status());
        all.extend(self.foreign_statuses());
        all
    }

    pub(super) fn status(&self, name: &str) -> Result<Status, Fault> {
        if name == DAE_NAME {
            return Ok(self.own_status());
        }
        let lost = lock(&self.lost).get(name).cloned();
        match (self.daemon(name), lost) {
            (Some(daemon), _) => Ok(self.status_of(&daemon)),
            (None, Some(reason)) => Ok(self.lost_status(name, &reason)),
            (None, None) => self.foreign_status(name).ok_or_else(|| self.unknown(name)),
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<Credential, Fault> {
        if name == DAE_NAME {
            return self
                .shared
                .directory
                .credential(DAE_NAME)
                .ok_or_else(|| Fault::failed("Dae is ending"));
        }
        let Some(daemon) = self.daemon(name) else {
            let foreign = self.find_foreign(name);
            return foreign.unwrap_or_else(|| Err(self.unknown(name)));
        };
        let glance = daemon.glance();
        match &glance.identity {
            Some(identity) => Ok(identity.credential()),
            None => Err(Fault::not_running(name, &glance.state)),
        }
    }

    fn own_status(&self) -> Status {
        Status {
            name: DAE_NAME.to_owned(),
            plugin: DAE_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: Some(Mode::InProcess),
            foreign: false,
            state: "ready".to_owned(),
            pid: Some(std::process::id()),
            port: Some(self.port),
            address: None,
            answer_ms: self.answer_ms(),
            generation: 1,
            uptime_ms: Some(durations::in_ms(self.shared.since.elapsed())),
            restarts: 0,
            calls: self.gate.stats.calls(),
            errors: self.gate.stats.errors(),
            guests: self.gate.guests.count() as u64,
            libraries: Some(self.libraries()),
            ..Status::default()
        }
    }

    /// Returns the longest time until an answer (ms): a command first waits for an instance, and then has its own
    /// limit. `None` means no limit.
    fn answer_ms(&self) -> Option<u64> {
        let config = &self.shared.config;
        let is_limited = config.command_ms > 0;
        is_limited.then(|| config.command_ms.saturating_add(config.instance_wait_ms))
    }

    fn libraries(&self) -> LoadedLibraries {
        let libraries = &self.shared.libraries;
        LoadedLibraries {
            loaded: libraries.count() as u64,
            max: self.shared.config.libraries_max as u64,
            bytes: libraries.bytes(),
        }
    }

    fn retired(&self, left: &RetiredCounts) -> Option<Retired> {
        (left.generations > 0).then(|| Retired {
            generations: left.generations,
            bytes: self.shared.libraries.idle_bytes(&left.hashes),
            left_behind: left.left_behind,
        })
    }

    /// Returns the status of a daemon that could not be restored.
    fn lost_status(&self, name: &str, reason: &str) -> Status {
        let entry = lock(&self.registry).daemons.get(name).cloned();
        let of = |text: fn(&Entry) -> String| entry.as_ref().map(text).unwrap_or_default();
        Status {
            name: name.to_owned(),
            plugin: of(|entry| entry.plugin.clone()),
            version: of(|entry| entry.version.clone()),
            mode: entry.as_ref().map(|entry| entry.mode),
            state: "failed".to_owned(),
            reason: reason.to_owned(),
            hash: of(|entry| entry.hash.clone()),
            ..Status::default()
        }
    }
}

impl Inner {
    fn kept_port(&self, name: &str) -> Option<u16> {
        let registry = lock(&self.registry);
        registry.daemons.get(name).and_then(|entry| entry.port)
    }

    /// Returns the path of its file, the notes on its start, and the last refused change.
    fn notes_of(
        &self,
        name: &str,
        entry: Option<&Entry>,
    ) -> (Option<String>, String, Option<Refusal>) {
        let source = entry.and_then(|entry| entry.source_in(&self.home.data));
        let start_note = lock(&self.start_notes).get(name).cloned();
        let last_refusal = lock(&self.refusals).get(name).cloned();
        let source = source.map(|path| path.display().to_string());
        (source, start_note.unwrap_or_default(), last_refusal)
    }

    fn status_of(&self, daemon: &Daemon) -> Status {
        let name = &daemon.gate.name;
        let entry = lock(&self.registry).daemons.get(name).cloned();
        let (source, start_note, last_refusal) = self.notes_of(name, entry.as_ref());
        let source_note = self.note_of(name, entry.as_ref(), last_refusal.as_ref());
        let quarantined = entry.map(|entry| entry.quarantined).unwrap_or_default();
        let kept_port = self.kept_port(&daemon.gate.name);
        let glance = daemon.glance();
        let (spec, identity) = (glance.spec, glance.identity);
        Status {
            name: spec.name,
            plugin: spec.artefact.manifest.name.clone(),
            version: spec.artefact.manifest.version.clone(),
            mode: Some(
                identity
                    .as_ref()
                    .map_or(spec.mode, |identity| identity.mode),
            ),
            state: glance.state.word().to_owned(),
            reason: glance.state.to_string(),
            pid: identity.as_ref().map(|identity| identity.pid),
            port: glance.port,
            kept_port: kept_port.filter(|_| glance.port.is_none()),
            answer_ms: self.answer_ms(),
            generation: glance.generation,
            uptime_ms: identity.as_ref().map(|identity| identity.uptime_ms()),
            restarts: glance.restarts,
            calls: daemon.gate.stats.calls(),
            errors: daemon.gate.stats.errors(),
            guests: daemon.gate.guests.count() as u64,
            hash: spec.artefact.hash.clone(),
            source,
            source_note,
            last_refusal,
            start_note,
            last_end: glance.last_end,
            recent: glance.recent,
            state_from: glance.state_from,
            quarantined,
            retired: self.retired(&glance.retired),
            ..Status::default()
        }
    }
}

impl Inner {
    /// Returns the note on a daemon's file: that it has gone, or that its newest version doesn't run.
    fn note_of(&self, name: &str, entry: Option<&Entry>, refusal: Option<&Refusal>) -> String {
        let until = lock(&self.absent).get(name).copied();
        let Some(until) = until else {
            return source_note(entry, refusal).to_owned();
        };
        let left = until.saturating_sub(self.shared.since.elapsed());
        format!("gone: uninstalled in {} s", left.as_secs_f64().ceil())
    }
}

/// Returns the note on the newest file if it is not what runs.
fn source_note(entry: Option<&Entry>, refusal: Option<&Refusal>) -> &'static str {
    let is_of_file = |refusal: &Refusal| FILE_CHANGES.contains(&&*refusal.change);
    if refusal.is_some_and(is_of_file) {
        return "newer: refused";
    }
    let rolled_back = entry.and_then(|entry| entry.source_hash.as_ref().map(|hash| (entry, hash)));
    match rolled_back {
        Some((entry, hash)) if entry.quarantined.contains_key(hash) => "newer: quarantined",
        Some(_) => "newer: rolled back",
        None => "",
    }
}
