//! The changes of an ecosystem: install, uninstall, start, stop, restart.
//!
//! Each change is made completely or not at all. The daemon answers before the registry names it, and the registry
//! is on the disk before the caller gets the result. A failure on the way is undone, and the fault says what failed
//! and why.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use tokio::sync::OwnedMutexGuard;

use super::carry::ChangeKind;
use super::install::{InstallOrder, InstallResult, InstallSource};
use super::staging::StagedPlugin;
use super::{Dae, Fault, FaultKind, Inner, remote};
use crate::supervise::{ChangeStart, Daemon, DaemonSpec, OrderResult, Replacement, StartFrom};
use dae_runtime::os::wording::way_to_end;
use dae_store::daemon_state::DaemonState;
use dae_store::durations;
use dae_store::install_plan;
use dae_store::manifest;
use dae_store::plugin_store::Artefact;
use dae_store::registry::{DAE_NAME, Desired, Entry};
use dae_store::report::{Changed, InstallRequest, Installed, Mode, ReloadRequest};

impl Dae {
    /// Installs the plugin `file` as the daemon `name`, and waits until it answers.
    ///
    /// # Errors
    /// Fails if the file is not a plugin for this host, the name is invalid or taken, or the daemon doesn't start.
    /// Nothing has changed then.
    pub async fn install(&self, name: &str, file: impl AsRef<Path>) -> Result<Installed, Fault> {
        let file =
            std::path::absolute(file.as_ref()).map_err(|error| Fault::failed(error.to_string()))?;
        let request = InstallRequest {
            name: Some(name.to_owned()),
            file,
            ..InstallRequest::default()
        };
        self.install_with(request).await
    }

    /// Does the same as [`Dae::install`], with all options.
    ///
    /// # Errors
    /// As for [`Dae::install`]. A daemon that was to be replaced runs on as before.
    pub async fn install_with(&self, request: InstallRequest) -> Result<Installed, Fault> {
        self.install_as(ChangeKind::Install, request).await
    }

    async fn install_as(
        &self,
        change: ChangeKind,
        request: InstallRequest,
    ) -> Result<Installed, Fault> {
        self.carry_through(|dae, begin| async move {
            let mut name = request.name.clone();
            let source = InstallSource::Caller {
                began: Instant::now(),
            };
            let call = (request, source);
            let installed = dae.install_named(call, &mut name, &begin).await;
            let name = name.unwrap_or_else(|| DAE_NAME.to_owned());
            dae.inner.note_outcome(&name, change, &installed);
            installed
        })
        .await
    }

    /// Does the same as [`Dae::install_with`] for a watched file. A file that is not complete yet, or whose name is
    /// taken, is not noted as refused.
    pub(super) async fn install_watched(
        &self,
        request: InstallRequest,
    ) -> Result<Installed, Fault> {
        self.carry_through(|dae, begin| async move {
            let mut name = request.name.clone();
            let call = (request, InstallSource::Watch);
            let installed = dae.install_named(call, &mut name, &begin).await;
            let is_incomplete = |fault: &Fault| {
                matches!(fault.kind(), FaultKind::Incomplete | FaultKind::NameTaken)
            };
            let name = name.unwrap_or_else(|| DAE_NAME.to_owned());
            if !installed.as_ref().is_err_and(is_incomplete) {
                dae.inner
                    .note_outcome(&name, ChangeKind::NewFile, &installed);
            }
            installed
        })
        .await
    }

    /// Installs a file. Stores the daemon's name in `known_name` as soon as it is known.
    async fn install_named(
        &self,
        (request, source): (InstallRequest, InstallSource),
        known_name: &mut Option<String>,
        begin: &Arc<ChangeStart>,
    ) -> Result<Installed, Fault> {
        let (began, inner) = (Instant::now(), &self.inner);
        let in_turn = inner.install_in_turn(request, known_name, begin).await;
        let (order, staged, _turn) = in_turn?;
        let done = inner.is_done_already(&order, source);
        if let (Some(done), Some(daemon)) = (done, inner.daemon(&order.name)) {
            return Ok(installed(&daemon, &order.artefact, done, began));
        }
        let result = inner.install(&order).await;
        drop(staged);
        inner.tidy().await;
        let InstallResult {
            daemon,
            done,
            earlier_state,
        } = result?;
        Ok(Installed {
            earlier_state,
            ..installed(&daemon, &order.artefact, done, began)
        })
    }

    /// Replaces a daemon's instance with one of the current file that it was installed from. The same content gives
    /// a new instance too.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, its file has gone, or it doesn't start. The old instance runs on
    /// then.
    pub async fn reload(&self, name: &str, is_fresh: bool) -> Result<Installed, Fault> {
        let request = ReloadRequest {
            name: name.to_owned(),
            fresh: is_fresh,
            ..ReloadRequest::default()
        };
        self.reload_with(request).await
    }

    /// Does the same as [`Dae::reload`], with all options.
    ///
    /// # Errors
    /// As for [`Dae::reload`]. With `strict`, fails too if the file breaks a caller.
    pub async fn reload_with(&self, request: ReloadRequest) -> Result<Installed, Fault> {
        let ReloadRequest {
            name,
            fresh,
            strict,
        } = &request;
        self.inner.known(name)?;
        self.inner.check_has_file(name, ChangeKind::Reload)?;
        let entry = self.inner.entry(name)?;
        let no_source = || {
            Fault::failed(format!(
                "{name}: nobody knows what file it was installed from; install it again"
            ))
        };
        let request = InstallRequest {
            name: Some(name.clone()),
            file: entry
                .source_in(&self.inner.home.data)
                .ok_or_else(no_source)?,
            replace: true,
            fresh: *fresh,
            strict: *strict,
            drop_in: entry.drop_in,
            ..InstallRequest::default()
        };
        self.install_as(ChangeKind::Reload, request).await
    }

    /// Returns a daemon's state: `{"version": …, "data": …}`.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, or it has no state.
    pub async fn state(&self, name: &str) -> Result<Box<RawValue>, Fault> {
        let daemon = self.inner.known(name)?;
        let state = daemon
            .state()
            .await
            .map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        state
            .to_raw()
            .map_err(|error| Fault::failed(format!("{name}: its state is not JSON: {error}")))
    }

    /// Starts a stopped daemon, and waits until it answers.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, it doesn't start, or it has ended again at once.
    pub async fn start(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Start).await
    }

    /// Stops a daemon. It stays stopped over a restart of the host.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name. Errors during the stop are logged; the daemon is stopped all the
    /// same.
    pub async fn stop(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Stop).await
    }

    /// Replaces a daemon's instance with a new one, or starts the daemon.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, or the new instance doesn't start. The old one runs on then.
    pub async fn restart(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Restart).await
    }

    /// Moves a daemon to a process of its own, or into the host's, in the way of a reload: it closes no connection
    /// and loses no command. A stopped or finished daemon moves at its next start. A failed one is started in its
    /// new place.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, it doesn't start there, or it has ended again at once. If it
    /// doesn't start, it stays where it was.
    pub async fn set_mode(&self, name: &str, mode: Mode) -> Result<Changed, Fault> {
        let name = name.to_owned();
        self.carry_through(|dae, begin| async move {
            let change = match mode {
                Mode::Subprocess => ChangeKind::Isolate,
                Mode::InProcess => ChangeKind::Embed,
            };
            let moved = dae.set_mode_now(&name, mode, &begin).await;
            dae.inner.note_outcome(&name, change, &moved);
            moved
        })
        .await
    }

    async fn set_mode_now(
        &self,
        name: &str,
        mode: Mode,
        begin: &Arc<ChangeStart>,
    ) -> Result<Changed, Fault> {
        let began = Instant::now();
        let _turn = self.inner.running.turn(name).await;
        let daemon = self.inner.known(name)?;
        let glance = daemon.glance();
        let spec = DaemonSpec {
            mode,
            ..glance.spec
        };
        if mode == Mode::Subprocess {
            self.inner.check_has_file(name, ChangeKind::Isolate)?;
        }
        if mode == Mode::InProcess {
            manifest::check_in_process(&spec.artefact.manifest)
                .map_err(|fault| Fault::failed(fault.to_string()))?;
        }
        let replacement = Replacement::of(spec, StartFrom::Kept);
        let moved = match glance.state {
            // A pending first start uses the new mode.
            DaemonState::Stopped | DaemonState::Finished | DaemonState::Starting => {
                daemon.prepare(begin, replacement).await
            }
            _ => daemon.replace(begin, replacement).await,
        };
        moved.map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        self.inner.keep(name, |entry| entry.mode = mode).await?;
        let note = match waits_for_start(&glance.state) {
            true => format!("its mode is {} from the next start on", mode.as_str()),
            false => String::new(),
        };
        Ok(Changed {
            note,
            ..changed(&daemon, began)?
        })
    }

    async fn change(&self, name: &str, act: StateChange) -> Result<Changed, Fault> {
        let name = name.to_owned();
        self.carry_through(move |dae, begin| async move {
            let made = dae.change_now(&name, act, &begin).await;
            dae.inner.note_outcome(&name, act.kind(), &made);
            made
        })
        .await
    }

    async fn change_now(
        &self,
        name: &str,
        act: StateChange,
        begin: &Arc<ChangeStart>,
    ) -> Result<Changed, Fault> {
        let began = Instant::now();
        let _turn = self.inner.running.turn(name).await;
        let daemon = self.inner.known(name)?;
        let made = match act {
            StateChange::Start => daemon.start(begin).await.map(drop),
            StateChange::Restart => daemon.restart(begin).await.map(drop),
            StateChange::Stop => {
                if let Err(text) = daemon.stop(begin).await {
                    tracing::warn!(daemon = name, "{text}");
                }
                Ok(())
            }
        };
        made.map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        let port = daemon.port();
        let recorded = self.inner.keep(name, |entry| {
            entry.desired = act.desired();
            entry.port = port.or(entry.port);
        });
        recorded.await?;
        changed(&daemon, began)
    }
}

/// A change that keeps the file and the settings.
#[derive(Debug, Clone, Copy)]
enum StateChange {
    Start,
    Stop,
    Restart,
}

impl StateChange {
    fn kind(self) -> ChangeKind {
        match self {
            StateChange::Start => ChangeKind::Start,
            StateChange::Stop => ChangeKind::Stop,
            StateChange::Restart => ChangeKind::Restart,
        }
    }

    fn desired(self) -> Desired {
        match self {
            StateChange::Start | StateChange::Restart => Desired::Running,
            StateChange::Stop => Desired::Stopped,
        }
    }
}

/// Returns whether a change of a daemon in that state takes effect at its next start.
pub(super) fn waits_for_start(state: &DaemonState) -> bool {
    use DaemonState::{Asleep, Finished, Stopped};
    matches!(state, Stopped | Finished | Asleep { .. })
}

pub(super) fn abandoned(name: &str) -> Fault {
    Fault::failed(format!("{name}: the caller has gone; nothing was changed"))
}

/// Returns the fault for a refused change, including which generation runs on.
pub(super) fn refused(name: &str, text: &str, daemon: &Daemon) -> Fault {
    let runs_on = daemon.glance().identity.map(|identity| identity.generation);
    let rest = runs_on.map_or("nothing of it runs".to_owned(), |generation| {
        format!("generation {generation} runs on")
    });
    Fault::failed(format!("refused {name}: {text}; {rest}"))
}

/// Returns the result of an accepted install.
pub(super) fn installed(
    daemon: &Daemon,
    artefact: &Artefact,
    done: OrderResult,
    began: Instant,
) -> Installed {
    let Artefact { manifest, hash, .. } = artefact;
    Installed {
        name: daemon.gate.name.clone(),
        plugin: manifest.name.clone(),
        version: manifest.version.clone(),
        port: daemon.port(),
        hash: hash.clone(),
        ms: Some(durations::in_ms(began.elapsed())),
        generation: done.generation,
        state_bytes: done.state_bytes,
        changes: done.changes,
        set_aside: done.set_aside,
        earlier_state: None,
        waits: matches!(daemon.glance().state, DaemonState::Stopped),
    }
}

/// Returns the result of a change. If the daemon is down by itself afterwards, returns a fault with the reason.
fn changed(daemon: &Daemon, began: Instant) -> Result<Changed, Fault> {
    let (name, state) = (daemon.gate.name.clone(), daemon.glance().state);
    let word = state.word();
    if let DaemonState::Backoff { .. }
    | DaemonState::CrashLoop { .. }
    | DaemonState::Failed { .. } = state
    {
        return Err(Fault::failed(format!("{name} is {word}: {state}")));
    }
    Ok(Changed {
        name,
        state: word.to_owned(),
        ms: durations::in_ms(began.elapsed()),
        note: String::new(),
    })
}

impl Inner {
    /// Checks a request, waits for its daemon's turn and stages its file. The staged file is protected, and the turn
    /// lasts, until the caller drops them.
    async fn install_in_turn(
        self: &Arc<Self>,
        mut request: InstallRequest,
        known_name: &mut Option<String>,
        begin: &Arc<ChangeStart>,
    ) -> Result<(InstallOrder, StagedPlugin, OwnedMutexGuard<()>), Fault> {
        install_plan::check_request(&request)?;
        let file = request.file.clone();
        let known = self.on_disk(move |inner| inner.home.path_through(&file));
        request.file = known.await?;
        // Read the file within the turn of the name: of many simultaneous requests, the last content wins.
        let early_turn = match &request.name {
            Some(name) => Some(self.running.turn(name).await),
            None => None,
        };
        let staged = self.stage_for(&request).await?;
        let artefact = Arc::clone(&staged.artefact);
        let name = install_plan::daemon_name(&request, &artefact.manifest)?;
        *known_name = Some(name.clone());
        let turn = match early_turn {
            Some(turn) => turn,
            None => self.running.turn(&name).await,
        };
        let order = InstallOrder {
            is_there: self.is_there(&request).await?,
            begin: Arc::clone(begin),
            name,
            request,
            artefact,
        };
        Ok((order, staged, turn))
    }

    /// Returns whether a drop-in's file is still there, after the request has waited for its turn. Any other file may
    /// have gone.
    async fn is_there(self: &Arc<Self>, request: &InstallRequest) -> Result<bool, Fault> {
        let file = request.file.clone();
        match request.drop_in {
            true => self.on_disk(move |_| file.exists()).await,
            false => Ok(true),
        }
    }

    /// Records a change that has been made in the entry of its daemon.
    pub(super) async fn keep(
        &self,
        name: &str,
        change: impl FnOnce(&mut Entry) + Send,
    ) -> Result<(), Fault> {
        let kept = self.change_registry(|registry| {
            registry.daemons.get_mut(name).map(change);
        });
        kept.await.map_err(|error| Fault {
            kind: FaultKind::Unrecorded,
            text: format!("{error:#}"),
        })
    }

    /// Adds to a fault which generation of the daemon runs on, if the daemon exists.
    pub(super) fn as_refusal(&self, name: &str, fault: Fault) -> Fault {
        match self.daemon(name) {
            Some(daemon) => Fault {
                kind: fault.kind,
                ..refused(name, &fault.text, &daemon)
            },
            None => fault,
        }
    }

    pub(super) fn known(&self, name: &str) -> Result<Arc<Daemon>, Fault> {
        if let Some(reason) = self.catalogue.why_lost(name) {
            return Err(Fault::failed(format!(
                "{name} could not be brought back: {reason}"
            )));
        }
        self.daemon(name).ok_or_else(|| self.unknown(name))
    }

    pub(super) fn unknown(&self, name: &str) -> Fault {
        if name == DAE_NAME {
            return Fault::failed(format!(
                "{DAE_NAME} is the host itself, and can't be changed like a daemon; {}",
                way_to_end(std::process::id())
            ));
        }
        let foreign = self.running.foreign.fault(name);
        if let Some(fault) = foreign.or_else(|| remote::fault(&self.shared.directory, name)) {
            return fault;
        }
        let hint = self.running.nearest(name).map_or_else(
            || "`list` shows all".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Fault {
            kind: FaultKind::UnknownDaemon,
            text: format!("there is no daemon {name}; {hint}"),
        }
    }
}
