//! Signals. One that this process's starter ignores stays ignored.

use std::io;

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::os::signals;

/// The signals that end a command, as they come.
#[derive(Debug)]
pub struct Interruptions(Signals);

/// A signal that has come, and has had no effect yet.
#[derive(Debug, Clone, Copy)]
pub struct Interruption(i32);

impl Interruptions {
    /// Begins to hear of the signals. From then on they do not end the process by themselves.
    ///
    /// # Errors
    /// The system's error.
    pub fn begin() -> io::Result<Self> {
        signals::ending_a_command().map(Interruptions)
    }

    /// Waits for the next one. `None` if there will be none.
    pub fn wait(&mut self) -> Option<Interruption> {
        self.0.forever().next().map(Interruption)
    }
}

impl Interruption {
    /// Returns its name, for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        low_level::signal_name(self.0).unwrap_or("a signal")
    }

    /// Returns whether it is a Ctrl-C, and not the end of the terminal or of the system.
    #[must_use]
    pub fn is_key(self) -> bool {
        self.0 == Signal::INT.as_raw()
    }

    /// Returns the exit code that a shell shows for a program that it ended.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }

    /// Ends the process as the signal would have done.
    pub fn take_effect(self) {
        let _ = low_level::emulate_default_handler(self.0);
    }
}

/// Interrupts this process as Ctrl-C at its terminal would.
pub fn interrupt_this_process() {
    // A process may always signal itself.
    let _ = kill_process(getpid(), Signal::INT);
}
