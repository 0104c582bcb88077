//! The program runs as a child, since Windows replaces no program in a process. Its exit code is handed on.

use std::io;
use std::process::{Command, ExitCode};

/// Runs the program of a command, and returns its exit code. One that doesn't fit a byte is 1.
///
/// # Errors
/// The program can't be run.
pub fn become_program(command: &mut Command) -> io::Result<ExitCode> {
    let status = command.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
