//! A program in the background: without a terminal, and without the streams of the program that has started it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// The way into the background that a person of this system has instead; `None` where a program can go there itself.
pub const INSTEAD: Option<&str> = system::INSTEAD;

/// Leaves the terminal of the program that has started this one, with its signals.
///
/// # Errors
/// The system's error.
pub fn leave_terminal() -> std::io::Result<()> {
    system::leave_terminal()
}

/// Closes standard output and standard error. What is written to them from now on is dropped.
///
/// # Errors
/// The system's error.
pub fn let_go_of_output() -> std::io::Result<()> {
    system::let_go_of_output()
}
