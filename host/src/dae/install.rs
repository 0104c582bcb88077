//! An install, from its decision to the registry: the new file runs, or waits where the daemon's owner has stopped it.
//!
//! The daemon answers before the registry names the file, and the registry is on the disk before the caller hears of it.
//! Whatever fails on the way leaves the daemon as it was.

use std::sync::Arc;
use std::time::Instant;

use super::bring_back::spec_of;
use super::change::refused;
use super::request::{self, Decided, Known};
use super::{Fault, Inner, lock};
use crate::registry::{Desired, Entry};
use crate::report::InstallRequest;
use crate::state::State;
use crate::store::Artefact;
use crate::supervise::{Daemon, Done, Spec};

impl Inner {
    /// Of many who ask for the same reload at once, the first has it done for those whose request was older than the
    /// generation that he got.
    pub(super) fn is_done_already(
        &self,
        request: &InstallRequest,
        hash: &str,
        began: Instant,
    ) -> Option<Done> {
        let name = request.name.as_ref()?;
        let is_plain = request.config.is_none()
            && request.settings.is_none()
            && (request.mode, request.port) == (None, None)
            && !(request.fresh || request.force);
        let registered = lock(&self.registry).daemons.get(name).cloned()?;
        let source = registered.source_in(&self.home.data);
        let is_same = registered.hash == hash && source.as_ref() == Some(&request.file);
        let identity = self.daemon(name)?.glance().identity?;
        (request.replace && is_plain && is_same && identity.since > began).then_some(Done {
            generation: identity.generation,
            ..Done::default()
        })
    }

    pub(super) async fn install(
        self: &Arc<Self>,
        name: &str,
        request: InstallRequest,
        artefact: Arc<Artefact>,
    ) -> Result<(Arc<Daemon>, Done), Fault> {
        let Decided {
            mut entry,
            settings,
        } = self
            .decide(name, &request, &artefact)
            .map_err(|fault| self.as_refusal(name, fault))?;
        let spec = spec_of(name, &entry, Arc::clone(&artefact), settings);
        let settled = self.settle(artefact);
        let (daemon, done, old_spec) = match entry.desired {
            Desired::Running => self.run(spec, request.fresh).await?,
            Desired::Stopped => self.prepare(spec, request.fresh).await?,
        };
        let glance = daemon.glance();
        entry.port = glance.port.or(entry.port);
        entry.mode = glance.spec.mode;
        let is_running = entry.desired == Desired::Running;
        let kept = match settled.await {
            Ok(()) => self.change_registry(|registry| {
                registry.daemons.insert(name.to_owned(), entry);
            }),
            fault => fault,
        };
        if let Err(error) = kept {
            let text = format!("{error:#}");
            return Err(self
                .undo(name, (&daemon, is_running), old_spec, &text)
                .await);
        }
        lock(&self.lost).remove(name);
        lock(&self.daemons).insert(name.to_owned(), Arc::clone(&daemon));
        Ok((daemon, done))
    }

    /// Has the daemon be what it was before a change that could not be recorded: that is what it is after a restart.
    async fn undo(
        &self,
        name: &str,
        (daemon, is_running): (&Daemon, bool),
        old_spec: Option<Spec>,
        text: &str,
    ) -> Fault {
        let Some(old_spec) = old_spec else {
            let _ = daemon.end().await;
            return Fault::failed(format!("{name}: {text}"));
        };
        let _ = match is_running {
            true => daemon.replace(old_spec, false).await,
            false => daemon.prepare(old_spec, false).await,
        };
        refused(name, text, daemon)
    }

    fn decide(
        &self,
        name: &str,
        request: &InstallRequest,
        artefact: &Artefact,
    ) -> Result<Decided, Fault> {
        let registry = lock(&self.registry);
        let known = Known {
            home: &self.home,
            config: &self.shared.config,
            registry: &registry,
            departed: None,
        };
        let mut decided = request::decide(name, request, artefact, known)?;
        if self.is_stopped(name, &decided.entry) {
            decided.entry.desired = Desired::Stopped;
        }
        Ok(decided)
    }

    /// Whether its owner has stopped the daemon. Where the registry could not be written, the daemon itself knows better.
    fn is_stopped(&self, name: &str, entry: &Entry) -> bool {
        match self.daemon(name) {
            Some(daemon) => matches!(daemon.glance().state, State::Stopped),
            None => entry.desired == Desired::Stopped,
        }
    }

    /// Has it wait for the next start in place of what its owner has stopped, whose spec is the last of what is returned.
    async fn prepare(
        &self,
        spec: Spec,
        is_fresh: bool,
    ) -> Result<(Arc<Daemon>, Done, Option<Spec>), Fault> {
        let name = spec.name.clone();
        let (daemon, old_spec) = match self.daemon(&name) {
            Some(daemon) => {
                let old_spec = daemon.glance().spec;
                (daemon, Some(old_spec))
            }
            None => {
                let daemon = Daemon::supervise(spec.clone(), Arc::clone(&self.shared));
                (Arc::new(daemon), None)
            }
        };
        match daemon.prepare(spec, is_fresh).await {
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

    /// Has it run, or take over from what has run under that name, which is the last of what is returned.
    async fn run(
        &self,
        spec: Spec,
        is_fresh: bool,
    ) -> Result<(Arc<Daemon>, Done, Option<Spec>), Fault> {
        let name = spec.name.clone();
        if let Some(daemon) = self.daemon(&name) {
            let old_spec = daemon.glance().spec;
            let done = daemon.replace(spec, is_fresh).await;
            let done = done.map_err(|text| refused(&name, &text, &daemon))?;
            return Ok((daemon, done, Some(old_spec)));
        }
        let daemon = Arc::new(Daemon::supervise(spec, Arc::clone(&self.shared)));
        match daemon.start().await {
            Ok(done) => Ok((daemon, done, None)),
            Err(text) => {
                let _ = daemon.end().await;
                Err(Fault::failed(format!("{name}: {text}")))
            }
        }
    }
}
