//! The reason why a daemon did not start: a text for a person, and a kind for decisions.
//!
//! Only a text crosses the boundary to a plugin. So whether the state is the reason is found out by asking the plugin
//! whether it can read the state, and not from the text.

use std::fmt;

/// The reason why a daemon did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFault {
    /// The reason, for a person.
    pub text: String,
    /// The kind of the reason.
    pub kind: StartFaultKind,
}

/// The kind of a [`StartFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFaultKind {
    /// Any other reason than those below.
    Other,
    /// The code can't read the state that it was given.
    State,
}

impl StartFault {
    /// Creates the fault of a state that the code can't read.
    pub(crate) fn of_state(text: String) -> Self {
        StartFault {
            text,
            kind: StartFaultKind::State,
        }
    }
}

impl StartFaultKind {
    /// Returns the number that stands for the kind between a host and its worker.
    pub(crate) fn number(self) -> u64 {
        match self {
            StartFaultKind::Other => 0,
            StartFaultKind::State => 1,
        }
    }

    /// Returns the kind that a number stands for.
    pub(crate) fn of_number(number: u64) -> Self {
        match number {
            1 => StartFaultKind::State,
            _ => StartFaultKind::Other,
        }
    }
}

impl From<String> for StartFault {
    fn from(text: String) -> Self {
        StartFault {
            text,
            kind: StartFaultKind::Other,
        }
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StartFault {}
