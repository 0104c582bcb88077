//! Events of the console: Ctrl-C, Ctrl-Break, its end, and the end of the user's session or of the system.

use std::io;

use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;
use windows_sys::Win32::Foundation::STATUS_CONTROL_C_EXIT;

use crate::os::library;
use crate::os::signals::ConsoleEvents;

/// The name of the event of that key.
const CTRL_C: &str = "Ctrl-C";

/// An interruption that this process has asked for by itself.
static OWN: Notify = Notify::const_new();

/// The events that end a command, as they come.
#[derive(Debug)]
pub struct Interruptions {
    events: ConsoleEvents,
    runtime: Runtime,
}

/// An event that has come, and has had no effect yet.
#[derive(Debug, Clone, Copy)]
pub struct Interruption(&'static str);

impl Interruptions {
    /// Begins to hear of the events. From then on they do not end the process by themselves.
    ///
    /// # Errors
    /// The system's error.
    pub fn begin() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let events = ConsoleEvents::listen()?;
        drop(entered);
        Ok(Interruptions { events, runtime })
    }

    /// Waits for the next one. `None` if there will be none.
    pub fn wait(&mut self) -> Option<Interruption> {
        let events = &mut self.events;
        let name = self.runtime.block_on(async {
            tokio::select! {
                name = events.next() => name,
                () = OWN.notified() => Some(CTRL_C),
            }
        });
        name.map(Interruption)
    }
}

impl Interruption {
    /// Returns its name, for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Returns whether it is a Ctrl-C, and not the end of the console or of the system.
    #[must_use]
    pub fn is_key(self) -> bool {
        self.0 == CTRL_C
    }

    /// Returns the exit code by which a program says that it was interrupted, as on other systems.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        130
    }

    /// Ends the process as the event would have done.
    pub fn take_effect(self) {
        library::exit_at_once(STATUS_CONTROL_C_EXIT);
    }
}

/// Interrupts this process as Ctrl-C at its console would. The event itself would reach all processes of the console, such
/// as the script that has started this one.
pub fn interrupt_this_process() {
    OWN.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_interrupts_itself_alone() {
        let mut interruptions = Interruptions::begin().unwrap();
        interrupt_this_process();
        assert_eq!(interruptions.wait().map(Interruption::name), Some("Ctrl-C"));
    }
}
