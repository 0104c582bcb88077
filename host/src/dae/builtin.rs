//! Built-in daemons: daemons whose code is part of the embedding program, and no plugin file.
//!
//! The program installs them at each start, since only it has their code. The registry keeps the rest as for every other
//! daemon: name, port, config, settings, and whether it is stopped. They run through the same boundary as a plugin in
//! the host's process. What needs a file is refused with the reason: a reload, a rollback, and a process of its own.

use std::any::type_name;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use dae_plugin_api::export::Compiled;

use super::carry::ChangeKind;
use super::change::installed;
use super::install::{InstallOrder, InstallResult};
use super::{Dae, Fault, Inner};
use crate::supervise::{ChangeStart, OrderResult};
use dae_runtime::plugin::library::PluginLibrary;
use dae_store::daemon_state::DaemonState;
use dae_store::install_plan;
use dae_store::manifest;
use dae_store::plugin_store::Artefact;
use dae_store::report::{InstallRequest, Installed, Mode};

impl Dae {
    /// Installs a daemon that is compiled into this program, under the name in its `#[daemon]`, and waits until it
    /// answers. `D` is the author's type. The crate that defines it depends on `dae-plugin-api` alone.
    ///
    /// Call it after each start of the ecosystem: the home keeps the daemon's name, port, config, settings and state,
    /// and the program has its code. A daemon that was stopped stays stopped. If the daemon runs already, nothing
    /// changes.
    ///
    /// The daemon runs in this process, with a listener of its own. A panic in a command is answered `crashed`, and the
    /// restart policy applies to it. A daemon that ends the process ends the program.
    ///
    /// ```no_run
    /// # mod greeter {
    /// use dae_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// pub struct Greeter;
    ///
    /// #[daemon(built_in)]
    /// impl Greeter {
    ///     #[command]
    ///     fn greet(&self, who: &str) -> String {
    ///         format!("Hello, {who}!")
    ///     }
    /// }
    /// # }
    /// # use greeter::Greeter;
    ///
    /// # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
    /// let dae = dae_host::Dae::builder().home("home").start().await?;
    /// dae.install_builtin::<Greeter>().await?;
    /// let greeting: String = dae.call("Greeter", "greet", ("Ada",)).await?;
    /// # Ok(())
    /// # }
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Fails if a plugin file is installed under the name (kind `NameTaken`), if the program is built with
    /// `panic = "abort"`, or if the daemon doesn't start. Nothing has changed then.
    pub async fn install_builtin<D: Compiled>(&self) -> Result<Installed, Fault> {
        self.install_builtin_with::<D>(InstallRequest::default())
            .await
    }

    /// Does the same as [`Dae::install_builtin`], with a name, a port, a config, settings or a state. A running daemon
    /// is replaced if the request has any of the last four. The members `file`, `replace`, `mode` and `drop_in` have no
    /// effect.
    ///
    /// # Errors
    /// As for [`Dae::install_builtin`].
    pub async fn install_builtin_with<D: Compiled>(
        &self,
        request: InstallRequest,
    ) -> Result<Installed, Fault> {
        let code = Artefact::built_in(type_name::<D>(), D::manifest());
        let code = code.map_err(|fault| Fault::failed(fault.to_string()))?;
        let manifest_fault = manifest::check_in_process(&code.manifest);
        manifest_fault.map_err(|fault| Fault::failed(fault.to_string()))?;
        let libraries = &self.inner.shared.code.libraries;
        libraries.add_built_in(&code.hash, PluginLibrary::built_in(D::module()));
        self.carry_through(|dae, begin| async move {
            let name = install_plan::daemon_name(&request, &code.manifest)?;
            let installed = dae.install_code((request, code), &name, begin).await;
            dae.inner
                .note_outcome(&name, ChangeKind::Install, &installed);
            installed
        })
        .await
    }

    async fn install_code(
        &self,
        (request, code): (InstallRequest, Artefact),
        name: &str,
        begin: Arc<ChangeStart>,
    ) -> Result<Installed, Fault> {
        let (inner, began) = (&self.inner, Instant::now());
        let _turn = inner.running.turn(name).await;
        let artefact = Arc::new(code);
        let registered = inner.catalogue.entry(name);
        let is_known = registered.is_some_and(|entry| entry.is_built_in);
        if is_known
            && !changes(&request)
            && let Some(daemon) = inner.daemon(name)
            && daemon.glance().spec.artefact.hash == artefact.hash
            && is_as_wanted(&daemon.glance().state)
        {
            let generation = daemon.glance().generation;
            let done = OrderResult {
                generation,
                ..OrderResult::default()
            };
            return Ok(installed(&daemon, &artefact, done, began));
        }
        // The daemon that is registered is this one.
        let request = InstallRequest {
            replace: is_known,
            ..request
        };
        let order = order_of(name, request, &artefact, begin);
        let InstallResult {
            daemon,
            done,
            earlier_state,
        } = inner.install(&order).await?;
        Ok(Installed {
            earlier_state,
            ..installed(&daemon, &artefact, done, began)
        })
    }
}

fn order_of(
    name: &str,
    request: InstallRequest,
    artefact: &Arc<Artefact>,
    begin: Arc<ChangeStart>,
) -> InstallOrder {
    InstallOrder {
        name: name.to_owned(),
        request: InstallRequest {
            name: Some(name.to_owned()),
            file: PathBuf::new(),
            mode: Some(Mode::InProcess),
            drop_in: false,
            ..request
        },
        artefact: Arc::clone(artefact),
        is_there: true,
        begin,
    }
}

/// Returns whether a daemon in that state needs no other start: it runs, or its owner has stopped it.
fn is_as_wanted(state: &DaemonState) -> bool {
    use DaemonState::{Asleep, Degraded, Ready, Reloading, Starting, Stopped};
    matches!(
        state,
        Ready | Degraded { .. } | Reloading | Starting | Asleep { .. } | Stopped
    )
}

/// Returns whether a request changes a daemon that runs.
fn changes(request: &InstallRequest) -> bool {
    let is_plain = (&request.port, &request.state) == (&None, &None)
        && (&request.config, &request.settings) == (&None, &None);
    request.fresh || !is_plain
}

impl Inner {
    /// Refuses a change that needs a plugin file, for a daemon that has none.
    pub(super) fn check_has_file(&self, name: &str, change: ChangeKind) -> Result<(), Fault> {
        let entry = self.catalogue.entry(name);
        if !entry.is_some_and(|entry| entry.is_built_in) {
            return Ok(());
        }
        let way = match change {
            ChangeKind::Isolate => {
                "its plugin file, installed under that name after an uninstall, can be isolated"
            }
            _ => "build the program anew and start it again",
        };
        Err(Fault::failed(format!(
            "{name} is built into this program and has no plugin file, which `{}` needs; {way}",
            change.word()
        )))
    }
}
