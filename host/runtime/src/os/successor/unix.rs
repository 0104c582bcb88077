//! The program runs in this process, by exec(2).

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Becomes the program of a command.
///
/// # Errors
/// The program can't be run; if it can, this doesn't return.
pub fn become_program(command: &mut Command) -> io::Result<ExitCode> {
    Err(command.exec())
}
