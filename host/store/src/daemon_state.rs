//! Where a daemon is in its life: an enum that carries what each state is about.

use std::fmt;
use std::time::{Duration, Instant};

/// See the file's head.
#[derive(Debug, Clone)]
pub enum DaemonState {
    /// An instance is being constructed.
    Starting,
    /// One answers.
    Ready,
    /// One is there, but doesn't answer as it should.
    Degraded {
        /// What is wrong.
        cause: String,
    },
    /// The last one ended; the next starts by itself.
    Backoff {
        /// Why it ended.
        cause: String,
        /// When the next one starts.
        until: Instant,
    },
    /// It ended too often: left alone until a person restarts it or its file changes.
    CrashLoop {
        /// Why it ended the last time, and how often before.
        cause: String,
    },
    /// A person stopped it.
    Stopped,
    /// It has done its work.
    Finished,
    /// Another instance is being constructed beside the one that answers.
    Reloading,
    /// It could not be started.
    Failed {
        /// Why not.
        cause: String,
    },
}

impl DaemonState {
    /// The one word that `list` shows.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DaemonState::Starting => "starting",
            DaemonState::Ready => "ready",
            DaemonState::Degraded { .. } => "degraded",
            DaemonState::Backoff { .. } => "backoff",
            DaemonState::CrashLoop { .. } => "crash-loop",
            DaemonState::Stopped => "stopped",
            DaemonState::Finished => "finished",
            DaemonState::Reloading => "reloading",
            DaemonState::Failed { .. } => "failed",
        }
    }

    /// Whether there is nothing left to wait for: it answers, or won't by itself.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, DaemonState::Starting | DaemonState::Reloading)
    }
}

/// Why it is so and what comes next, for a person; empty where the word says it all.
impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonState::Backoff { cause, until } => {
                let left = until.saturating_duration_since(Instant::now());
                write!(f, "{cause}; next try in {:.1} s", rounded(left))
            }
            DaemonState::CrashLoop { cause } => {
                write!(
                    f,
                    "{cause}; left alone until it is restarted or its file changes"
                )
            }
            DaemonState::Failed { cause } | DaemonState::Degraded { cause } => f.write_str(cause),
            _ => Ok(()),
        }
    }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).ceil() / 10.0
}
