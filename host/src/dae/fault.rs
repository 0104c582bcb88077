//! The reason why a change was not made: a text for the person who asked, and a kind for programs.
//!
//! Only the kind decides: on the code on the control socket, on the program's exit code, and on whether to look at
//! a file again. The text names the thing, what was expected, what came and what to do.

use std::fmt;

use dae_store::daemon_state::DaemonState;
use dae_store::install_plan::{InstallRefusal, RefusalKind};
use dae_store::manifest;

/// The reason why a change was not made, for a person. Its kind decides the program's exit code.
#[derive(Debug)]
pub struct Fault {
    pub(super) kind: FaultKind,
    pub(super) text: String,
}

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no daemon of that name.
    UnknownDaemon,
    /// The daemon exists, but it isn't running.
    NotRunning,
    /// The request has invalid arguments.
    BadArguments,
    /// The file is half-written. It may be complete a moment later.
    Incomplete,
    /// Another daemon has the name. It may be free later.
    NameTaken,
    /// The file did not last before, so it is installed again only by force.
    Quarantined,
    /// The change is made, and could not be recorded: the next host starts as before it.
    Unrecorded,
    /// Any other fault.
    Failed,
}

impl Fault {
    /// Creates a fault of the general kind.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Fault {
            kind: FaultKind::Failed,
            text: text.into(),
        }
    }

    /// Turns the fault into one of the general kind.
    pub(super) fn into_failed(self) -> Self {
        Fault {
            kind: FaultKind::Failed,
            ..self
        }
    }

    pub(super) fn bad_arguments(text: String) -> Self {
        Fault {
            kind: FaultKind::BadArguments,
            text,
        }
    }

    pub(super) fn not_running(name: &str, state: &DaemonState) -> Self {
        let reason = state.to_string();
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(" ({reason})")
        };
        Fault {
            kind: FaultKind::NotRunning,
            text: format!("{name} is {}{why}; start it first", state.word()),
        }
    }

    /// Returns the kind of the fault.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// Creates the fault for a file that could not be staged.
    pub(super) fn staging(error: &anyhow::Error) -> Self {
        let file_fault = error.downcast_ref::<manifest::FileFault>();
        let is_incomplete = file_fault.is_some_and(manifest::FileFault::is_incomplete);
        Fault {
            kind: if is_incomplete {
                FaultKind::Incomplete
            } else {
                FaultKind::Failed
            },
            text: format!("{error:#}"),
        }
    }
}

impl From<InstallRefusal> for Fault {
    fn from(refusal: InstallRefusal) -> Self {
        Fault {
            kind: match refusal.kind() {
                RefusalKind::BadArguments => FaultKind::BadArguments,
                RefusalKind::NameTaken => FaultKind::NameTaken,
                RefusalKind::Quarantined => FaultKind::Quarantined,
                RefusalKind::Failed => FaultKind::Failed,
            },
            text: refusal.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Unrecorded => {
                write!(f, "it is done, but won't outlive the host: {}", self.text)
            }
            _ => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Fault {}
