//! The log of an ecosystem: one log file for each daemon and one for the host itself.
//!
//! A [`Record`] is one JSON line. A producer writes it to the [`Journal`], which appends it to a file in the home,
//! shows it on the host's console and passes it to all followers. The files can be read without a host too
//! ([`read_files`]), which is needed most after a crash.
//!
//! Logging never fails and never blocks: if the disk is full or nobody reads the terminal, records are dropped, counted
//! and reported.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod console;
mod departed;
pub(crate) mod file;
mod journal;
mod journald;
mod layer;
mod limit;
mod line;
mod open;
mod query;
#[cfg(test)]
pub(crate) mod sample;
mod tail;

pub use console::Console;
pub use departed::{kept, remove};
pub(crate) use file::{LogFile, paths};
pub use journal::Journal;
pub use layer::JournalLayer;
pub use limit::LogLimit;
pub use query::{LogQuery, Pattern};
pub(crate) use tail::each_line_from_last;
pub use tail::{read_files, tail_files};

/// A log record of a daemon or of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The time of the record. It is always written with the same number of digits, so that texts sort in time order.
    #[serde(serialize_with = "fixed_width")]
    pub time: Timestamp,
    /// The daemon's name, or `Dae` for the host itself.
    pub daemon: String,
    /// The generation of that daemon's instance; absent for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The module path that `tracing` reports.
    pub target: String,
    /// The message, for people.
    pub message: String,
    /// The structured fields, for programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// The longest message, or list of fields, of one record that a daemon writes (bytes). It keeps a single line from
/// filling the log file.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// The longest module path (bytes).
pub const TARGET_BYTES_MAX: usize = 256;
/// The target of the records in which the host reports about its daemons.
const TARGET_OF_HOST: &str = "dae_host";
/// The valid levels, the most severe first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn fixed_width<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
}

impl Record {
    /// Returns the record with its parts cut to the limits. For records from another process.
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

    /// Creates a record in which the host reports about one of its daemons.
    #[must_use]
    pub fn about(daemon: &str, generation: Option<u64>, level: &str, message: &str) -> Self {
        Record {
            time: Timestamp::now(),
            daemon: daemon.to_owned(),
            generation,
            level: level.to_owned(),
            target: TARGET_OF_HOST.to_owned(),
            message: message.to_owned(),
            fields: Map::new(),
        }
    }
}

fn truncate(text: &mut String, bytes: usize) {
    text.truncate(shortened(text, bytes).len());
}

/// Returns the start of a text, at most so many bytes.
pub fn shortened(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Returns the level of that number: 1 is the most severe, and every unknown number the least.
pub fn level(number: u32) -> &'static str {
    let [most_severe @ .., least] = LEVELS;
    let place = usize::try_from(number).unwrap_or(usize::MAX);
    let named = place
        .checked_sub(1)
        .and_then(|place| most_severe.get(place));
    named.copied().unwrap_or(least)
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
