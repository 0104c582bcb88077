//! The reason why a file can't be run: a sentence for people and a kind for programs.
//!
//! The text is a predicate ("is empty; …"). The subject is added once it is known, since the file's bytes don't contain
//! its path. Each text says what was expected, what was found, and what to do.

use std::fmt;
use std::path::Path;

/// A file that no host can run, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    kind: FileFaultKind,
    subject: Option<String>,
    predicate: String,
}

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFaultKind {
    /// The file doesn't exist.
    Missing,
    /// It is a directory, a pipe, a socket or a device.
    NotAFile,
    /// The host's user may not read it.
    NoPermission,
    /// Users other than the owner may write it or its directory, or the owner is neither the host's user nor root.
    Insecure,
    /// The disk reported an error.
    Unreadable,
    /// It is larger than any plugin.
    TooLarge,
    /// It is empty.
    Empty,
    /// It is text, an archive or a program.
    NotALibrary,
    /// It is for another processor or operating system.
    OtherPlatform,
    /// It is partly written or truncated.
    Incomplete,
    /// It changed while it was read.
    Changed,
    /// It is a shared library without a manifest.
    NotADaemon,
    /// Its manifest is invalid.
    BadManifest,
    /// Its ABI version is outside the host's range.
    Abi,
    /// Its panics can't be caught.
    PanicAbort,
}

impl FileFault {
    /// Creates a fault. `predicate` continues a sentence that begins with "the plugin".
    pub fn new(kind: FileFaultKind, predicate: impl Into<String>) -> Self {
        FileFault {
            kind,
            subject: None,
            predicate: predicate.into(),
        }
    }

    /// Creates a fault for a file that is probably still being written. `evidence` describes what is missing.
    pub(crate) fn incomplete(evidence: impl fmt::Display) -> Self {
        let text = format!("is cut off or still being written: {evidence}; build or copy it anew");
        FileFault::new(FileFaultKind::Incomplete, text)
    }

    /// Returns the fault with the file at `path` as its subject.
    pub fn at(mut self, path: &Path) -> Self {
        self.subject = Some(path.display().to_string());
        self
    }

    /// Returns the fault with the named plugin as its subject.
    pub fn of_plugin(mut self, name: &str) -> Self {
        self.subject = Some(format!("the plugin {name}"));
        self
    }

    /// Returns the kind of the fault.
    #[must_use]
    pub fn kind(&self) -> FileFaultKind {
        self.kind
    }

    /// Returns whether the fault may disappear soon because the file is still being written. A watcher then retries
    /// without logging.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        use FileFaultKind::{Changed, Empty, Incomplete};
        matches!(self.kind, Empty | Incomplete | Changed)
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.as_deref().unwrap_or("the plugin");
        write!(f, "{subject} {}", self.predicate)
    }
}

impl std::error::Error for FileFault {}
