//! The types of the host's replies: of all replies on the control socket and of every `--json` output.
//!
//! They are plain data with stable keys, so that the command line, an embedding program and a script read the same
//! data. A key is never renamed or reused; new keys may be added. Each has the same members in every answer, with `null`
//! for what there isn't; see [`json_form`].

mod config_reload;
mod kinds;
mod log_level;
mod resources;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::difference::Difference;
use crate::json_form::{self, text_or_null};
use crate::ranged;

pub use config_reload::{ConfigReloaded, TakenUp};
pub use kinds::{EndKind, SourceKind};
pub use log_level::{DaemonLogLevel, LogLevel, LogLevelRequest};
pub use resources::{LoadedLibraries, ReserveStatus, Retired};

/// The identity of the host that answers, which a command line checks before it sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The home's identity.
    pub home: String,
    /// The home's path when the host took the home.
    pub path: PathBuf,
    /// The host's process id.
    pub pid: u32,
    /// The host's version.
    pub version: String,
}

/// The process in which a daemon's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The host's own process: a call takes nanoseconds.
    #[default]
    InProcess,
    /// A subprocess: a crash affects no other daemon.
    Subprocess,
}

impl Mode {
    /// Returns the name used in output and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::InProcess => "in-process",
            Mode::Subprocess => "subprocess",
        }
    }
}

/// A daemon's credential: the reply to `dae`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The name it runs under, unique in its ecosystem.
    pub name: String,
    /// The id of the process in which its code runs.
    pub pid: u32,
    /// The Common TCP port on the loopback address.
    pub port: u16,
    /// The plugin's own name, if the daemon runs under another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The process in which its code runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The number of this instance, counted since the host started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The time for which the instance has run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// True if this host did not load the daemon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// The address of this machine at which it listens, if that isn't 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The host that runs it, for a daemon of another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The bridge of this host that provides it, for a daemon of another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// True if the daemons of this name on several hosts stand for each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// A daemon's status, as shown by `list` and `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    #[serde(default, with = "text_or_null")]
    pub plugin: String,
    /// The plugin's version.
    #[serde(default, with = "text_or_null")]
    pub version: String,
    /// The process in which its code runs; absent if unknown.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// True if the daemon isn't run by this host.
    #[serde(default)]
    pub foreign: bool,
    /// The state: `starting`, `ready`, `stopped`, `failed` …; `foreign` for a daemon of this machine that this host doesn't run;
    /// `remote` for one of another host; `impostor` if its credential doesn't match its process.
    pub state: String,
    /// The reason for the state, for a person; empty if the state needs no explanation.
    #[serde(default, with = "text_or_null")]
    pub reason: String,
    /// The id of the process in which its code runs; absent while nothing runs.
    pub pid: Option<u32>,
    /// The Common TCP port; absent while the daemon is stopped.
    pub port: Option<u16>,
    /// The port that a stopped daemon will have again; absent while the daemon has a port.
    #[serde(default)]
    pub kept_port: Option<u16>,
    /// The address of this machine at which it listens, if that isn't 127.0.0.1.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The host that runs it, for a daemon of another host.
    #[serde(default)]
    pub host: Option<String>,
    /// The bridge of this host that provides it, for a daemon of another host.
    #[serde(default)]
    pub provider: Option<String>,
    /// The longest time for which a guest may wait for a reply, in milliseconds; absent if a command may run forever,
    /// and for a foreign daemon.
    #[serde(default)]
    pub answer_ms: Option<u64>,
    /// The number of the instance, counted since the host started.
    pub generation: u64,
    /// The time for which the current instance has run, in milliseconds; absent while nothing runs.
    pub uptime_ms: Option<u64>,
    /// The number of restarts since the host started.
    pub restarts: u64,
    /// The number of commands answered since the host started.
    pub calls: u64,
    /// The number of commands answered with `error`.
    pub errors: u64,
    /// The number of connected guests.
    pub guests: u64,
    /// The content hash of the running code, in hex.
    #[serde(default, with = "text_or_null")]
    pub hash: String,
    /// The file it was installed from.
    pub source: Option<String>,
    /// A note about the source file: `gone: uninstalled in 8 s` if a drop-in's file is missing; `newer: quarantined`,
    /// `newer: rolled back` or `newer: refused` if other code than the newest file runs; otherwise empty.
    #[serde(default, with = "text_or_null")]
    pub source_note: String,
    /// The kind of `source_note`.
    #[serde(default)]
    pub source_kind: Option<SourceKind>,
    /// A note about the start: a cycle in the start order, or other daemons that weren't ready; otherwise empty.
    #[serde(default, with = "text_or_null")]
    pub start_note: String,
    /// The last refused change; absent once a later change is accepted.
    #[serde(default)]
    pub last_refusal: Option<Refusal>,
    /// The last end of an instance that nobody requested.
    #[serde(default)]
    pub last_end: Option<LastEnd>,
    /// The restarts in the policy's window at the last end: `3 of 5 in 30 s`; empty before the first end.
    #[serde(default, with = "text_or_null")]
    pub recent: String,
    /// The origin of the current instance's state; empty if the daemon hands none over.
    #[serde(default, with = "text_or_null")]
    pub state_from: String,
    /// The content hashes of quarantined code, with the reasons. Installing one again requires `--force`.
    #[serde(default)]
    pub quarantined: std::collections::BTreeMap<String, String>,
    /// The remains of earlier instances in the host's process; absent if there are none.
    #[serde(default)]
    pub retired: Option<Retired>,
    /// The plugins loaded by the host's process. Only in Dae's own status.
    #[serde(default, alias = "images")]
    pub libraries: Option<LoadedLibraries>,
    /// The worker processes that wait for the next start. Only in Dae's own status.
    #[serde(default)]
    pub reserve: Option<ReserveStatus>,
}

/// The end of an instance that nobody requested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastEnd {
    /// The kind of the end.
    #[serde(default)]
    pub kind: EndKind,
    /// The cause of the end, for a person.
    pub cause: String,
    /// The time of the end.
    #[serde(serialize_with = "json_form::time")]
    pub time: jiff::Timestamp,
    /// The generation of the instance.
    pub generation: u64,
}

/// A refused change of a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The requested change: `install`, `rollback`, `isolate` and so on.
    pub change: String,
    /// The reason for the refusal, for a person.
    pub reason: String,
    /// The time of the refusal.
    #[serde(serialize_with = "json_form::time")]
    pub time: jiff::Timestamp,
}

/// The request of `rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The daemon.
    pub name: String,
    /// The content hash to switch to, or its first characters; absent for the next older one.
    #[serde(default)]
    pub to: Option<String>,
    /// True to start without the state of the running instance.
    #[serde(default)]
    pub fresh: bool,
    /// Whether to refuse what breaks a caller; absent to leave it to the daemon's setting `strict`.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// The request of `reload`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// The daemon.
    pub name: String,
    /// True to start without the state of the running instance.
    #[serde(default)]
    pub fresh: bool,
    /// Whether to refuse what breaks a caller; absent to leave it to the daemon's setting `strict`.
    #[serde(default)]
    pub strict: Option<bool>,
}

/// A stored version of a daemon's file, as shown by `rollback --list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The content hash, in hex.
    pub hash: String,
    /// The plugin's version; empty if the stored file can't be read.
    #[serde(default, with = "text_or_null")]
    pub version: String,
    /// The position: `newer`, `runs` or `older`.
    pub place: String,
    /// The reason why it can't run, for a person; empty if none is known.
    #[serde(default, with = "text_or_null")]
    pub fault: String,
}

/// The reply to `install`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Installed {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// The Common TCP port; absent if no host runs, since the first start chooses it.
    pub port: Option<u16>,
    /// The content hash, in hex.
    pub hash: String,
    /// The time from the request to the daemon's first reply, in milliseconds; absent if no host runs.
    pub ms: Option<u64>,
    /// The generation that now answers; 0 if no host runs or the file waits for a start.
    pub generation: u64,
    /// The length of the state that was handed over, in bytes.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// The changes of its commands since the previous file; empty at a first installation.
    #[serde(default)]
    pub changes: CommandChanges,
    /// The id of the state that was set aside, if the daemon started without it or from another one.
    #[serde(default)]
    pub set_aside: Option<String>,
    /// The time at which an earlier daemon of this name left a state that is still kept, if this one was installed
    /// without it.
    #[serde(default, serialize_with = "json_form::time_or_null")]
    pub earlier_state: Option<jiff::Timestamp>,
    /// True if the file waits for the next start, because the owner has stopped the daemon.
    #[serde(default)]
    pub waits: bool,
}

/// The changes of a daemon's commands. In the first three lists each command is written as a call: `add(a: number, b:
/// number)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandChanges {
    /// The new commands.
    pub added: Vec<String>,
    /// The removed commands.
    pub removed: Vec<String>,
    /// The commands that now take other arguments, with their earlier arguments.
    pub changed: Vec<String>,
    /// All changes for callers in words: `add: b became required`, `greet: result was string, is object`.
    #[serde(default)]
    pub callers: Vec<String>,
    /// Those of `callers` that break a caller.
    #[serde(default)]
    pub breaks: Vec<String>,
}

impl CommandChanges {
    /// Returns whether guests notice no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let lists = [&self.added, &self.removed, &self.changed, &self.callers];
        lists.iter().all(|list| list.is_empty())
    }

    /// Formats the lists of an older host, which writes no sentences.
    fn fmt_lists(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &self.changed),
        ];
        let changed = parts.iter().filter(|(_, which)| !which.is_empty());
        let changed: Vec<String> = changed
            .map(|(what, which)| format!("{what} {}", which.join(", ")))
            .collect();
        f.write_str(&changed.join("; "))
    }
}

/// Formats as `added a(); add: b became required (breaks callers)`; empty if nothing changed.
impl fmt::Display for CommandChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.callers.is_empty() {
            return self.fmt_lists(f);
        }
        let breaks: HashSet<&String> = self.breaks.iter().collect();
        for (at, sentence) in self.callers.iter().enumerate() {
            let between = if at > 0 { "; " } else { "" };
            let mark = match breaks.contains(sentence) {
                true => " (breaks callers)",
                false => "",
            };
            write!(f, "{between}{sentence}{mark}")?;
        }
        Ok(())
    }
}

/// The request of `install`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InstallRequest {
    /// The name to run under; absent for the plugin's own name.
    #[serde(default)]
    pub name: Option<String>,
    /// The absolute path of the compiled plugin.
    pub file: std::path::PathBuf,
    /// The port to pin; absent for one that the system chooses once.
    #[serde(default, deserialize_with = "ranged::port_or_null")]
    pub port: Option<u16>,
    /// The JSON object passed to the daemon's `start`.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    /// True to replace an existing daemon of that name.
    #[serde(default)]
    pub replace: bool,
    /// The process in which its code runs; absent for the present setting or the config's.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The settings that override the config; absent for the present ones.
    #[serde(default)]
    pub settings: Option<serde_json::Value>,
    /// True to start without the previous state.
    #[serde(default)]
    pub fresh: bool,
    /// The kept state to start from: `last`, or an id from `state --history`.
    #[serde(default)]
    pub state: Option<String>,
    /// True to install the code even if it is quarantined.
    #[serde(default)]
    pub force: bool,
    /// True if the file lies in the drop-in directory, so that the daemon is uninstalled when the file is removed.
    #[serde(default)]
    pub drop_in: bool,
    /// Whether to refuse what breaks a caller; absent to leave it to the daemon's setting `strict`.
    #[serde(default)]
    pub strict: Option<bool>,
    /// The file of the `apply` that asks for the install; absent for any other install. It is kept for a new daemon.
    #[serde(default)]
    pub applied_from: Option<std::path::PathBuf>,
}

/// The request of `uninstall`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UninstallRequest {
    /// The daemon's name.
    pub name: String,
    /// True to remove its state and log at once, including kept earlier ones.
    #[serde(default)]
    pub purge: bool,
}

/// The request of `import_state`: a state from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImportRequest {
    /// The daemon's name.
    pub name: String,
    /// The state, as `state` prints it: `{"version": …, "data": …}`.
    pub state: Box<serde_json::value::RawValue>,
}

/// The request of `configure`: a change of the values that a daemon runs with. Absent ones stay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigureRequest {
    /// The daemon's name.
    pub name: String,
    /// The JSON object passed to the daemon's `start`.
    pub config: Option<serde_json::Value>,
    /// The settings that override those of config.json5.
    pub settings: Option<serde_json::Value>,
    /// The port to pin.
    #[serde(deserialize_with = "ranged::port_or_null")]
    pub port: Option<u16>,
    /// True to pin no port: the daemon keeps its present one, and gets another if that is taken.
    pub unpin: bool,
    /// The process in which its code runs.
    pub mode: Option<Mode>,
    /// Single values, which are put into the present ones in this order.
    pub values: Vec<ValueChange>,
    /// True to change nothing, and to answer what would change.
    pub dry_run: bool,
}

/// A value that is set or removed, wherever the others are by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueChange {
    /// The path of a setting, such as `restart.burst_max`, or `config.` and the path in the daemon's own config.
    pub path: String,
    /// The value; absent to remove it.
    #[serde(default)]
    pub value: Option<serde_json::Value>,
}

/// The way in which a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakesEffect {
    /// There is nothing to change.
    Unchanged,
    /// A new instance takes over; connections stay.
    Reload,
    /// The daemon is stopped and started; connections are closed.
    Restart,
    /// The daemon is stopped, and has the values from its next start on.
    NextStart,
}

/// The reply to `configure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    /// The daemon's name.
    pub name: String,
    /// The changed values.
    pub changed: Vec<Difference>,
    /// The way in which the change takes effect.
    pub takes_effect: TakesEffect,
    /// True if nothing was changed, since the request asked only what would.
    pub dry_run: bool,
    /// The duration of the change, in milliseconds.
    pub ms: u64,
}

/// The reply to `uninstall`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Uninstalled {
    /// The daemon's name.
    pub name: String,
    /// The length of the kept state, in bytes; absent if there is none.
    #[serde(default)]
    pub state_bytes: Option<u64>,
    /// The time until which state and log are kept; absent if they were removed.
    #[serde(default, serialize_with = "json_form::time_or_null")]
    pub kept_until: Option<jiff::Timestamp>,
    /// The path to which a drop-in's file was moved, so that it doesn't run again.
    #[serde(default)]
    pub moved_to: Option<std::path::PathBuf>,
    /// Further information for a person; empty if there is none.
    #[serde(default, with = "text_or_null")]
    pub note: String,
}

impl Uninstalled {
    /// Creates the reply for a daemon of which nothing is kept.
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

/// Formats as one line that names the way back: `Counter is uninstalled; its state (32 B) and log are kept until
/// 2026-12-06`.
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
                "; its state ({bytes} B) and log are kept until {}",
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

/// The reply to `scan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// The foreign daemons found now.
    pub daemons: Vec<Status>,
    /// The listeners that answered `dae` with an invalid credential.
    pub refused: Vec<Refused>,
    /// The number of listening TCP sockets on this machine.
    pub sockets: u64,
    /// The number of sockets queried by this scan.
    pub asked: u64,
    /// The number of this user's sockets whose process this host can't see. They were not queried.
    pub hidden: u64,
    /// The duration of the scan, in milliseconds.
    pub ms: u64,
}

/// A listener that answers like a daemon but is not accepted as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The port at which it listens.
    pub port: u16,
    /// The id of its process.
    pub pid: u32,
    /// The error in its answer, for a person.
    pub reason: String,
}

/// The reply to `start`, `stop` and `restart`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The daemon's name.
    pub name: String,
    /// The daemon's new state.
    pub state: String,
    /// The duration of the change, in milliseconds.
    pub ms: u64,
    /// The time at which the change takes effect, if that is not now; otherwise empty.
    #[serde(default, with = "text_or_null")]
    pub note: String,
}
