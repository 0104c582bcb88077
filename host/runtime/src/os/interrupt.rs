//! The signals that end a command of the command line, such as Ctrl-C, and their effect.
//!
//! A command can hear of such a signal first, say something, and then let it have its effect. On Windows they are the
//! events of a console.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Interruption, Interruptions, interrupt_this_process};
#[cfg(windows)]
pub use windows::{Interruption, Interruptions, interrupt_this_process};
