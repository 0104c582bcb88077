//! Checks who may write a file or a directory, since anyone who may decides what the host runs.
//!
//! On Unix the mode decides, with the accounts of the system and access lists; on Windows the access list alone.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(windows)]
pub(crate) use windows::are_others_allowed;
#[cfg(windows)]
pub use windows::is_own_pipe;

/// The way to reach a file or directory to read its access list.
#[derive(Debug, Clone, Copy)]
pub enum AclTarget<'a> {
    /// An open file, which nobody can replace.
    Open(&'a File),
    /// A directory by its name, since a directory that can't be listed can't be opened.
    Named(&'a Path),
}

/// The owner of a file that is not this user's, and this user, as the system writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherOwner {
    /// The user that the file belongs to.
    pub owner: String,
    /// The user that this process runs as.
    pub ours: String,
}

/// The others who may write a file. It is shown in words that follow "may be written by".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherWriters {
    who: String,
    /// The id that the system's tool takes for them, where it takes one.
    id: Option<String>,
}

impl OtherWriters {
    /// Returns what takes the right to write `path` from them, in words that follow a semicolon.
    #[must_use]
    pub fn remedy(&self, path: &Path) -> String {
        system::remedy(path, self.id.as_deref())
    }
}

impl fmt::Display for OtherWriters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

/// Returns the owner of a file or directory if it is neither this user nor, with `may_be_root`, the system's
/// administrator. On Windows, Windows itself and the administrators always count as this user: a file that an elevated
/// process has made belongs to the administrators.
///
/// # Errors
/// A system error.
pub fn other_owner(
    metadata: &Metadata,
    place: AclTarget<'_>,
    may_be_root: bool,
) -> io::Result<Option<OtherOwner>> {
    system::other_owner(metadata, place, may_be_root)
}

/// Returns who other than the owner may write a file or directory; `None` if only the owner may.
#[must_use]
pub fn others_who_write(metadata: &Metadata, place: AclTarget<'_>) -> Option<OtherWriters> {
    system::others_who_write(metadata, place)
}

/// Returns whether users can't rename or remove each other's files in this directory, although they may add files.
#[must_use]
pub fn is_sticky(metadata: &Metadata, place: AclTarget<'_>) -> bool {
    system::is_sticky(metadata, place)
}
