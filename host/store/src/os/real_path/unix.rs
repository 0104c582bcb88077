//! As the standard library has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn of(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}
