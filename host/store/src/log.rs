//! The log of an ecosystem: what its daemons and the host itself have to tell, one file for each of them.
//!
//! A [`Record`] is one JSON line. Whoever has something to tell writes it to the [`Journal`], which keeps it in the
//! home, shows it to whoever started the host, and hands it to whoever follows. What was written can be read without a
//! host too ([`tail_files`]): after a crash that is when it is wanted.
//!
//! To log is never a reason to fail or to wait: a full disk or a terminal that nobody reads costs records, which are
//! counted and told, and nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod console;
mod departed;
mod file;
mod journal;
mod layer;
mod line;
mod open;
mod tail;

pub use console::Console;
pub use departed::{kept, remove};
pub use journal::Journal;
pub use layer::JournalLayer;
pub use tail::tail_files;

/// Something that a daemon or the host told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When. Written with the same number of digits each time, so that texts sort as times do.
    #[serde(serialize_with = "fixed_width")]
    pub time: Timestamp,
    /// Who: a daemon's name, or `Dae` for the host itself.
    pub daemon: String,
    /// Which instance of that daemon; absent for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The part of the program, as `tracing` has it: a path of modules.
    pub target: String,
    /// What, for people.
    pub message: String,
    /// What, for programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// The longest message, or field list, of one record that a daemon writes (bytes). It may log a lot, but not one line that
/// fills the log file.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// The longest path of modules (bytes).
pub const TARGET_BYTES_MAX: usize = 256;
/// The levels there are.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn fixed_width<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
}

impl Record {
    /// As much of it as is kept of one that another process has made.
    pub fn bounded(mut self) -> Self {
        truncate(&mut self.message, TEXT_BYTES_MAX);
        truncate(&mut self.target, TARGET_BYTES_MAX);
        if !LEVELS.contains(&self.level.as_str()) {
            "info".clone_into(&mut self.level);
        }
        let fields = serde_json::to_vec(&self.fields);
        if fields.is_ok_and(|fields| fields.len() > TEXT_BYTES_MAX) {
            self.fields.clear();
        }
        self
    }

    /// What the host tells about one of its daemons.
    #[must_use]
    pub fn about(daemon: &str, generation: Option<u64>, level: &str, message: &str) -> Self {
        Record {
            time: Timestamp::now(),
            daemon: daemon.to_owned(),
            generation,
            level: level.to_owned(),
            target: "dae_host".to_owned(),
            message: message.to_owned(),
            fields: Map::new(),
        }
    }
}

fn truncate(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_process_is_cut_to_size() {
        let mut record = Record::about("A", None, "shout", &"é".repeat(TEXT_BYTES_MAX));
        record.target = "t".repeat(1000);
        record
            .fields
            .insert("x".to_owned(), "y".repeat(TEXT_BYTES_MAX).into());
        let bounded = record.bounded();
        assert_eq!(bounded.message.len(), TEXT_BYTES_MAX);
        assert_eq!(
            (&*bounded.level, bounded.target.len()),
            ("info", TARGET_BYTES_MAX)
        );
        assert!(bounded.fields.is_empty());
    }
}
