//! The content hash of a plugin's file, as the host records it.

use std::fs::File;
use std::io;
use std::path::Path;

/// Returns the hash in hex.
///
/// # Errors
/// The file can't be read, or is no regular file.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    // A device or a pipe may have no end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
