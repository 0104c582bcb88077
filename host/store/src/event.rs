//! The events of an ecosystem: what has happened to its daemons, for programs that embed the host.
//!
//! An event is plain data. As JSON it is one object, for example
//! `{"time":"2026-11-29T17:00:00Z","daemon":"Counter","generation":2,"event":"crashed","cause":"..."}`. Later versions
//! may add events and members; a reader ignores those that it doesn't know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report::Credential;

/// An event of an ecosystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaeEvent {
    /// The time at which it happened.
    pub time: Timestamp,
    /// The daemon that it happened to; `Dae` for the host itself.
    pub daemon: String,
    /// The generation of the daemon at that time, if it has had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The content.
    #[serde(flatten)]
    pub kind: DaeEventKind,
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DaeEventKind {
    /// The daemon was installed, or replaced by an install. It may run already: the install is recorded after the start.
    Installed {
        /// The version of its plugin.
        version: String,
    },
    /// An instance is being started.
    Started,
    /// An instance answers.
    Ready,
    /// A new generation has taken over from a running one.
    Reloaded {
        /// The version of its plugin.
        version: String,
    },
    /// A change was refused: an install, a reload, a rollback or a move. What ran before runs on.
    Refused {
        /// The change, in a word.
        change: String,
        /// The reason.
        reason: String,
    },
    /// An instance ended by itself, or had to end.
    Crashed {
        /// The reason.
        cause: String,
    },
    /// The next instance starts by itself after a wait.
    RestartPlanned {
        /// The reason for the restart.
        cause: String,
        /// The wait (ms).
        wait_ms: u64,
    },
    /// An instance exists, and does not answer as it should.
    Degraded {
        /// The problem.
        cause: String,
    },
    /// Instances ended too often. Nothing starts by itself any more.
    CrashLoop {
        /// The reason for the last end.
        cause: String,
    },
    /// The daemon could not be started.
    Failed {
        /// The reason.
        cause: String,
    },
    /// Its `run` returned, and its restart policy says that this is the end.
    Finished,
    /// New code did not last, and the code before it runs again.
    RolledBack {
        /// The reason.
        cause: String,
    },
    /// A file is not installed again by itself, because its code did not last.
    Quarantined {
        /// The content hash of the file.
        hash: String,
        /// The reason.
        reason: String,
    },
    /// The daemon was stopped.
    Stopped,
    /// The daemon was uninstalled.
    Uninstalled,
    /// A daemon that this host doesn't run has appeared.
    ForeignAppeared {
        /// Its credential.
        credential: Box<Credential>,
    },
    /// A daemon that this host doesn't run has another process, port, name or version.
    ForeignChanged {
        /// Its credential.
        credential: Box<Credential>,
        /// The name that it was listed under before.
        was: String,
    },
    /// A daemon that this host doesn't run has gone.
    ForeignGone,
    /// The reader was too slow, and events were dropped.
    Missed {
        /// The number of dropped events.
        count: u64,
    },
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_and_a_later_one_can_be_read() {
        let event = DaeEvent {
            time: Timestamp::UNIX_EPOCH,
            daemon: "A".to_owned(),
            generation: Some(2),
            kind: DaeEventKind::RestartPlanned {
                cause: "it fell".to_owned(),
                wait_ms: 100,
            },
        };
        let text = serde_json::to_string(&event).unwrap();
        let expected = concat!(
            r#"{"time":"1970-01-01T00:00:00Z","daemon":"A","generation":2,"#,
            r#""event":"restart-planned","cause":"it fell","wait_ms":100}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<DaeEvent>(&text).unwrap(), event);
        let later = text.replace("restart-planned", "danced");
        let later: DaeEvent = serde_json::from_str(&later).unwrap();
        assert_eq!(later.kind, DaeEventKind::Unknown);
    }
}
