//! The content hash of a plugin's file, as the host records it.

use std::io;
use std::path::Path;

use dae_store::atomic_file;

/// Returns the hash in hex.
///
/// # Errors
/// The file can't be read, or is no regular file.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(atomic_file::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
