//! The levels of a daemon's log, and the request and reply of `log`.

use serde::{Deserialize, Serialize};

/// The least severe level that a daemon's log keeps. Less severe records never leave a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// No record of the daemon's code.
    Off,
    /// Errors.
    Error,
    /// Warnings, and what is more severe.
    Warn,
    /// Informative records, and what is more severe.
    Info,
    /// All records.
    #[default]
    Debug,
}

impl LogLevel {
    /// All levels, the fewest records first.
    pub const ALL: [LogLevel; 5] = [
        LogLevel::Off,
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
    ];

    /// Returns the name used in output and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// The request of `log`: the level of a daemon's log until the host ends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// The daemon's name.
    pub name: String,
    /// The new level; absent to ask only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// True to return to the setting `log_level`.
    #[serde(default)]
    pub reset: bool,
}

/// The reply to `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonLogLevel {
    /// The daemon's name.
    pub name: String,
    /// The level in effect.
    pub level: LogLevel,
    /// The setting `log_level`, by which the next host decides.
    pub setting: LogLevel,
}
