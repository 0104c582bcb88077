//! Events of the console: Ctrl-C, Ctrl-Break, its end, and the end of the user's session or of the system.

#![allow(unsafe_code)]

use std::io;

use tokio::runtime::{self, Runtime};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
    ctrl_logoff, ctrl_shutdown,
};
use windows_sys::Win32::Foundation::STATUS_CONTROL_C_EXIT;
use windows_sys::Win32::System::Console::{CTRL_C_EVENT, GenerateConsoleCtrlEvent};

use crate::os::library;

/// The events that end a command, as they come.
#[derive(Debug)]
pub struct Interruptions {
    events: Events,
    runtime: Runtime,
}

#[derive(Debug)]
struct Events {
    c: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
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
        let events = Events {
            c: ctrl_c()?,
            pause: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        };
        drop(entered);
        Ok(Interruptions { events, runtime })
    }

    /// Waits for the next one. `None` if there will be none.
    pub fn wait(&mut self) -> Option<Interruption> {
        let events = &mut self.events;
        self.runtime.block_on(async {
            let (come, name) = tokio::select! {
                come = events.c.recv() => (come, "Ctrl-C"),
                come = events.pause.recv() => (come, "Ctrl-Break"),
                come = events.close.recv() => (come, "the end of the console"),
                come = events.logoff.recv() => (come, "the end of the session"),
                come = events.shutdown.recv() => (come, "the end of the system"),
            };
            come.map(|()| Interruption(name))
        })
    }
}

impl Interruption {
    /// Returns its name, for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Ends the process as the event would have done.
    pub fn take_effect(self) {
        library::exit_at_once(STATUS_CONTROL_C_EXIT);
    }
}

/// Interrupts this process as Ctrl-C at its console would. The event reaches all processes of the console, as the key
/// does.
pub fn interrupt_this_process() {
    // SAFETY: the call touches no memory of this process. Without a console it fails, and there is no key either.
    unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) };
}
