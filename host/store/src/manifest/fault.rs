//! Why a file can't be run: one sentence about it for a person, and a kind for programs.
//!
//! The text is a predicate ("is empty; …") and the subject is put in front when it is known: the bytes of a file don't
//! know its path. Each text says what was expected, what came, and what to do.

use std::fmt;
use std::path::Path;

/// A file that no host may run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    kind: FileFaultKind,
    subject: Option<String>,
    predicate: String,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFaultKind {
    /// There is none.
    Missing,
    /// A directory, a pipe, a device.
    NotAFile,
    /// We may not read it.
    NoPermission,
    /// Others than its owner may write it or its directory, or the owner is neither we nor root.
    Insecure,
    /// The disk says no.
    Unreadable,
    /// Larger than any plugin.
    TooLarge,
    /// It has no bytes.
    Empty,
    /// Text, an archive, a program.
    NotALibrary,
    /// For another processor or operating system.
    OtherPlatform,
    /// Half-written or cut off.
    Incomplete,
    /// It changed while it was read.
    Changed,
    /// A shared library without a manifest.
    NotADaemon,
    /// The manifest is no manifest.
    BadManifest,
    /// Its ABI is older or newer than the host's range.
    Abi,
    /// Its panics can't be caught.
    PanicAbort,
}

impl FileFault {
    /// `predicate` goes on from "the plugin …".
    pub fn new(kind: FileFaultKind, predicate: impl Into<String>) -> Self {
        FileFault {
            kind,
            subject: None,
            predicate: predicate.into(),
        }
    }

    /// It has the looks of a file that someone still writes; `evidence` is what is missing.
    pub(crate) fn incomplete(evidence: impl fmt::Display) -> Self {
        let text = format!("is cut off or still being written: {evidence}; build or copy it anew");
        FileFault::new(FileFaultKind::Incomplete, text)
    }

    /// The same, of the file at `path`.
    pub fn at(mut self, path: &Path) -> Self {
        self.subject = Some(path.display().to_string());
        self
    }

    /// The same, of a plugin by its name.
    pub fn of_plugin(mut self, name: &str) -> Self {
        self.subject = Some(format!("the plugin {name}"));
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> FileFaultKind {
        self.kind
    }

    /// Whether it may be well in a moment, because somebody still writes it: a watcher tries again, quietly.
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
