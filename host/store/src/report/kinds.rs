//! The words for programs beside the texts of a status: why an instance ended, and how its file and its code differ.

use serde::{Deserialize, Serialize};

/// The kind of an end that nobody requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// Its `run` returned.
    Returned,
    /// Its `run` returned an error.
    RunFailed,
    /// Its code panicked.
    Panicked,
    /// Its process ended by itself.
    ProcessEnded,
    /// Its process was killed, since it answered no health check.
    Killed,
    /// The instance could not be started. Used only as the reason for a restart.
    StartFailed,
    /// A kind of a later version, or an end that an earlier version has told.
    #[default]
    #[serde(other)]
    Unknown,
}

impl EndKind {
    /// The reasons of restarts, in the order of their numbers.
    pub const OF_RESTARTS: [EndKind; 6] = [
        EndKind::Returned,
        EndKind::RunFailed,
        EndKind::Panicked,
        EndKind::ProcessEnded,
        EndKind::Killed,
        EndKind::StartFailed,
    ];

    /// Returns the name used in JSON and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EndKind::Returned => "returned",
            EndKind::RunFailed => "run-failed",
            EndKind::Panicked => "panicked",
            EndKind::ProcessEnded => "process-ended",
            EndKind::Killed => "killed",
            EndKind::StartFailed => "start-failed",
            EndKind::Unknown => "unknown",
        }
    }
}

/// The relation between a daemon's code and its source file, if it needs somebody's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The newest file was refused; `last_refusal` says why.
    NewerRefused,
    /// The host went back from the newest file after a crash, and quarantined it.
    NewerQuarantined,
    /// An older version runs, after `rollback`.
    NewerRolledBack,
    /// The file of a drop-in is gone, and the daemon is uninstalled soon.
    Gone,
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

impl SourceKind {
    /// Returns the note for a person; that of a file that is gone also says when the daemon is uninstalled.
    #[must_use]
    pub fn note(self) -> &'static str {
        match self {
            SourceKind::NewerRefused => "newer: refused",
            SourceKind::NewerQuarantined => "newer: quarantined",
            SourceKind::NewerRolledBack => "newer: rolled back",
            SourceKind::Gone => "gone",
            SourceKind::Unknown => "unknown",
        }
    }
}
