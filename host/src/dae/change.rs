//! What changes an ecosystem: install, uninstall, start, stop, restart.
//!
//! Each is whole or not at all: the daemon answers before the registry says that it's there, and the registry is on the
//! disk before the caller hears of it. Whatever fails on the way is undone, and the fault says what and why.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use super::carry::{INSTALL, NEW_FILE, RELOAD};
use super::install::Asker;
use super::request;
use super::{Dae, Fault, FaultKind, Inner, lock};
use crate::supervise::{ChangeStart, Daemon, DaemonSpec, OrderResult, StartFrom};
use dae_store::daemon_state::DaemonState;
use dae_store::manifest;
use dae_store::plugin_store::Artefact;
use dae_store::registry::{self, DAE_NAME, Desired};
use dae_store::report::{Changed, InstallRequest, Installed, Mode};

impl Dae {
    /// Installs the plugin `file` as the daemon `name`, and waits until it answers.
    ///
    /// # Errors
    /// The file is no plugin for this host, the name is none or is taken, or the daemon doesn't start. Nothing has
    /// changed then.
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

    /// As [`Dae::install`], with all that can be said about it.
    ///
    /// # Errors
    /// As [`Dae::install`]; where a daemon is replaced, it runs on as it was.
    pub async fn install_with(&self, request: InstallRequest) -> Result<Installed, Fault> {
        self.install_as(INSTALL, request).await
    }

    async fn install_as(
        &self,
        change: &'static str,
        request: InstallRequest,
    ) -> Result<Installed, Fault> {
        self.carry_through(|dae, begin| async move {
            let mut name = request.name.clone();
            let asker = Asker::Caller {
                began: Instant::now(),
            };
            let installed = dae.install_named(request, asker, &mut name, &begin).await;
            let name = name.unwrap_or_else(|| DAE_NAME.to_owned());
            dae.inner.note_outcome(&name, change, &installed);
            installed
        })
        .await
    }

    /// As [`Dae::install_with`], for a file that may not be whole yet: that alone is not noted as a refusal.
    pub(super) async fn install_watched(
        &self,
        request: InstallRequest,
    ) -> Result<Installed, Fault> {
        self.carry_through(|dae, begin| async move {
            let mut name = request.name.clone();
            let asker = Asker::Watch;
            let installed = dae.install_named(request, asker, &mut name, &begin).await;
            let is_incomplete = |fault: &Fault| {
                matches!(fault.kind(), FaultKind::Incomplete | FaultKind::NameTaken)
            };
            let name = name.unwrap_or_else(|| DAE_NAME.to_owned());
            if !installed.as_ref().is_err_and(is_incomplete) {
                dae.inner.note_outcome(&name, NEW_FILE, &installed);
            }
            installed
        })
        .await
    }

    /// Installs. The name that it is installed under is left in `known_name` as soon as that is known.
    async fn install_named(
        &self,
        mut request: InstallRequest,
        asker: Asker,
        known_name: &mut Option<String>,
        begin: &Arc<ChangeStart>,
    ) -> Result<Installed, Fault> {
        let began = Instant::now();
        request::check_request(&request)?;
        request.file = self.inner.home.path_through(&request.file);
        // A file is read at its daemon's turn: of many requests at once, the last content wins.
        let early_turn = match &request.name {
            Some(name) => Some(self.inner.turn(name).await),
            None => None,
        };
        let staged = self.inner.stage_for(&request).await?;
        let own_name = || staged.artefact.manifest.name.clone();
        let name = request.name.clone().unwrap_or_else(own_name);
        registry::check_name(&name).map_err(Fault::failed)?;
        *known_name = Some(name.clone());
        let _turn = match early_turn {
            Some(turn) => turn,
            None => self.inner.turn(&name).await,
        };
        check_there(&request)?;
        let (inner, artefact) = (&self.inner, Arc::clone(&staged.artefact));
        let done = inner.is_done_already(&request, &artefact.hash, asker);
        if let (Some(done), Some(daemon)) = (done, inner.daemon(&name)) {
            return Ok(installed(&daemon, &artefact, done, began));
        }
        let request = (request, begin);
        let result = inner.install(&name, request, Arc::clone(&artefact)).await;
        drop(staged);
        self.inner.tidy();
        let (daemon, done, earlier_state) = result?;
        Ok(Installed {
            earlier_state,
            ..installed(&daemon, &artefact, done, began)
        })
    }

    /// Has the file that a daemon was installed from take over, as it is now; the same content gives a new instance of it.
    ///
    /// # Errors
    /// There is none of that name, its file has gone, or it doesn't start; the old one runs on then.
    pub async fn reload(&self, name: &str, is_fresh: bool) -> Result<Installed, Fault> {
        self.inner.known(name)?;
        let entry = lock(&self.inner.registry).daemons.get(name).cloned();
        let entry = entry.ok_or_else(|| self.inner.unknown(name))?;
        let no_source = || {
            Fault::failed(format!(
                "{name}: nobody knows what file it was installed from; install it again"
            ))
        };
        let request = InstallRequest {
            name: Some(name.to_owned()),
            file: entry
                .source_in(&self.inner.home.data)
                .ok_or_else(no_source)?,
            replace: true,
            fresh: is_fresh,
            drop_in: entry.drop_in,
            ..InstallRequest::default()
        };
        self.install_as(RELOAD, request).await
    }

    /// A daemon's state: `{"version": …, "data": …}`.
    ///
    /// # Errors
    /// There is none of that name, or it hands no state over.
    pub async fn state(&self, name: &str) -> Result<Box<RawValue>, Fault> {
        let daemon = self.inner.known(name)?;
        let state = daemon
            .state()
            .await
            .map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        serde_json::from_slice(&state)
            .map_err(|error| Fault::failed(format!("{name}: its state is not JSON: {error}")))
    }

    /// Starts a daemon that was stopped, and waits until it answers.
    ///
    /// # Errors
    /// There is none of that name, it doesn't start, or has ended again at once.
    pub async fn start(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Start).await
    }

    /// Stops a daemon; it stays stopped over a restart of the host.
    ///
    /// # Errors
    /// There is none of that name. What goes wrong in the stop is logged; it is stopped all the same.
    pub async fn stop(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Stop).await
    }

    /// Has a new instance of a daemon take over, or starts it.
    ///
    /// # Errors
    /// There is none of that name, or the new instance doesn't start; the old one runs on then.
    pub async fn restart(&self, name: &str) -> Result<Changed, Fault> {
        self.change(name, StateChange::Restart).await
    }

    /// Moves a daemon to a process of its own, or into the host's, as a reload does: no connection closed, no command
    /// lost. One that its owner has stopped moves at its next start; one that is down by itself is started there.
    ///
    /// # Errors
    /// There is none of that name, it doesn't start there, or has ended again at once. Where it doesn't start it stays
    /// where it was.
    pub async fn set_mode(&self, name: &str, mode: Mode) -> Result<Changed, Fault> {
        let name = name.to_owned();
        self.carry_through(|dae, begin| async move {
            let change = match mode {
                Mode::Subprocess => "isolate",
                Mode::InProcess => "embed",
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
        let _turn = self.inner.turn(name).await;
        let daemon = self.inner.known(name)?;
        let glance = daemon.glance();
        let spec = DaemonSpec {
            mode,
            ..glance.spec
        };
        if mode == Mode::InProcess {
            manifest::check_in_process(&spec.artefact.manifest)
                .map_err(|fault| Fault::failed(fault.to_string()))?;
        }
        let moved = match glance.state {
            // One that starts has its first start before it.
            DaemonState::Stopped | DaemonState::Finished | DaemonState::Starting => {
                daemon.prepare(begin, (spec, StartFrom::Kept)).await
            }
            _ => daemon.replace(begin, (spec, StartFrom::Kept)).await,
        };
        moved.map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        self.inner.keep(|registry| {
            if let Some(entry) = registry.daemons.get_mut(name) {
                entry.mode = mode;
            }
        })?;
        let note = match matches!(glance.state, DaemonState::Stopped) {
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
            dae.inner.note_outcome(&name, act.word(), &made);
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
        let _turn = self.inner.turn(name).await;
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
        self.inner.keep(|registry| {
            if let Some(entry) = registry.daemons.get_mut(name) {
                entry.desired = act.desired();
                entry.port = port.or(entry.port);
            }
        })?;
        changed(&daemon, began)
    }
}

/// A change that leaves file and settings as they are.
#[derive(Debug, Clone, Copy)]
enum StateChange {
    Start,
    Stop,
    Restart,
}

impl StateChange {
    fn word(self) -> &'static str {
        match self {
            StateChange::Start => "start",
            StateChange::Stop => "stop",
            StateChange::Restart => "restart",
        }
    }

    fn desired(self) -> Desired {
        match self {
            StateChange::Start | StateChange::Restart => Desired::Running,
            StateChange::Stop => Desired::Stopped,
        }
    }
}

pub(super) fn abandoned(name: &str) -> Fault {
    Fault::failed(format!(
        "{name}: whoever asked for it has gone; nothing was changed"
    ))
}

/// Refuses a drop-in whose file has gone while the request waited for its turn.
fn check_there(request: &InstallRequest) -> Result<(), Fault> {
    match request.drop_in && !request.file.exists() {
        true => Err(Fault::failed(format!(
            "{} has gone again; nothing was changed",
            request.file.display()
        ))),
        false => Ok(()),
    }
}

/// Where something runs on, the refusal says what.
pub(super) fn refused(name: &str, text: &str, daemon: &Daemon) -> Fault {
    let runs_on = daemon.glance().identity.map(|identity| identity.generation);
    let rest = runs_on.map_or("nothing of it runs".to_owned(), |generation| {
        format!("generation {generation} runs on")
    });
    Fault::failed(format!("refused {name}: {text}; {rest}"))
}

/// What was accepted, which is what was asked for, whatever has become of it since.
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
        ms: Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        generation: done.generation,
        state_bytes: done.state_bytes,
        changes: done.changes,
        set_aside: done.set_aside,
        earlier_state: None,
        waits: matches!(daemon.glance().state, DaemonState::Stopped),
    }
}

/// What a change came to. One that leaves its daemon down by itself is told as a fault, with the reason.
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
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        note: String::new(),
    })
}

impl Inner {
    /// Records what has been done.
    pub(super) fn keep(&self, change: impl FnOnce(&mut registry::Registry)) -> Result<(), Fault> {
        let kept = self.change_registry(change);
        kept.map_err(|error| {
            Fault::failed(format!("it is done, but won't outlive the host: {error:#}"))
        })
    }

    /// Where a daemon of that name runs on, the fault says so.
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
        if let Some(reason) = lock(&self.lost).get(name) {
            return Err(Fault::failed(format!(
                "{name} could not be brought back: {reason}"
            )));
        }
        self.daemon(name).ok_or_else(|| self.unknown(name))
    }

    pub(super) fn unknown(&self, name: &str) -> Fault {
        if name == DAE_NAME {
            return Fault::failed(format!(
                "{DAE_NAME} is the host itself, and can't be changed like a daemon; SIGTERM to process {} ends it",
                std::process::id()
            ));
        }
        if let Some(fault) = self.foreign_fault(name) {
            return fault;
        }
        let daemons = lock(&self.daemons);
        let near = dae_common_tcp::nearest(name, daemons.keys().map(String::as_str));
        let hint = near.map_or_else(
            || "`list` shows all".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Fault {
            kind: FaultKind::UnknownDaemon,
            text: format!("there is no daemon {name}; {hint}"),
        }
    }

    pub(super) fn tidy(&self) {
        self.watch_anew.notify_one();
        if let Err(error) = self.sweep() {
            tracing::warn!(
                error = format!("{error:#}"),
                "the store could not be tidied"
            );
        }
    }
}
