//! A journal and records for tests.

use jiff::Timestamp;
use serde_json::Map;
use tempfile::TempDir;

use super::{Console, Journal, Record};

/// Returns a record of generation 1.
pub(crate) fn record(daemon: &str, message: &str) -> Record {
    Record {
        time: Timestamp::now(),
        daemon: daemon.to_owned(),
        generation: Some(1),
        level: "info".to_owned(),
        target: "t".to_owned(),
        message: message.to_owned(),
        fields: Map::new(),
    }
}

/// Returns a journal in a temporary directory.
pub(crate) fn journal() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Console::Off).unwrap();
    (dir, journal)
}

/// Returns the messages of records.
pub(crate) fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| &*record.message).collect()
}
