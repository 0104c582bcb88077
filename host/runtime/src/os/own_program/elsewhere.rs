//! The path that the system names.

use std::io;
use std::path::PathBuf;

pub(super) fn path() -> io::Result<PathBuf> {
    std::env::current_exe()
}
