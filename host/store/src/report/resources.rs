//! The resources that a host keeps beside its daemons: libraries, the remains of ended instances, processes in reserve.

use serde::{Deserialize, Serialize};

/// The worker processes that wait for the next start of a subprocess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveStatus {
    /// The processes that wait now, by their id.
    pub pids: Vec<u32>,
    /// The number of processes that the setting `reserve_processes` asks for.
    pub max: u64,
    /// The memory of the waiting processes that they share with no other (bytes); `None` if it can't be known.
    pub memory_bytes: Option<u64>,
}

/// The remains of ended instances in the host's process, which never unloads a library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The number of ended instances that ran in the host's process, since the host started.
    pub generations: u64,
    /// The size of their files that are still mapped but that no daemon runs any more (bytes).
    pub bytes: u64,
    /// The number of these instances that left behind a thread or memory that could not be freed.
    pub left_behind: u64,
}

/// The plugins that the host's process has loaded and never unloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedLibraries {
    /// The number of loaded plugins. Each usually takes one of the process's pthread keys.
    pub loaded: u64,
    /// The number of loaded plugins from which on new ones run in subprocesses.
    pub max: u64,
    /// The size of their mappings (bytes).
    pub bytes: u64,
}
