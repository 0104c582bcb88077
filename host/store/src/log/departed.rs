//! Lists the log files in a home, with their sizes and the times of their last writes, and removes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::file;
use crate::atomic_file::{self, DiskFault};
use crate::retention::KeptItem;

/// Returns the name of each log with its size and the time of its last write.
///
/// # Errors
/// The directory can't be read.
pub fn kept(logs_dir: &Path) -> Result<BTreeMap<String, KeptItem>, DiskFault> {
    let entries = match fs::read_dir(logs_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(|error| DiskFault::new(&error, "read the logs in", logs_dir))?,
    };
    let mut logs: BTreeMap<String, KeptItem> = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(daemon) = name.to_str().and_then(file::daemon_of) else {
            continue;
        };
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let written = metadata.modified().ok();
        let since = written.and_then(|time| Timestamp::try_from(time).ok());
        let log = logs.entry(daemon.to_owned()).or_insert(KeptItem {
            since: Timestamp::MIN,
            bytes: 0,
        });
        log.since = log.since.max(since.unwrap_or(Timestamp::MAX));
        log.bytes = log.bytes.saturating_add(metadata.len());
    }
    Ok(logs)
}

/// Removes a daemon's log, including rotated files. Returns whether there was one.
///
/// # Errors
/// A disk error; everything else that could be removed is removed.
pub fn remove(logs_dir: &Path, daemon: &str) -> Result<bool, DiskFault> {
    let (mut has_any, mut removed) = (false, Ok(()));
    for path in file::paths(&file::path_of(logs_dir, daemon)) {
        has_any |= path.exists();
        removed = removed.and(atomic_file::remove(&path));
    }
    removed.map(|()| has_any)
}
