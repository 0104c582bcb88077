//! The events of an ecosystem: what has happened to its daemons and to the host, for operators, scripts and programs
//! that embed the host.
//!
//! An event is plain data. As JSON it is one object, for example
//! `{"id":1795892400000000,"time":"2026-11-29T17:00:00.000000Z","daemon":"Counter","generation":2,"event":"crashed",`
//! `"cause":"..."}`. Later versions may add events and members; a reader ignores those that it doesn't know. The texts for
//! people are in [`words`].

mod cause;
mod words;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::json_form::text_or_null;
use crate::report::Credential;
use crate::restart_rule::{LoopRule, RestartRule};
use crate::sleep_rule::SleepRule;

pub use cause::{CauseKind, ChangedSetting};
pub use words::EventWeight;

/// An event of an ecosystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaeEvent {
    /// A number that grows with every event of a home, over restarts of the host too. It starts at the microseconds
    /// since 1970, so that it grows even if somebody removes the kept events. 0 in an event of an earlier version.
    #[serde(default)]
    pub id: u64,
    /// The time at which it happened, always written with six digits of a second.
    #[serde(serialize_with = "fixed_width")]
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

impl DaeEvent {
    /// Returns an event that happens now, without an id.
    #[must_use]
    pub fn now(daemon: &str, generation: Option<u64>, kind: DaeEventKind) -> Self {
        DaeEvent {
            id: 0,
            time: Timestamp::now(),
            daemon: daemon.to_owned(),
            generation,
            kind,
        }
    }
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DaeEventKind {
    /// A file was installed as the daemon, for the first time or in place of another file. It may run already: the install
    /// is recorded after the start.
    Installed {
        /// The version of its plugin.
        version: String,
        /// The content hash of its file; empty for a daemon that is compiled into the program.
        #[serde(default, with = "text_or_null")]
        hash: String,
    },
    /// An install or a change of the settings gave the daemon other values.
    SettingsChanged {
        /// The changed values.
        changed: Vec<ChangedSetting>,
    },
    /// An instance is being started.
    Started,
    /// An instance answers.
    Ready,
    /// A new generation has taken over from a running one.
    Reloaded {
        /// The version of its plugin.
        version: String,
        /// The content hash of its file.
        #[serde(default, with = "text_or_null")]
        hash: String,
        /// The changes of its commands, for a person; empty if there are none.
        #[serde(default, with = "text_or_null")]
        changes: String,
    },
    /// The daemon now runs in a subprocess.
    Isolated,
    /// The daemon now runs in the host's process.
    Embedded,
    /// A change was refused: an install, a reload, a rollback or a move. What ran before runs on.
    Refused {
        /// The change, in a word.
        change: String,
        /// The reason.
        reason: String,
    },
    /// A change was made, and could not be recorded: the next host starts as before it.
    Unrecorded {
        /// The change, in a word.
        change: String,
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// An instance ended by itself, or had to end.
    Crashed {
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// The next instance starts by itself after a wait.
    RestartPlanned {
        /// The reason for the restart.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
        /// The wait (ms).
        wait_ms: u64,
        /// The rule that chose the wait.
        #[serde(default)]
        rule: Option<RestartRule>,
    },
    /// An instance exists, and does not answer as it should.
    Degraded {
        /// The problem.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// Instances ended too often. Nothing starts by itself any more.
    CrashLoop {
        /// The reason for the last end.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
        /// The limit that was reached.
        #[serde(default)]
        rule: Option<LoopRule>,
    },
    /// The daemon could not be started.
    Failed {
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// It sleeps: its port listens, and the first command starts it.
    Asleep {
        /// The rule by which it sleeps.
        rule: SleepRule,
    },
    /// A command came while it slept, and it is being started.
    Woken {
        /// The name of the command.
        command: String,
    },
    /// Its `run` returned, and its restart policy says that this is the end.
    Finished,
    /// New code did not last, and the code before it runs again.
    RolledBack {
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// A file is not installed again by itself, because its code did not last.
    Quarantined {
        /// The content hash of the file.
        hash: String,
        /// The reason.
        reason: String,
    },
    /// Its state could not be saved.
    StateUnsaved {
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
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
    /// The host has started.
    HostStarted {
        /// Its version.
        version: String,
        /// Its process id.
        pid: u32,
        /// True if the host before it was killed or has crashed.
        #[serde(default)]
        after_crash: bool,
    },
    /// The host has begun to end.
    HostEnding,
    /// The host has ended in order.
    HostEnded,
    /// Events or log records can't be kept on the disk.
    DiskFailed {
        /// The reason.
        cause: String,
        /// Its kind.
        #[serde(default)]
        cause_kind: CauseKind,
    },
    /// The kept events were moved or removed. They are kept anew, from the event before this one on.
    HistoryLost {
        /// The file that they were in.
        path: PathBuf,
    },
    /// They can be kept again.
    DiskWorks {
        /// The number of events or log records that were not kept.
        lost: u64,
    },
    /// The reader was too slow, and events were dropped.
    Missed {
        /// The number of dropped events.
        count: u64,
    },
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

fn fixed_width<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

#[cfg(test)]
mod tests;
