//! An install, from its plan to the registry: the new file runs, or waits if the daemon's owner has stopped it.
//!
//! All rules stand in [`dae_store::install_plan`]; this file carries the plan out. The daemon answers before the registry
//! names the file, and the registry is on the disk before the caller gets the result. A failure on the way leaves the
//! daemon as it was.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::change::{abandoned, refused};
use super::restore::spec_of;
use super::{Fault, Inner, configure};
use crate::supervise::{ChangeStart, Daemon, DaemonSpec, OrderResult, Replacement, StartFrom};
use dae_store::archive::Departure;
use dae_store::daemon_state::DaemonState;
use dae_store::event::DaeEventKind;
use dae_store::install_plan::{self, InstallBasis, InstallFile, InstallPlan, StartState};
use dae_store::plugin_store::Artefact;
use dae_store::registry::{Desired, Entry, FILES_IGNORE_CASE, Registry};
use dae_store::report::InstallRequest;

/// A request in the turn of its daemon, whose file is in the plugin store.
pub(super) struct InstallOrder {
    pub(super) name: String,
    pub(super) request: InstallRequest,
    pub(super) artefact: Arc<Artefact>,
    /// False if the file itself has gone since it was copied.
    pub(super) is_there: bool,
    pub(super) begin: Arc<ChangeStart>,
}

/// The result of an accepted install.
pub(super) struct InstallResult {
    pub(super) daemon: Arc<Daemon>,
    pub(super) done: OrderResult,
    /// The time of an earlier daemon's archived state, if this daemon starts without it.
    pub(super) earlier_state: Option<Timestamp>,
}

/// A plan that may be carried out, with what it needs from the archive.
struct ReadyInstall {
    plan: InstallPlan,
    from: StartFrom,
    earlier_state: Option<Timestamp>,
}

/// A daemon that runs the new file, or has it for its next start.
struct PlacedDaemon {
    daemon: Arc<Daemon>,
    done: OrderResult,
    /// The daemon's spec before, if it was there.
    old_spec: Option<DaemonSpec>,
}

/// The source of an install request.
#[derive(Clone, Copy)]
pub(super) enum InstallSource {
    /// A caller that asked at that time. The result must be newer.
    Caller { began: Instant },
    /// The file watch.
    Watch,
}

/// A change that could not be recorded, and what undoing it needs.
struct FailedChange<'a> {
    name: &'a str,
    begin: &'a Arc<ChangeStart>,
    placed: &'a PlacedDaemon,
    is_running: bool,
}

impl InstallOrder {
    fn file(&self) -> InstallFile<'_> {
        InstallFile {
            artefact: &self.artefact,
            is_there: self.is_there,
        }
    }

    fn replacement(&self, plan: &InstallPlan, from: StartFrom) -> Replacement {
        let (artefact, settings) = (Arc::clone(&self.artefact), Arc::clone(&plan.settings));
        let spec = spec_of(&self.name, &plan.entry, artefact, settings);
        let replacement = Replacement::of(spec, from).with_strict(self.request.strict);
        replacement.deferring_sleep_event()
    }
}

impl Inner {
    /// Returns the generation that a request asks for, if it runs already.
    ///
    /// If many requests for the same reload come at once, the first one makes a generation for all that are older
    /// than it. For a changed file the same content never needs a new generation: it may have been compared when it
    /// was half-written.
    pub(super) fn is_done_already(
        &self,
        order: &InstallOrder,
        source: InstallSource,
    ) -> Option<OrderResult> {
        let name = order.request.name.as_ref()?;
        let registered = self.catalogue.entry(name)?;
        let home = &self.home.data;
        let is_same = install_plan::is_same_again(&registered, &order.request, order.file(), home);
        let identity = self.daemon(name)?.glance().identity?;
        let is_new_enough = match source {
            InstallSource::Caller { began } => identity.since > began,
            InstallSource::Watch => true,
        };
        (is_same && is_new_enough).then_some(OrderResult {
            generation: identity.generation,
            ..OrderResult::default()
        })
    }

    pub(super) async fn install(
        self: &Arc<Self>,
        order: &InstallOrder,
    ) -> Result<InstallResult, Fault> {
        let name = &order.name;
        let ready = self.prepare_install(order).await;
        let ReadyInstall {
            mut plan,
            from,
            earlier_state,
        } = ready.map_err(|fault| self.as_refusal(name, fault))?;
        let settled = self.staging.settle(Arc::clone(&order.artefact));
        let replacement = order.replacement(&plan, from);
        let is_running = plan.entry.desired == Desired::Running;
        let placed = match is_running {
            true => self.run(replacement, &order.begin).await?,
            false => self.prepare(replacement, &order.begin).await?,
        };
        let glance = placed.daemon.glance();
        plan.entry.port = glance.port.or(plan.entry.port);
        plan.entry.mode = glance.spec.mode;
        plan.note_set_aside(placed.done.set_aside.clone());
        let undo = FailedChange {
            name,
            begin: &order.begin,
            placed: &placed,
            is_running,
        };
        self.record(plan.entry, settled, undo).await?;
        self.catalogue.note_found(name);
        self.catalogue.note_accepted(name);
        self.running.insert(name, &placed.daemon);
        self.conclude(order, &placed).await;
        Ok(InstallResult {
            daemon: placed.daemon,
            done: placed.done,
            earlier_state,
        })
    }

    /// Sends the events of an install. Ends a new daemon if the end of the host has begun meanwhile and may not have seen
    /// it.
    async fn conclude(&self, order: &InstallOrder, placed: &PlacedDaemon) {
        let artefact = &order.artefact;
        let generation = (placed.done.generation > 0).then_some(placed.done.generation);
        let installed = DaeEventKind::Installed {
            version: artefact.manifest.version.clone(),
            hash: artefact.hash.clone(),
        };
        let events = &self.shared.events;
        // A reload of the same code has installed nothing.
        let is_same = |old: &DaemonSpec| old.artefact.hash == artefact.hash;
        if !placed.old_spec.as_ref().is_some_and(is_same) {
            events.send(&order.name, generation, installed);
        }
        if let Some(before) = &placed.old_spec {
            let now = placed.daemon.glance().spec;
            self.send_change(&placed.daemon, &configure::changed_values(before, &now));
        }
        if let Some(rule) = placed.done.fell_asleep {
            events.send(&order.name, generation, DaeEventKind::Asleep { rule });
        }
        if placed.old_spec.is_none() && self.lifetime.ending.is_cancelled() {
            // It is ending anyway.
            let _ = placed.daemon.end().await;
        }
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
            Ok(()) if undo.placed.old_spec.is_none() && self.lifetime.ending.is_cancelled() => {
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

    /// Plans an install, and reads from the archive what the plan needs.
    async fn prepare_install(
        self: &Arc<Self>,
        order: &InstallOrder,
    ) -> Result<ReadyInstall, Fault> {
        let departed = self.departed(&order.name).await?;
        let is_stopped =
            |daemon: Arc<Daemon>| matches!(daemon.glance().state, DaemonState::Stopped);
        let is_stopped = self.daemon(&order.name).map(is_stopped);
        let planned = self.catalogue.read(|registry| {
            let before = InstallBasis {
                home: &self.home,
                registry,
                departed: departed.as_ref(),
                ignores_case: FILES_IGNORE_CASE,
                is_stopped,
            };
            let (request, config) = (&order.request, &self.shared.config());
            install_plan::plan_install(before, request, config, order.file())
        });
        let plan = planned?;
        let from = self.start_from(&plan, departed).await?;
        let earlier_state = match plan.ignores_earlier_state() {
            true => {
                let name = plan.name.clone();
                let found =
                    self.on_disk(move |inner| inner.shared.disk.archive.last_state_time(&name));
                found.await?
            }
            false => None,
        };
        Ok(ReadyInstall {
            plan,
            from,
            earlier_state,
        })
    }

    /// Reads the record of the last uninstall of a daemon of that name, unless one is installed.
    async fn departed(self: &Arc<Self>, name: &str) -> Result<Option<Departure>, Fault> {
        if self.catalogue.entry(name).is_some() {
            return Ok(None);
        }
        let name = name.to_owned();
        let found = self.on_disk(move |inner| inner.shared.disk.archive.last_uninstall(&name));
        found.await
    }

    /// Reads the state that a planned install starts from.
    async fn start_from(
        self: &Arc<Self>,
        plan: &InstallPlan,
        departed: Option<Departure>,
    ) -> Result<StartFrom, Fault> {
        let state = match &plan.start_state {
            StartState::Kept => return Ok(StartFrom::Kept),
            StartState::Nothing => None,
            StartState::Archived(which) => Some(self.archived(&plan.name, which.clone()).await?),
            StartState::Departed => departed.and_then(|departed| departed.state),
        };
        Ok(state.map_or(StartFrom::Nothing, |state| {
            StartFrom::State(Box::new(state))
        }))
    }

    /// Restores the daemon as it was before a change that could not be recorded, because it will be so after a
    /// restart of the host.
    async fn undo(self: &Arc<Self>, undo: FailedChange<'_>, text: &str) -> Fault {
        let FailedChange {
            name,
            begin,
            placed,
            is_running,
        } = undo;
        let daemon = &placed.daemon;
        let Some(old_spec) = placed.old_spec.clone() else {
            let _ = daemon.end().await;
            return Fault::failed(format!("{name}: {text}"));
        };
        if let Some(rule) = placed.done.fell_asleep {
            let asleep = DaeEventKind::Asleep { rule };
            self.shared.events.send(name, None, asleep);
        }
        let aside = match &placed.done.set_aside {
            Some(id) => self.archived(name, id.clone()).await.ok(),
            None => None,
        };
        let from = aside.map_or(StartFrom::Kept, |state| StartFrom::State(Box::new(state)));
        // Callers had this before, so it can't be refused.
        let back = Replacement::of(old_spec, from).with_strict(Some(false));
        let undone = match is_running {
            true => daemon.replace(begin, back).await,
            false => daemon.prepare(begin, back).await,
        };
        match undone {
            Ok(_) => refused(name, text, daemon),
            Err(fault) => {
                let text = format!("{text}; and what was before doesn't take over again: {fault}");
                refused(name, &text, daemon)
            }
        }
    }

    /// Makes the new file wait for the next start of a stopped daemon.
    async fn prepare(
        &self,
        replacement: Replacement,
        begin: &Arc<ChangeStart>,
    ) -> Result<PlacedDaemon, Fault> {
        let name = replacement.spec.name.clone();
        let (daemon, old_spec) = match self.daemon(&name) {
            Some(daemon) => {
                let old_spec = daemon.glance().spec;
                (daemon, Some(old_spec))
            }
            None if !begin.begin() => return Err(abandoned(&name)),
            None => {
                let spec = replacement.spec.clone();
                let daemon = Daemon::supervise(spec, Arc::clone(&self.shared));
                (Arc::new(daemon), None)
            }
        };
        match daemon.prepare(begin, replacement).await {
            Ok(done) => Ok(PlacedDaemon {
                daemon,
                done,
                old_spec,
            }),
            Err(text) => {
                let fault = refused(&name, &text, &daemon);
                if old_spec.is_none() {
                    let _ = daemon.end().await;
                }
                Err(fault)
            }
        }
    }

    /// Runs the new file, or replaces the daemon of that name with it.
    async fn run(
        &self,
        replacement: Replacement,
        begin: &Arc<ChangeStart>,
    ) -> Result<PlacedDaemon, Fault> {
        let name = replacement.spec.name.clone();
        if let Some(daemon) = self.daemon(&name) {
            let old_spec = Some(daemon.glance().spec);
            let done = daemon.replace(begin, replacement).await;
            let done = done.map_err(|text| refused(&name, &text, &daemon))?;
            return Ok(PlacedDaemon {
                daemon,
                done,
                old_spec,
            });
        }
        if !begin.begin() {
            return Err(abandoned(&name));
        }
        let spec = replacement.spec.clone();
        let daemon = Arc::new(Daemon::supervise(spec, Arc::clone(&self.shared)));
        match daemon.replace(begin, replacement).await {
            Ok(done) => Ok(PlacedDaemon {
                daemon,
                done,
                old_spec: None,
            }),
            Err(text) => {
                let _ = daemon.end().await;
                Err(Fault::failed(format!("{name}: {text}")))
            }
        }
    }
}
