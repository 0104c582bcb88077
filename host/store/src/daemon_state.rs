//! The states in a daemon's life, as an enum with each state's data.

use std::fmt;
use std::time::{Duration, Instant};

use crate::restart_rule::{LoopRule, RestartRule};
use crate::sleep_rule::SleepRule;

/// The state of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonState {
    /// An instance is being constructed.
    Starting,
    /// An instance answers.
    Ready,
    /// An instance exists but doesn't answer as it should.
    Degraded {
        /// The problem.
        cause: String,
    },
    /// The last instance has ended; the next starts automatically.
    Backoff {
        /// The reason for the end.
        cause: String,
        /// The start time of the next instance.
        until: Instant,
        /// The rule that chose that time.
        rule: RestartRule,
    },
    /// Instances ended too often. Nothing starts until a person restarts the daemon or its file changes.
    CrashLoop {
        /// The reason for the last end, and the number of restarts.
        cause: String,
        /// The limit that was reached.
        rule: LoopRule,
    },
    /// Its port listens, and the first command starts it.
    Asleep {
        /// The rule by which it sleeps.
        rule: SleepRule,
    },
    /// A person stopped it.
    Stopped,
    /// It has finished its work.
    Finished,
    /// A new instance is being constructed beside the one that answers.
    Reloading,
    /// It could not be started.
    Failed {
        /// The reason for the failure.
        cause: String,
    },
}

impl DaemonState {
    /// Returns the word that `list` shows.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DaemonState::Starting => "starting",
            DaemonState::Ready => "ready",
            DaemonState::Degraded { .. } => "degraded",
            DaemonState::Backoff { .. } => "backoff",
            DaemonState::CrashLoop { .. } => "crash-loop",
            DaemonState::Asleep { .. } => "asleep",
            DaemonState::Stopped => "stopped",
            DaemonState::Finished => "finished",
            DaemonState::Reloading => "reloading",
            DaemonState::Failed { .. } => "failed",
        }
    }

    /// Returns whether there is nothing to wait for: neither a start nor a reload is in progress.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, DaemonState::Starting | DaemonState::Reloading)
    }
}

/// Formats the reason and the next step for a person; empty if the word is enough.
impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonState::Backoff { cause, until, .. } => {
                let left = until.saturating_duration_since(Instant::now());
                write!(f, "{cause}; next try in {:.1} s", rounded(left))
            }
            DaemonState::CrashLoop { cause, .. } => {
                write!(
                    f,
                    "{cause}; left alone until it is restarted or its file changes"
                )
            }
            DaemonState::Failed { cause } | DaemonState::Degraded { cause } => f.write_str(cause),
            DaemonState::Asleep { rule } => write!(f, "{rule}"),
            _ => Ok(()),
        }
    }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).ceil() / 10.0
}
