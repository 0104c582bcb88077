//! The measures of an ecosystem: the numbers that the host keeps of each daemon, as plain data for metrics.
//!
//! Nothing is counted for this alone on the way of a command. Gathering reads the counters of every daemon once, and
//! copies no settings or configs.

use std::collections::BTreeSet;

use super::{Dae, Inner};
use crate::supervise::Daemon;
use dae_runtime::os::own_process;
use dae_runtime::session::gate::Gate;
use dae_store::registry::DAE_NAME;
use dae_store::report::{EndKind, Mode};

pub use crate::supervise::ReloadOutcome;
pub use dae_runtime::os::own_process::OwnProcess;
use dae_runtime::threads::counters::CounterSnapshot;
pub use dae_runtime::threads::counters::LatencyHistogram;

/// The measures of an ecosystem.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// The daemons of this host, Dae first. Foreign daemons have no measures.
    pub daemons: Vec<DaemonMeasures>,
    /// The resources that the host's process has.
    pub process: OwnProcess,
}

/// The measures of one daemon. All counts begin at the start of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonMeasures {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// The process in which its code runs, or is to run.
    pub mode: Mode,
    /// The state, in the word that `list` shows.
    pub state: &'static str,
    /// True if an instance answers.
    pub is_up: bool,
    /// The commands that it has answered.
    pub commands: CommandMeasures,
    /// The connections to it.
    pub guests: GuestMeasures,
    /// The restarts and reloads. `None` for Dae, which has neither.
    pub changes: Option<ChangeMeasures>,
}

/// The commands that a daemon has answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CommandMeasures {
    /// The lines answered, whether or not they were commands of the daemon.
    pub calls: u64,
    /// Each command that was called, by name. The first one has no name: it stands for lines that are no command of the
    /// daemon, such as unknown names, and is there without calls, too.
    pub by_name: Vec<OneCommandMeasures>,
}

/// The counts of one command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OneCommandMeasures {
    /// The command's name.
    pub name: String,
    /// The calls answered with `error`.
    pub errors: u64,
    /// The times from a call to its reply; `None` before the first call.
    pub latencies: Option<LatencyHistogram>,
}

/// The guests of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuestMeasures {
    /// The guests at present.
    pub present: u64,
    /// The guests that were refused because there were `guests_max`.
    pub refused_at_max: u64,
    /// The guests that were refused for lack of descriptors.
    pub refused_no_descriptors: u64,
}

/// The restarts and reloads of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMeasures {
    /// The restarts, by their reasons.
    pub restarts: [(EndKind, u64); EndKind::OF_RESTARTS.len()],
    /// The reloads, by their outcomes.
    pub reloads: [(ReloadOutcome, u64); ReloadOutcome::ALL.len()],
}

impl Dae {
    /// Returns the measures of the ecosystem as they are now. It reads the counters of all daemons and a few files of the
    /// system, which takes milliseconds for thousands of daemons.
    #[must_use]
    pub fn measure(&self) -> Measures {
        Measures {
            daemons: self.inner.measure_daemons(),
            process: own_process::now(),
        }
    }
}

impl Inner {
    fn measure_daemons(&self) -> Vec<DaemonMeasures> {
        let daemons = self.running.daemons();
        let names: BTreeSet<&str> = daemons.iter().map(|one| one.gate.name.as_str()).collect();
        let lost = self.catalogue.all_lost().into_keys();
        let lost = lost.filter(|name| !names.contains(name.as_str()));
        let lost: Vec<DaemonMeasures> = lost.map(|name| self.measures_of_lost(name)).collect();
        let own = std::iter::once(self.own_measures());
        own.chain(daemons.iter().map(|daemon| measures_of(daemon)))
            .chain(lost)
            .collect()
    }

    fn own_measures(&self) -> DaemonMeasures {
        let gate = &self.endpoint.gate;
        DaemonMeasures {
            name: DAE_NAME.to_owned(),
            plugin: DAE_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: Mode::InProcess,
            state: "ready",
            is_up: true,
            commands: commands_of(gate),
            guests: guests_of(gate),
            changes: None,
        }
    }

    /// Returns the measures of a daemon that could not be restored.
    fn measures_of_lost(&self, name: String) -> DaemonMeasures {
        let entry = self.catalogue.entry(&name);
        let entry = entry.map(|entry| (entry.plugin, entry.version, entry.mode));
        let (plugin, version, mode) = entry.unwrap_or_default();
        DaemonMeasures {
            name,
            plugin,
            version,
            mode,
            state: "failed",
            is_up: false,
            commands: CommandMeasures::default(),
            guests: GuestMeasures::default(),
            changes: Some(ChangeMeasures {
                restarts: EndKind::OF_RESTARTS.map(|reason| (reason, 0)),
                reloads: ReloadOutcome::ALL.map(|outcome| (outcome, 0)),
            }),
        }
    }
}

fn measures_of(daemon: &Daemon) -> DaemonMeasures {
    let (artefact, mode, is_up) = daemon.presence();
    DaemonMeasures {
        name: daemon.gate.name.clone(),
        plugin: artefact.manifest.name.clone(),
        version: artefact.manifest.version.clone(),
        mode,
        state: daemon.state_word(),
        is_up,
        commands: commands_of(&daemon.gate),
        guests: guests_of(&daemon.gate),
        changes: Some(ChangeMeasures {
            restarts: daemon.restarts(),
            reloads: daemon.reloads(),
        }),
    }
}

fn commands_of(gate: &Gate) -> CommandMeasures {
    let counted = gate.stats.by_command();
    let measures = |name: String, counts: &CounterSnapshot| OneCommandMeasures {
        name,
        errors: counts.errors(),
        latencies: counts.latencies(),
    };
    let calls = counted.total().calls();
    let mut by_name = vec![measures(String::new(), &counted.other)];
    by_name.extend((counted.by_name.into_iter()).map(|(name, counts)| measures(name, &counts)));
    by_name.sort_by(|one, other| one.name.cmp(&other.name));
    CommandMeasures { calls, by_name }
}

fn guests_of(gate: &Gate) -> GuestMeasures {
    let (refused_at_max, refused_no_descriptors) = gate.guests.refused();
    GuestMeasures {
        present: gate.guests.count() as u64,
        refused_at_max,
        refused_no_descriptors,
    }
}
