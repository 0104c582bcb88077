//! Why a change was not made: a text for the person who asked, and a kind for the program.
//!
//! The kind is all that is decided by: the control socket's code, the program's exit code, and whether a file is looked at
//! again. The text names the thing, what was expected, what came and what to do.

use std::fmt;

use dae_store::daemon_state::DaemonState;
use dae_store::manifest;

/// Why a change was not made, for a person; the kind decides the program's exit code.
#[derive(Debug)]
pub struct Fault {
    pub(super) kind: FaultKind,
    pub(super) text: String,
}

/// What sort of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no daemon of that name.
    UnknownDaemon,
    /// There is one, but it isn't running.
    NotRunning,
    /// The request was not as it should be.
    BadArguments,
    /// A half-written file: it may be whole a moment later.
    Incomplete,
    /// Another daemon has the name: it may be free one day.
    NameTaken,
    /// Anything else.
    Failed,
}

impl Fault {
    /// A fault of the common sort.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Fault {
            kind: FaultKind::Failed,
            text: text.into(),
        }
    }

    /// The same, as a fault of the common sort.
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
            text: format!(
                "{name} is {}{why}; `dae-host start {name}` starts it",
                state.word()
            ),
        }
    }

    /// What sort it is.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// Why a file could not be staged.
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
