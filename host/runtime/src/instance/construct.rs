//! The construction of an instance: a value of the author's type in this process, or a subprocess that has loaded its file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Body, Instance};
use crate::plugin::command_table::CommandTable;
use crate::plugin::host_api::{HostRegistration, HostedInstance};
use crate::plugin::identity::Identity;
use crate::plugin::library::PluginLibrary;
use crate::plugin::start_fault::StartFault;
use crate::process::subprocess::LoadedSubprocess;
use crate::threads::latency::LatencyClasses;
use dae_store::blocking;
use dae_store::manifest::Manifest;
use dae_store::state_text::StateText;

/// All that a start needs: a file, and the identity of the new instance.
#[derive(Debug)]
pub struct StartPlan {
    /// The code.
    pub library: PluginLibrary,
    /// The manifest in the file.
    pub manifest: Arc<Manifest>,
    /// The table of commands; the same for all daemons of the file.
    pub commands: Arc<CommandTable>,
    /// The identity and configuration, and the host API that its code calls.
    pub hosted: HostedInstance,
    /// The runtime that its code runs on.
    pub runtime: Handle,
    /// The state that the previous instance has saved, as JSON.
    pub state: Option<StateText>,
    /// The longest time that `start` may take.
    pub limit: Duration,
}

/// Constructs a daemon and pings it once.
///
/// # Errors
/// The error that `start` returned, or that it took too long. Nothing of the instance is left then, except for a thread
/// if `start` itself never returned.
pub async fn start(plan: StartPlan) -> Result<Instance, StartFault> {
    let registration = HostRegistration::take(plan.hosted, plan.runtime.clone());
    let host = registration.host();
    let runtime = plan.runtime;
    let (library, limit) = (plan.library, plan.limit);
    let (state, config) = (plan.state, registration.config().to_owned());
    // A thread that may block, since the author's `start` may.
    let started = blocking::run(move || {
        let starting = async { timeout(limit, library.start(host, &config, state.clone())).await };
        match runtime.block_on(starting) {
            Ok(live) => live.map_err(|text| fault_of(text, &library, state.as_ref())),
            Err(_) => Err(too_long(limit).into()),
        }
    });
    // The inner limit ends a `start` that waits; this one, a little later, gives up on a `start` that blocks.
    let started = timeout(limit + Duration::from_millis(100), started).await;
    let live = match started {
        Ok(Ok(result)) => result?,
        Ok(Err(why)) => return Err(format!("it can't be started: {why}").into()),
        Err(_) => return Err(too_long(limit).into()),
    };
    if !live.ping() {
        return Err("it started, but doesn't answer a ping".to_owned().into());
    }
    let number = next_number();
    Ok(Instance {
        identity: registration.identity(),
        commands: plan.commands,
        number,
        latency: LatencyClasses::of(number, plan.manifest.commands.len()),
        manifest: plan.manifest,
        body: Body::InProcess(live, registration),
        at_once: Box::default(),
        running: Mutex::default(),
    })
}

/// Starts a daemon in the process that has loaded it. Calls `identity` with the process id.
///
/// # Errors
/// The errors of [`start`], or how the process ended.
pub async fn start_subprocess(
    loaded: LoadedSubprocess,
    identity: impl FnOnce(u32) -> Identity,
    state: Option<StateText>,
) -> Result<Instance, StartFault> {
    let manifest = Arc::new(loaded.manifest().clone());
    let subprocess = loaded.start(state).await?;
    let number = next_number();
    let at_once = (manifest.commands.iter().map(|_| AtomicBool::new(false))).collect();
    Ok(Instance {
        identity: Arc::new(identity(subprocess.pid())),
        commands: Arc::new(CommandTable::of(&manifest).elsewhere()),
        number,
        // Nothing of it runs on threads of this process.
        latency: LatencyClasses::of(number, 0),
        manifest,
        body: Body::Subprocess(subprocess),
        at_once,
        running: Mutex::default(),
    })
}

pub(super) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns the fault of a `start` that has failed.
fn fault_of(text: String, library: &PluginLibrary, state: Option<&StateText>) -> StartFault {
    let is_readable = state.is_none_or(|state| library.check_state(state.bytes()).is_ok());
    match is_readable {
        true => text.into(),
        false => StartFault::of_state(text),
    }
}

fn too_long(limit: Duration) -> String {
    format!("its start took longer than {limit:?}; a start must not wait for what may never come")
}
