//! The reports of an ecosystem about itself: list, status, find.

use super::catalogue::DaemonRecord;
use super::{Dae, Fault, Inner, remote};
use crate::supervise::{Daemon, RetiredCounts};
use dae_runtime::os::process_usage;
use dae_store::durations;
use dae_store::manifest::Command;
use dae_store::registry::{DAE_NAME, Entry};
use dae_store::report::{
    Credential, LoadedLibraries, Mode, ReserveStatus, Retired, SourceKind, Status,
};

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
        let daemons = self.running.daemons();
        let lost = self.catalogue.all_lost();
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
        all.extend(self.running.foreign.statuses());
        all.extend(remote::statuses(&self.shared.directory, &all));
        all
    }

    pub(super) fn status(&self, name: &str) -> Result<Status, Fault> {
        if name == DAE_NAME {
            return Ok(self.own_status());
        }
        let lost = self.catalogue.why_lost(name);
        let foreign = &self.running.foreign;
        match (self.daemon(name), lost) {
            (Some(daemon), _) => Ok(self.status_of(&daemon)),
            (None, Some(reason)) => Ok(self.lost_status(name, &reason)),
            (None, None) => foreign
                .status(name)
                .or_else(|| remote::status(&self.shared.directory, name))
                .ok_or_else(|| self.unknown(name)),
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
            if let Some(foreign) = self.running.foreign.find(name) {
                return foreign;
            }
            let remote = self.shared.directory.provided_by_name(name);
            return remote
                .map(|remote| remote.credential)
                .ok_or_else(|| self.unknown(name));
        };
        let credential = daemon.credential();
        credential.ok_or_else(|| Fault::not_running(name, &daemon.glance().state))
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
            port: Some(self.endpoint.port),
            address: None,
            answer_ms: self.answer_ms(&[]),
            generation: 1,
            uptime_ms: Some(durations::in_ms(self.shared.since.elapsed())),
            restarts: 0,
            calls: self.endpoint.gate.stats.calls(),
            errors: self.endpoint.gate.stats.errors(),
            guests: self.endpoint.gate.guests.count() as u64,
            libraries: Some(self.libraries()),
            reserve: Some(self.reserve()),
            ..Status::default()
        }
    }

    /// Returns the longest time until an answer (ms): a command first waits for an instance, and then has its limit.
    /// `None` means no limit.
    fn answer_ms(&self, commands: &[Command]) -> Option<u64> {
        let config = &self.shared.config();
        if config.command_ms == 0 {
            return None;
        }
        let own = commands.iter().filter_map(|command| command.timeout_ms);
        let longest = own.fold(config.command_ms, u64::max);
        Some(longest.saturating_add(config.instance_wait_ms))
    }

    fn libraries(&self) -> LoadedLibraries {
        let libraries = &self.shared.code.libraries;
        LoadedLibraries {
            loaded: libraries.count() as u64,
            max: self.shared.config().libraries_max as u64,
            bytes: libraries.bytes(),
        }
    }

    fn reserve(&self) -> ReserveStatus {
        let pids = self.shared.code.spawner.reserve();
        let memory = |pid: &u32| Some(process_usage::of_process(*pid)?.memory_bytes);
        ReserveStatus {
            max: self.shared.config().reserve_processes as u64,
            memory_bytes: pids.iter().map(memory).sum(),
            pids,
        }
    }

    fn retired(&self, left: &RetiredCounts) -> Option<Retired> {
        (left.generations > 0).then(|| Retired {
            generations: left.generations,
            bytes: self.shared.code.libraries.idle_bytes(&left.hashes),
            left_behind: left.left_behind,
        })
    }

    /// Returns the status of a daemon that could not be restored.
    fn lost_status(&self, name: &str, reason: &str) -> Status {
        let entry = self.catalogue.entry(name);
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
    fn status_of(&self, daemon: &Daemon) -> Status {
        let recorded = self.recorded_status(&daemon.gate.name);
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
            kept_port: recorded.kept_port.filter(|_| glance.port.is_none()),
            answer_ms: self.answer_ms(&spec.artefact.manifest.commands),
            generation: glance.generation,
            uptime_ms: identity.as_ref().map(|identity| identity.uptime_ms()),
            restarts: glance.restarts,
            calls: daemon.gate.stats.calls(),
            errors: daemon.gate.stats.errors(),
            guests: daemon.gate.guests.count() as u64,
            hash: spec.artefact.hash.clone(),
            last_end: glance.last_end,
            recent: glance.recent,
            state_from: glance.state_from,
            retired: self.retired(&glance.retired),
            ..recorded
        }
    }

    /// Returns the part of a daemon's status that the catalogue knows.
    fn recorded_status(&self, name: &str) -> Status {
        let record = self.catalogue.record_of(name);
        let source_kind = source_kind(&record);
        let entry = record.entry.as_ref();
        let source = entry.and_then(|entry| entry.source_in(&self.home.data));
        Status {
            kept_port: entry.and_then(|entry| entry.port),
            source: source.map(|path| path.display().to_string()),
            source_note: self.source_note(&record),
            source_kind,
            start_note: record.start_note,
            last_refusal: record.last_refusal.map(|(_, refusal)| refusal),
            quarantined: record
                .entry
                .map(|entry| entry.quarantined)
                .unwrap_or_default(),
            ..Status::default()
        }
    }
}

impl Inner {
    /// Returns the note on a daemon's file: that it has gone, or that its newest version doesn't run.
    fn source_note(&self, record: &DaemonRecord) -> String {
        let Some(until) = record.absent_until else {
            let kind = source_kind(record);
            return kind.map_or("", SourceKind::note).to_owned();
        };
        let left = until.saturating_sub(self.shared.since.elapsed());
        format!("gone: uninstalled in {} s", left.as_secs_f64().ceil())
    }
}

/// Returns the relation between the daemon's file and what runs, if they aren't the same.
fn source_kind(record: &DaemonRecord) -> Option<SourceKind> {
    if record.absent_until.is_some() {
        return Some(SourceKind::Gone);
    }
    if let Some((change, _)) = &record.last_refusal
        && change.brings_file()
    {
        return Some(SourceKind::NewerRefused);
    }
    let entry = record.entry.as_ref()?;
    let hash = entry.source_hash.as_ref()?;
    Some(match entry.quarantined.contains_key(hash) {
        true => SourceKind::NewerQuarantined,
        false => SourceKind::NewerRolledBack,
    })
}
