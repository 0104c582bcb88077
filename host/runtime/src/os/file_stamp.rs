//! The facts about a file that differ after a change, without reading it, and the events of such a change.

use std::fs::Metadata;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// True if the system reports when a writer has closed a file. Then the writes before that are no news.
pub const REPORTS_CLOSING: bool = cfg!(target_os = "linux");

/// The facts about a file that differ after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    bytes: u64,
    facts: system::Facts,
}

impl FileStamp {
    /// Returns the stamp of the file with this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        FileStamp {
            bytes: metadata.len(),
            facts: system::Facts::of(metadata),
        }
    }

    /// Returns the file's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
