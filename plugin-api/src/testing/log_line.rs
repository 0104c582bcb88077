//! A line of a daemon's log, as a test reads it.

use std::fmt;

use serde_json::{Map, Value};
use tracing::Level;

/// A line that a daemon has logged, by `tracing::info!` and its siblings, or that the host has logged about it.
///
/// `Display` shows it as `INFO greeted {"who":"Ada"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    level: Level,
    target: String,
    message: String,
    fields: Map<String, Value>,
}

impl LogLine {
    /// Reads a record in the form that crosses the boundary.
    pub(super) fn of_record(level: u32, target: &str, message: &str, fields: &str) -> Self {
        LogLine {
            level: match level {
                1 => Level::ERROR,
                2 => Level::WARN,
                3 => Level::INFO,
                4 => Level::DEBUG,
                _ => Level::TRACE,
            },
            target: target.to_owned(),
            message: message.to_owned(),
            fields: serde_json::from_str(fields).unwrap_or_default(),
        }
    }

    /// Creates a line of the host about a daemon.
    pub(super) fn of_host(level: Level, message: String) -> Self {
        LogLine {
            level,
            target: "host".to_owned(),
            message,
            fields: Map::new(),
        }
    }

    /// Returns the level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the target: the module, unless the daemon names another. It is `host` for a line of the host.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns a field, or `None` if the line has none of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level, self.message)?;
        if !self.fields.is_empty() {
            write!(f, " {}", Value::Object(self.fields.clone()))?;
        }
        Ok(())
    }
}
