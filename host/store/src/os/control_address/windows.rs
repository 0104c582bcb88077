//! The control socket on Windows is a named pipe.
//!
//! Pipes have one flat namespace, so the name is made from the home's path. Paths that differ only in case or in a
//! trailing separator lead to the same directory and have the same name here. Other ways to the same directory (a
//! junction, a `subst` drive, a short 8.3 name) have another one: the host is then only found by the path that it was
//! started with.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The number of hex digits of the hash in a name: 128 bits, so that no two homes share a name.
const HASH_CHARS: usize = 32;

/// A name needs nothing to stay open.
pub(super) type Directory = ();

/// Returns the name of the pipe of a home whose data directory has this absolute path.
pub(crate) fn of_home(data: &Path, _runtime: &Path) -> PathBuf {
    // Collected again, a path has no trailing separator.
    let data: PathBuf = data.components().collect();
    let hash = blake3::hash(data.to_string_lossy().to_lowercase().as_bytes());
    PathBuf::from(format!(r"\\.\pipe\dae-{}", &hash.to_hex()[..HASH_CHARS]))
}

/// Returns the name unchanged: all have the same length.
pub(super) fn short(path: PathBuf) -> io::Result<(PathBuf, Directory)> {
    Ok((path, ()))
}
