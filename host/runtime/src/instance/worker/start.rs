//! The start of the worker's daemon: its limits, its file, its construction; or only a preflight of these.

use std::io;
use std::sync::Arc;

use super::Worker;
use super::wire::HostConnection;
use crate::instance::{self, EndFault, Instance, StartPlan};
use crate::os::{bounds, own_environment};
use crate::plugin::command_table::{CommandEntry, CommandTable, RunsOn};
use crate::plugin::host_api::HostedInstance;
use crate::plugin::identity::Identity;
use crate::plugin::library::PluginLibrary;
use crate::plugin::start_fault::StartFault;
use crate::process::ipc::{FrameKind, PreflightMessage, StartMessage};
use dae_store::durations;
use dae_store::manifest::Manifest;
use dae_store::report::Mode;
use dae_store::state_text::StateText;

/// A started daemon.
pub(super) struct ServingDaemon {
    pub(super) instance: Arc<Instance>,
    pub(super) runs: Vec<RunsOn>,
}

impl Worker {
    /// Runs a preflight: checks that the plugin can read the state and, on request, starts and stops a daemon. Crashes
    /// and hangs stay in this process. Returns whether the plugin has passed.
    pub(super) async fn run_preflight(
        &mut self,
        preflight: PreflightMessage,
        (library, message, state): (PluginLibrary, StartMessage, Option<StateText>),
    ) -> io::Result<bool> {
        let mut tried = match &state {
            Some(state) => {
                let checked = library.check_state(state.bytes());
                checked.map_err(StartFault::of_state)
            }
            None => Ok(()),
        };
        if tried.is_ok() && preflight.starts {
            let grace = durations::ms(preflight.stop_ms);
            let wire = Arc::clone(&self.wire);
            let starting_and_stopping = async {
                let served = start(library, message, state, &wire).await?;
                let ended = served.instance.end(grace).await;
                ended.map_err(|faults| StartFault::from(texts(faults).join("; ")))
            };
            tried = self.while_hearing(starting_and_stopping).await?;
        }
        match &tried {
            Ok(()) => {
                self.wire.send(FrameKind::Started, 0, &[]);
                self.wire.drain().await?;
            }
            Err(fault) => self.refuse(fault).await?,
        }
        Ok(tried.is_ok())
    }
}

/// Returns the texts of the faults at an instance's end.
pub(super) fn texts(faults: Vec<EndFault>) -> Vec<String> {
    faults.into_iter().map(|fault| fault.text).collect()
}

/// Sets the environment, applies the limits, and loads the file.
pub(super) fn load(message: &StartMessage) -> Result<PluginLibrary, String> {
    own_environment::set(&message.env);
    bound(message)?;
    PluginLibrary::open(&message.file).map_err(|fault| fault.to_string())
}

/// Starts the daemon.
pub(super) async fn start(
    library: PluginLibrary,
    message: StartMessage,
    state: Option<StateText>,
    wire: &Arc<HostConnection>,
) -> Result<ServingDaemon, StartFault> {
    let runs = where_each_runs(&message.manifest);
    let identity = Arc::new(Identity {
        name: message.name,
        plugin: message.manifest.name.clone(),
        version: message.manifest.version.clone(),
        is_shared: message.manifest.shared,
        mode: Mode::Subprocess,
        pid: std::process::id(),
        port: message.port,
        generation: message.generation,
        attempt: 0,
        since: std::time::Instant::now(),
    });
    let plan = StartPlan {
        library,
        commands: Arc::new(CommandTable::of(&message.manifest)),
        manifest: Arc::new(message.manifest),
        hosted: HostedInstance {
            identity,
            config: message.config,
            outlet: Arc::clone(wire) as _,
        },
        runtime: tokio::runtime::Handle::current(),
        state,
        limit: durations::ms(message.start_ms),
    };
    let instance = instance::start(plan).await?;
    Ok(ServingDaemon {
        instance: Arc::new(instance),
        runs,
    })
}

/// Returns where each command runs, by its index in the manifest.
fn where_each_runs(manifest: &Manifest) -> Vec<RunsOn> {
    let table = CommandTable::of(manifest);
    let runs = |name: &str| match table.find(name) {
        Some(CommandEntry::Own { runs, .. }) => runs,
        _ => RunsOn::Here,
    };
    manifest
        .commands
        .iter()
        .map(|command| runs(&command.name))
        .collect()
}

/// Applies the limits before any code of the plugin is loaded.
fn bound(message: &StartMessage) -> Result<(), String> {
    bounds::apply(&message.bounds)?;
    message.nice.map_or(Ok(()), bounds::set_nice)
}
