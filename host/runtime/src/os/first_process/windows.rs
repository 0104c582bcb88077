//! Nothing: Windows keeps no process that has ended for its parent, and gives an orphan no new one.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Returns false: see the file's head.
#[must_use]
pub fn is_first() -> bool {
    false
}

/// Fails, since no process is the first.
///
/// # Errors
/// Always.
pub fn run() -> Result<ExitCode> {
    bail!("this system has no first process");
}
