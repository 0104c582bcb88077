//! A daemon of a test host: its code, its gate, and the instance behind it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::instance::Code;
use super::late_schemas::{LateCommand, LateCommands};
use super::log_line::LogLine;
use super::signal::{Signal, lock};
use crate::Result;
use crate::abi::{DaemonModV1_Ref, HostV1};
use crate::export::{Exported, root_module};

/// The time that a command may run. It is the default of a real host.
pub const COMMAND_MAX: Duration = Duration::from_secs(30);

/// A daemon by its name, over all its instances.
pub struct Slot {
    pub name: String,
    pub module: DaemonModV1_Ref,
    pub manifest: Manifest,
    /// The JSON object that `start` is given.
    pub config: Mutex<String>,
    pub gate: Signal<Gate>,
    /// The state that was saved last, as it crosses the boundary.
    pub kept: Mutex<Option<String>>,
    /// The instance whose code may ask for saves: the one that answers, until its last state is saved.
    saving: Mutex<Weak<Running>>,
    late: LateCommands,
    pub log: Mutex<Vec<LogLine>>,
    pub counts: Mutex<Counts>,
}

/// The counters in the reply to `stats`.
#[derive(Default)]
pub struct Counts {
    pub calls: u64,
    pub errors: u64,
    pub panics: u64,
}

/// The gate that guests meet before an instance.
pub struct Gate {
    pub phase: Phase,
    pub generation: u64,
}

/// The state of a gate.
pub enum Phase {
    Open(Arc<Running>),
    /// Commands wait.
    Held,
    /// Commands are answered `unavailable`, with this reason.
    Down(String),
}

/// An instance that runs.
pub struct Running {
    pub host: HostV1,
    pub generation: u64,
    code: Mutex<Option<Arc<Code>>>,
    /// The number of commands and hooks that run.
    pub leases: Signal<usize>,
    /// Set when what runs must be given up.
    pub revoked: Signal<Option<Revoked>>,
}

/// The reason why what runs in an instance is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It is replaced or stopped.
    Ends,
    /// It has crashed.
    Crashed,
}

/// The right to run code of an instance, which waits for it before it ends.
pub struct Lease(pub Arc<Running>);

impl Running {
    pub fn new(host: HostV1, generation: u64, code: Code) -> Arc<Self> {
        Arc::new(Running {
            host,
            generation,
            code: Mutex::new(Some(Arc::new(code))),
            leases: Signal::default(),
            revoked: Signal::default(),
        })
    }

    pub fn code(&self) -> Option<Arc<Code>> {
        lock(&self.code).clone()
    }

    /// Takes the code out: no more of it begins.
    pub fn take_code(&self) -> Option<Arc<Code>> {
        lock(&self.code).take()
    }

    pub fn id(&self) -> u64 {
        self.host.daemon
    }
}

impl Lease {
    pub fn again(lease: &Lease) -> Self {
        Lease::of(&lease.0)
    }

    fn of(running: &Arc<Running>) -> Self {
        running.leases.with(|leases| *leases += 1);
        Lease(Arc::clone(running))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leases.change(|leases| *leases -= 1);
    }
}

impl Slot {
    /// Creates the slot of a daemon, under another name than the plugin's if one is given.
    pub fn of<D: Exported>(
        name: Option<String>,
        config: String,
        state: Option<String>,
    ) -> Result<Self> {
        let manifest: Manifest = serde_json::from_str(D::manifest())?;
        Ok(Slot {
            name: name.unwrap_or_else(|| manifest.name.clone()),
            module: root_module::<D>(),
            manifest,
            config: Mutex::new(config),
            gate: Signal::new(Gate {
                phase: Phase::Held,
                generation: 0,
            }),
            kept: Mutex::new(state),
            saving: Mutex::default(),
            late: LateCommands::of::<D>(),
            log: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// Waits at the gate. Returns a lease, or the reason why there is no instance.
    pub async fn admitted(&self) -> Result<Lease, String> {
        self.gate
            .until(|gate| match &gate.phase {
                Phase::Open(running) => Some(Ok(Lease::of(running))),
                Phase::Down(why) => Some(Err(why.clone())),
                Phase::Held => None,
            })
            .await
    }

    /// Returns a lease of the instance, if the gate is open.
    pub fn lease(&self) -> Option<Lease> {
        self.gate.with(|gate| match &gate.phase {
            Phase::Open(running) => Some(Lease::of(running)),
            _ => None,
        })
    }

    /// Returns the instance, if the gate is open.
    pub fn open(&self) -> Option<Arc<Running>> {
        self.gate.with(|gate| match &gate.phase {
            Phase::Open(running) => Some(Arc::clone(running)),
            _ => None,
        })
    }

    /// Returns the schemas that only the code of the daemon knows, of that command.
    pub fn late(&self, index: usize) -> Option<&LateCommand> {
        self.late.made().get(index)
    }

    /// Returns the instance, if its code may ask for saves.
    pub fn saving(&self) -> Option<Arc<Running>> {
        lock(&self.saving).upgrade()
    }

    /// Lets no code ask for saves until an instance opens the gate.
    pub fn close_saves(&self) {
        *lock(&self.saving) = Weak::new();
    }

    pub fn set_phase(&self, phase: Phase) {
        if let Phase::Open(running) = &phase {
            *lock(&self.saving) = Arc::downgrade(running);
        }
        let before = self
            .gate
            .change(|gate| std::mem::replace(&mut gate.phase, phase));
        // Perhaps the last handle on an instance, whose end runs code of the daemon.
        drop(before);
    }

    /// Shuts the gate: the daemon has failed.
    pub fn fail(&self, cause: impl Display) {
        let why = format!("{} has failed: {cause}", self.name);
        self.close_saves();
        self.set_phase(Phase::Down(why));
    }

    /// Opens the gate again to an instance that goes on, also if its commands had to be given up.
    pub fn reopen(&self, running: Arc<Running>) {
        running.revoked.with(|revoked| *revoked = None);
        self.set_phase(Phase::Open(running));
    }

    pub fn log(&self, line: LogLine) {
        lock(&self.log).push(line);
    }
}

/// The plugin's description of itself.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub run: Option<String>,
    pub stop: Option<String>,
    pub connect: Option<String>,
    pub disconnect: Option<String>,
    #[serde(default)]
    pub exclusive: bool,
    pub state_version: Option<u32>,
    pub commands: Vec<CommandInfo>,
}

/// A command in a manifest.
#[derive(Debug, Default, Deserialize)]
pub struct CommandInfo {
    pub name: String,
    pub doc: String,
    pub kind: String,
    /// Its own time limit, if it has one.
    pub timeout_ms: Option<u64>,
    /// The parts that it sends in a real host to a caller that asks for them.
    pub parts: Option<String>,
    pub arguments: Vec<ArgumentInfo>,
    #[serde(default)]
    pub result: Value,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub destructive: bool,
    #[serde(default)]
    pub idempotent: bool,
}

/// An argument in a manifest.
#[derive(Debug, Deserialize)]
pub struct ArgumentInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub rest: bool,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub schema: Value,
}

impl CommandInfo {
    /// Returns the time that the command may run, on the clock of the test.
    pub fn limit(&self) -> Duration {
        self.timeout_ms.map_or(COMMAND_MAX, Duration::from_millis)
    }

    /// Returns the call in readable form, as `help` shows it.
    pub fn signature(&self) -> String {
        let arguments = self.arguments.iter().map(|one| {
            let before = if one.rest { "..." } else { "" };
            let after = if one.optional { "?" } else { "" };
            format!("{before}{}{after}: {}", one.name, one.type_name)
        });
        let arguments: Vec<String> = arguments.collect();
        format!("{}({})", self.name, arguments.join(", "))
    }
}
