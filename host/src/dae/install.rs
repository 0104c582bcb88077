//! An install, from its decision to the registry: the new file runs, or waits if the daemon's owner has stopped it.
//!
//! The daemon answers before the registry names the file, and the registry is on the disk before the caller gets
//! the result. A failure on the way leaves the daemon as it was.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::change::{abandoned, refused};
use super::request::{self, InstallBasis, InstallDecision};
use super::restore::spec_of;
use super::{Fault, Inner};
use crate::supervise::{ChangeStart, Daemon, DaemonSpec, OrderResult, StartFrom};
use dae_store::archive::Departure;
use dae_store::daemon_state::DaemonState;
use dae_store::plugin_store::Artefact;
use dae_store::registry::{Desired, Entry, Registry, SetAside};
use dae_store::report::InstallRequest;

/// An install that may be carried out.
struct PlannedInstall {
    entry: Entry,
    spec: DaemonSpec,
    from: StartFrom,
    /// The hash of the file that was installed before.
    before: Option<String>,
    /// The time of an earlier daemon's archived state, if this daemon starts without it.
    earlier_state: Option<Timestamp>,
}

/// The source of an install request.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    /// A caller that asked at that time. The result must be newer.
    Caller { began: Instant },
    /// The file watch.
    Watch,
}

/// A change that could not be recorded, and what undoing it needs.
struct FailedChange<'a> {
    name: &'a str,
    daemon: &'a Daemon,
    begin: &'a Arc<ChangeStart>,
    is_running: bool,
    /// The daemon's spec before the change, if there was one.
    old_spec: Option<DaemonSpec>,
    /// The id of the state that was set aside.
    set_aside: Option<String>,
}

impl Inner {
    /// Returns the generation that a request asks for, if it runs already.
    ///
    /// If many requests for the same reload come at once, the first one makes a generation for all that are older
    /// than it. For a changed file the same content never needs a new generation: it may have been compared when it
    /// was half-written.
    pub(super) fn is_done_already(
        &self,
        request: &InstallRequest,
        hash: &str,
        asker: Asker,
    ) -> Option<OrderResult> {
        let name = request.name.as_ref()?;
        let is_plain = request.config.is_none()
            && request.settings.is_none()
            && (request.mode, request.port) == (None, None)
            && request.state.is_none()
            && !(request.fresh || request.force);
        let registered = self.catalogue.entry(name)?;
        let source = registered.source_in(&self.home.data);
        let is_same = registered.hash == hash && source.as_ref() == Some(&request.file);
        let identity = self.daemon(name)?.glance().identity?;
        let is_new_enough = match asker {
            Asker::Caller { began } => identity.since > began,
            Asker::Watch => true,
        };
        (request.replace && is_plain && is_same && is_new_enough).then_some(OrderResult {
            generation: identity.generation,
            ..OrderResult::default()
        })
    }

    pub(super) async fn install(
        self: &Arc<Self>,
        name: &str,
        (request, begin): (InstallRequest, &Arc<ChangeStart>),
        artefact: Arc<Artefact>,
    ) -> Result<(Arc<Daemon>, OrderResult, Option<Timestamp>), Fault> {
        let planned = self
            .plan(name, &request, &artefact)
            .await
            .map_err(|fault| self.as_refusal(name, fault))?;
        let PlannedInstall {
            mut entry,
            spec,
            from,
            before,
            earlier_state,
        } = planned;
        let settled = self.staging.settle(artefact);
        let (daemon, done, old_spec) = match entry.desired {
            Desired::Running => self.run((spec, from), begin).await?,
            Desired::Stopped => self.prepare((spec, from), begin).await?,
        };
        let glance = daemon.glance();
        entry.port = glance.port.or(entry.port);
        entry.mode = glance.spec.mode;
        let aside = done.set_aside.clone().zip(before);
        let aside = aside.map(|(state, hash)| SetAside { hash, state });
        entry.set_aside = aside.or(entry.set_aside);
        let undo = FailedChange {
            name,
            daemon: &daemon,
            begin,
            is_running: entry.desired == Desired::Running,
            old_spec,
            set_aside: done.set_aside.clone(),
        };
        self.record(entry, settled, undo).await?;
        self.catalogue.note_found(name);
        self.running.insert(name, &daemon);
        Ok((daemon, done, earlier_state))
    }

    /// Makes the registry name a file once it is safe on the disk, or undoes the change.
    async fn record(
        self: &Arc<Self>,
        entry: Entry,
        settled: impl Future<Output = anyhow::Result<()>>,
        undo: FailedChange<'_>,
    ) -> Result<(), Fault> {
        let kept = match settled.await {
            // A start during the host's end is cut short and must not count as a start. Its caller gets an error
            // too.
            Ok(()) if undo.old_spec.is_none() && self.lifetime.ending.is_cancelled() => {
                Err(anyhow::anyhow!("the host is ending"))
            }
            Ok(()) => {
                let name = undo.name.to_owned();
                let change = |registry: &mut Registry| drop(registry.daemons.insert(name, entry));
                self.change_registry(change).await
            }
            fault => fault,
        };
        match kept {
            Ok(()) => Ok(()),
            Err(error) => Err(self.undo(undo, &format!("{error:#}")).await),
        }
    }

    async fn plan(
        self: &Arc<Self>,
        name: &str,
        request: &InstallRequest,
        artefact: &Arc<Artefact>,
    ) -> Result<PlannedInstall, Fault> {
        let before = self.catalogue.entry(name);
        let departed = match before {
            Some(_) => None,
            None => {
                let name = name.to_owned();
                let found = self.on_disk(move |inner| inner.shared.past.last_uninstall(&name));
                found.await?
            }
        };
        let decided = self.decide(name, request, artefact, departed.as_ref())?;
        let InstallDecision { entry, settings } = decided;
        let from = self.start_from(name, request, before.is_some(), departed);
        let from = from.await?;
        let earlier_state = match (&from, &before) {
            (StartFrom::Nothing, None) => {
                let name = name.to_owned();
                let found = self.on_disk(move |inner| inner.shared.past.last_state_time(&name));
                found.await?
            }
            _ => None,
        };
        Ok(PlannedInstall {
            spec: spec_of(name, &entry, Arc::clone(artefact), settings),
            entry,
            from,
            before: before.map(|before| before.hash),
            earlier_state,
        })
    }

    /// Restores the daemon as it was before a change that could not be recorded, because it will be so after a
    /// restart of the host.
    async fn undo(self: &Arc<Self>, undo: FailedChange<'_>, text: &str) -> Fault {
        let FailedChange {
            name,
            daemon,
            begin,
            ..
        } = undo;
        let Some(old_spec) = undo.old_spec else {
            let _ = daemon.end().await;
            return Fault::failed(format!("{name}: {text}"));
        };
        let aside = match undo.set_aside {
            Some(id) => self.archived(name, id).await.ok(),
            None => None,
        };
        let from = aside.map_or(StartFrom::Kept, |state| StartFrom::State(Box::new(state)));
        let undone = match undo.is_running {
            true => daemon.replace(begin, (old_spec, from)).await,
            false => daemon.prepare(begin, (old_spec, from)).await,
        };
        match undone {
            Ok(_) => refused(name, text, daemon),
            Err(fault) => {
                let text = format!("{text}; and what was before doesn't take over again: {fault}");
                refused(name, &text, daemon)
            }
        }
    }

    fn decide(
        &self,
        name: &str,
        request: &InstallRequest,
        artefact: &Artefact,
        departed: Option<&Departure>,
    ) -> Result<InstallDecision, Fault> {
        let decided = self.catalogue.read(|registry| {
            let known = InstallBasis {
                home: &self.home,
                config: &self.shared.config,
                registry,
                departed: departed.and_then(|departed| departed.entry.as_ref()),
            };
            request::decide(name, request, artefact, known)
        });
        let mut decided = decided?;
        // If the registry could not be written at the last start or stop, the daemon's own state is right.
        if let Some(daemon) = self.daemon(name) {
            decided.entry.desired = match daemon.glance().state {
                DaemonState::Stopped => Desired::Stopped,
                _ => Desired::Running,
            };
        }
        Ok(decided)
    }

    /// Makes the new file wait for the next start of a stopped daemon. The last returned value is the previous
    /// spec, if any.
    async fn prepare(
        &self,
        (spec, from): (DaemonSpec, StartFrom),
        begin: &Arc<ChangeStart>,
    ) -> Result<(Arc<Daemon>, OrderResult, Option<DaemonSpec>), Fault> {
        let name = spec.name.clone();
        let (daemon, old_spec) = match self.daemon(&name) {
            Some(daemon) => {
                let old_spec = daemon.glance().spec;
                (daemon, Some(old_spec))
            }
            None if !begin.begin() => return Err(abandoned(&name)),
            None => {
                let daemon = Daemon::supervise(spec.clone(), Arc::clone(&self.shared));
                (Arc::new(daemon), None)
            }
        };
        match daemon.prepare(begin, (spec, from)).await {
            Ok(done) => Ok((daemon, done, old_spec)),
            Err(text) => {
                let fault = refused(&name, &text, &daemon);
                if old_spec.is_none() {
                    let _ = daemon.end().await;
                }
                Err(fault)
            }
        }
    }

    /// Runs the new file, or replaces the daemon of that name with it. The last returned value is the previous
    /// spec, if any.
    async fn run(
        &self,
        (spec, from): (DaemonSpec, StartFrom),
        begin: &Arc<ChangeStart>,
    ) -> Result<(Arc<Daemon>, OrderResult, Option<DaemonSpec>), Fault> {
        let name = spec.name.clone();
        if let Some(daemon) = self.daemon(&name) {
            let old_spec = daemon.glance().spec;
            let done = daemon.replace(begin, (spec, from)).await;
            let done = done.map_err(|text| refused(&name, &text, &daemon))?;
            return Ok((daemon, done, Some(old_spec)));
        }
        if !begin.begin() {
            return Err(abandoned(&name));
        }
        let daemon = Arc::new(Daemon::supervise(spec, Arc::clone(&self.shared)));
        let spec = daemon.glance().spec;
        match daemon.replace(begin, (spec, from)).await {
            Ok(done) => Ok((daemon, done, None)),
            Err(text) => {
                let _ = daemon.end().await;
                Err(Fault::failed(format!("{name}: {text}")))
            }
        }
    }
}
