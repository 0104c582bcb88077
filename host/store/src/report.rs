//! What the host tells about itself: the shapes of every answer on the control socket and of every `--json`.
//!
//! Plain data with stable keys, so that the program, an embedding program and a script read the same thing.
//! A key is never renamed or reused; new ones may be added.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whose host answers: what a command line checks before it asks for anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The home's identity.
    pub home: String,
    /// The home's path when the host took it.
    pub path: PathBuf,
    /// The host's process.
    pub pid: u32,
    /// The host's version.
    pub version: String,
}

/// Where a daemon's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the host's own process: a call costs nanoseconds.
    #[default]
    InProcess,
    /// In a child process of its own: a crash costs nothing.
    Subprocess,
}

impl Mode {
    /// The name that people and JSON see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::InProcess => "in-process",
            Mode::Subprocess => "subprocess",
        }
    }
}

/// Who a daemon is: the answer to `dae`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The name it runs under, unique in its ecosystem.
    pub name: String,
    /// The process its code runs in.
    pub pid: u32,
    /// Its Common TCP port on the loopback address.
    pub port: u16,
    /// The plugin's own name, which differs from `name` when it was installed under another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where its code runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The n-th instance of this daemon since the host started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How long that instance has run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// True for a daemon that this host did not load.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// The address of this machine that it listens at, where that isn't 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// One daemon as `list` and `status` show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Where its code runs; absent where that isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// True for a daemon that this host doesn't run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// `starting`, `ready`, `stopped`, `failed` …; `foreign` for a daemon that this host doesn't run, `impostor` where
    /// its credential doesn't fit its process.
    pub state: String,
    /// Why it is in that state, for a person; empty where the state says it all.
    #[serde(default)]
    pub reason: String,
    /// The process its code runs in; absent while nothing runs.
    pub pid: Option<u32>,
    /// Its Common TCP port; absent while it is stopped.
    pub port: Option<u16>,
    /// The port that a daemon which is stopped will have again; absent while it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_port: Option<u16>,
    /// The address of this machine that it listens at, where that isn't 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The longest that a guest may wait for an answer, in milliseconds; absent where a command may run for ever, and for
    /// a foreign daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u64>,
    /// The n-th instance since the host started.
    pub generation: u64,
    /// How long the present instance has run, in milliseconds; absent while nothing runs.
    pub uptime_ms: Option<u64>,
    /// Restarts since the host started.
    pub restarts: u64,
    /// Commands answered since the host started.
    pub calls: u64,
    /// Of those, the ones answered with `error`.
    pub errors: u64,
    /// Guests connected now.
    pub guests: u64,
    /// Content hash of what runs, in hex.
    pub hash: String,
    /// The file it was installed from.
    pub source: Option<String>,
    /// Where a drop-in's file has gone: `gone: uninstalled in 8 s`. Where the newest file is not what runs: `newer: quarantined`,
    /// `newer: rolled back` or `newer: refused`; empty
    /// where it is.
    #[serde(default)]
    pub source_note: String,
    /// What is to be known of how it was started: a circle in the start order, or others that weren't ready; empty
    /// where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub start_note: String,
    /// The last change that was refused, until one is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<Refusal>,
    /// How the last instance that ended by itself did.
    #[serde(default)]
    pub last_end: Option<LastEnd>,
    /// Restarts in the policy's window when it last ended: `3 of 5 in 30 s`; empty before.
    #[serde(default)]
    pub recent: String,
    /// Where the state of the present instance comes from; empty where it hands none over.
    #[serde(default)]
    pub state_from: String,
    /// Content hashes that did not last, and why; installing one again takes force.
    #[serde(default)]
    pub quarantined: std::collections::BTreeMap<String, String>,
    /// What its instances of before have left in the host's process; absent where they have left nothing.
    #[serde(default)]
    pub retired: Option<Retired>,
    /// Dae alone: the plugins that the host's process has loaded.
    #[serde(default)]
    pub images: Option<LoadedLibraries>,
}

/// What instances that have ended have left in the host's process, which never gives a library back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Instances that ran in the host's process and have ended, since the host started.
    pub generations: u64,
    /// What is still mapped of their files, as far as no daemon runs them any more.
    pub bytes: u64,
    /// Of the instances, those of which a thread or memory was left behind that could not be ended.
    pub left_behind: u64,
}

/// The plugins that the host's process has loaded, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedLibraries {
    /// How many. Each takes one of the process's pthread keys, as a rule.
    pub loaded: u64,
    /// From so many on, new ones run in processes of their own.
    pub max: u64,
    /// What is mapped of them.
    pub bytes: u64,
}

/// How an instance ended that nobody had asked to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastEnd {
    /// Why.
    pub cause: String,
    /// When.
    pub time: jiff::Timestamp,
    /// Which instance.
    pub generation: u64,
}

/// A change of a daemon that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was asked for: `install`, `rollback`, `isolate` and so on.
    pub change: String,
    /// Why it was refused, for a person.
    pub reason: String,
    /// When.
    pub time: jiff::Timestamp,
}

/// The request of `rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The daemon.
    pub name: String,
    /// The content hash to go to, or the first characters of it; absent means the next older one.
    #[serde(default)]
    pub to: Option<String>,
    /// Start without the state of the one that runs.
    #[serde(default)]
    pub fresh: bool,
}

/// One stored version of a daemon's file, as `rollback --list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Content hash, in hex.
    pub hash: String,
    /// The plugin's version; empty where the stored file can't be read.
    pub version: String,
    /// `newer`, `runs` or `older`.
    pub place: String,
    /// Why it can't run, for a person; empty where nothing is known against it.
    #[serde(default)]
    pub fault: String,
}

/// The answer to `install`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Installed {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Its Common TCP port; absent when no host runs, since it is chosen at the first start.
    pub port: Option<u16>,
    /// Content hash, in hex.
    pub hash: String,
    /// From the request to the daemon's first answer, in milliseconds; absent when no host runs.
    pub ms: Option<u64>,
    /// The generation that answers now; 0 when no host runs, or the file waits.
    pub generation: u64,
    /// The length of the state that was handed over, in bytes.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// What changed in its commands since the file of before; nothing at a first install.
    #[serde(default)]
    pub changes: CommandChanges,
    /// What the state is called that was set aside, where it was started without it or from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
    /// When a daemon of the name left the state that is kept, where this one was installed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_state: Option<jiff::Timestamp>,
    /// Its owner has stopped the daemon: the file is taken, and runs from the next start on.
    #[serde(default)]
    pub waits: bool,
}

/// What changed in a daemon's commands, each as people write it: `add(a: number, b: number)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandChanges {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that are not there any more.
    pub removed: Vec<String>,
    /// Those that take other arguments now, and what they took before.
    pub changed: Vec<String>,
}

impl CommandChanges {
    /// Whether guests notice nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// `added a(), b(); removed c()`; nothing where nothing changed.
impl fmt::Display for CommandChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &self.changed),
        ];
        let told = parts.iter().filter(|(_, which)| !which.is_empty());
        let told: Vec<String> = told
            .map(|(what, which)| format!("{what} {}", which.join(", ")))
            .collect();
        f.write_str(&told.join("; "))
    }
}

/// The request of `install`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InstallRequest {
    /// The name to run under; absent means the plugin's own.
    #[serde(default)]
    pub name: Option<String>,
    /// The compiled plugin, an absolute path.
    pub file: std::path::PathBuf,
    /// A port to pin; absent means one chosen by the system and then kept.
    #[serde(default)]
    pub port: Option<u16>,
    /// The JSON object that the daemon's `start` is given.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    /// Replace a daemon of that name, if there is one.
    #[serde(default)]
    pub replace: bool,
    /// Where its code runs; absent means as before, or as the config says.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// How it is run, over what the config says; absent means as before.
    #[serde(default)]
    pub settings: Option<serde_json::Value>,
    /// Start without the state of before.
    #[serde(default)]
    pub fresh: bool,
    /// Start from a state that is kept of a daemon of the name: `last`, or what `state --history` calls it.
    #[serde(default)]
    pub state: Option<String>,
    /// Even where this content is quarantined.
    #[serde(default)]
    pub force: bool,
    /// The file lies in the drop-in directory: it is uninstalled when the file goes.
    #[serde(default)]
    pub drop_in: bool,
}

/// The request of `uninstall`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UninstallRequest {
    /// The daemon's name.
    pub name: String,
    /// Remove its state and log at once, and what is kept of earlier ones.
    #[serde(default)]
    pub purge: bool,
}

/// The answer to `uninstall`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uninstalled {
    /// The daemon's name.
    pub name: String,
    /// The length of the state that is kept, in bytes; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// Until when state and log are kept; absent where they were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<jiff::Timestamp>,
    /// Where the file of a drop-in was moved, so that it doesn't run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<std::path::PathBuf>,
    /// What else is to be known, for a person; empty where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Uninstalled {
    /// Of a daemon of which nothing is kept.
    pub fn purged(name: &str) -> Self {
        Uninstalled {
            name: name.to_owned(),
            state_bytes: None,
            kept_until: None,
            moved_to: None,
            note: String::new(),
        }
    }
}

/// `Counter is uninstalled; its state (32 B) and log are kept until 2026-12-06 (...)`: one line, with the way back.
impl fmt::Display for Uninstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(f, "{name} is uninstalled")?;
        match (self.kept_until, self.state_bytes) {
            (None, _) => write!(f, "; nothing of it is kept")?,
            (Some(until), None) => {
                write!(f, "; its log is kept until {}", until.strftime("%Y-%m-%d"))?;
            }
            (Some(until), Some(bytes)) => write!(
                f,
                "; its state ({bytes} B) and log are kept until {} (`dae-host install {name} FILE --state last` starts from it, `dae-host state {name} --history` shows it)",
                until.strftime("%Y-%m-%d")
            )?,
        }
        if let Some(moved_to) = &self.moved_to {
            write!(
                f,
                "; its file was moved aside to {}, since it would run again",
                moved_to.display()
            )?;
        }
        match self.note.as_str() {
            "" => Ok(()),
            note => write!(f, "; {note}"),
        }
    }
}

/// The answer to `scan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// The foreign daemons there are now.
    pub daemons: Vec<Status>,
    /// Who answered `dae` with something that is no credential.
    pub refused: Vec<Refused>,
    /// Listening TCP sockets on this machine.
    pub sockets: u64,
    /// How many were asked by this scan.
    pub asked: u64,
    /// How many of this user's sockets have no process that this host can see, and were not asked.
    pub hidden: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// One that is not taken for a daemon, though it answers like one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Where it listens.
    pub port: u16,
    /// The process that does.
    pub pid: u32,
    /// What was wrong with its answer, for a person.
    pub reason: String,
}

/// The answer to `start`, `stop` and `restart`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The daemon's name.
    pub name: String,
    /// Its state now.
    pub state: String,
    /// How long the change took, in milliseconds.
    pub ms: u64,
    /// When the change takes effect, where that is not now; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}
