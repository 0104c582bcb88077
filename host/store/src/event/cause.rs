//! The words for programs beside the texts of events: the kind of a cause, and a changed value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::difference::Difference;
use crate::report::EndKind;

/// The kind of an event's cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
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
    /// It could not be started.
    StartFailed,
    /// It answers no health check.
    Unanswered,
    /// A command holds a thread of the host, and can't be ended.
    HeldThread,
    /// Its code could not save its state.
    SaveFailed,
    /// The disk refused something.
    Disk,
    /// The host has a fault.
    HostFault,
    /// A kind of a later version, or a cause that an earlier version has told.
    #[default]
    #[serde(other)]
    Unknown,
}

impl From<EndKind> for CauseKind {
    fn from(kind: EndKind) -> Self {
        match kind {
            EndKind::Returned => CauseKind::Returned,
            EndKind::RunFailed => CauseKind::RunFailed,
            EndKind::Panicked => CauseKind::Panicked,
            EndKind::ProcessEnded => CauseKind::ProcessEnded,
            EndKind::Killed => CauseKind::Killed,
            EndKind::StartFailed => CauseKind::StartFailed,
            EndKind::Unknown => CauseKind::Unknown,
        }
    }
}

/// A changed value of a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenChange")]
pub struct ChangedSetting {
    /// The path of the value, as `config NAME set` takes it: `restart.burst_max`, `config.every_ms`, `port`, `mode` ….
    pub setting: String,
    /// The value before; `None` if there was none, or if it is hidden.
    pub before: Option<Value>,
    /// The value now; `None` if there is none, or if it is hidden.
    pub after: Option<Value>,
    /// True if the values are not kept, since they may hold secrets.
    pub hidden: bool,
    /// True if the change lasts until the host ends.
    pub temporary: bool,
}

/// A changed value as it stands in a file. Earlier versions wrote a sentence.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenChange {
    Sentence(String),
    Members {
        setting: String,
        #[serde(default)]
        before: Option<Value>,
        #[serde(default)]
        after: Option<Value>,
        #[serde(default)]
        hidden: bool,
        #[serde(default)]
        temporary: bool,
    },
}

/// The end of the sentence of a change that lasts until the host ends.
const TEMPORARY: &str = " (until the host ends)";

impl From<WrittenChange> for ChangedSetting {
    fn from(written: WrittenChange) -> Self {
        match written {
            WrittenChange::Sentence(text) => ChangedSetting::of_sentence(&text),
            WrittenChange::Members {
                setting,
                before,
                after,
                hidden,
                temporary,
            } => ChangedSetting {
                setting,
                before,
                after,
                hidden,
                temporary,
            },
        }
    }
}

/// The prefix of paths of settings in a [`Difference`].
const OF_SETTINGS: &str = "settings.";

impl ChangedSetting {
    /// Returns a change whose values are kept.
    #[must_use]
    pub fn of(found: &Difference) -> Self {
        ChangedSetting {
            setting: short_path(&found.path),
            before: found.before.clone(),
            after: found.now.clone(),
            hidden: false,
            temporary: false,
        }
    }

    /// Returns a change of which only the name is kept.
    #[must_use]
    pub fn hidden(path: &str) -> Self {
        ChangedSetting {
            setting: short_path(path),
            before: None,
            after: None,
            hidden: true,
            temporary: false,
        }
    }

    /// Reads the sentence of an earlier version: `settings.restart.burst_max: 5 → 9`. One without values named what it hid.
    fn of_sentence(text: &str) -> Self {
        let plain = text.strip_suffix(TEMPORARY).unwrap_or(text);
        let Some((path, values)) = plain.split_once(": ") else {
            return ChangedSetting::hidden(plain);
        };
        let value = |text: &str| match text {
            "-" => None,
            text => Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))),
        };
        let (before, after) = values.split_once(" → ").unwrap_or(("-", values));
        ChangedSetting {
            setting: short_path(&path.replace("log level", "log_level")),
            before: value(before),
            after: value(after),
            hidden: false,
            temporary: plain.len() < text.len(),
        }
    }
}

fn short_path(path: &str) -> String {
    path.strip_prefix(OF_SETTINGS).unwrap_or(path).to_owned()
}

/// Formats as `restart.burst_max: 5 → 9`, or the name alone.
impl std::fmt::Display for ChangedSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.hidden {
            return f.write_str(&self.setting);
        }
        let change = Difference {
            path: self.setting.clone(),
            before: self.before.clone(),
            now: self.after.clone(),
        };
        let until = if self.temporary { TEMPORARY } else { "" };
        write!(f, "{change}{until}")
    }
}
