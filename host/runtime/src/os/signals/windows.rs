//! Console events. A process inherits no mask of them that it would have to clean.

#![allow(unsafe_code)]

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
    ctrl_logoff, ctrl_shutdown,
};
use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{GetCurrentProcessId, SetProcessShutdownParameters};

/// The order in which Windows ends processes at the end of a session: higher ones first, 0x280 unless a process sets
/// another. The lowest that an application may take.
const SHUTDOWN_LAST: u32 = 0x100;

/// The session in which services run, and no user.
const SERVICES: u32 = 0;

/// Lets a crash end the process at once, with no window that asks what to do: nobody sees the windows of a worker.
pub(crate) fn start_clean() {
    // SAFETY: the call touches no memory of this process.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}

/// Has Windows end this process after its host at the end of a session. A worker has a console of its own, so no other
/// event of its host's console reaches it.
pub(crate) fn leave_end_to_host() {
    // SAFETY: the call touches no memory of this process. If it is refused, the order is unknown.
    unsafe { SetProcessShutdownParameters(SHUTDOWN_LAST, 0) };
}

/// Does nothing: see the file's head.
pub fn start_clean_holding_back() {}

/// Does nothing: see the file's head.
pub fn let_through() {}

/// Does nothing: every process may learn how those end that it has started.
pub(crate) fn see_subprocesses() {}

/// The events that end a program, as they come.
#[derive(Debug)]
pub(in crate::os) struct ConsoleEvents {
    c: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    /// None for a service: it hears of the end of each user's session, and ends with none of them.
    logoff: Option<CtrlLogoff>,
    shutdown: CtrlShutdown,
}

impl ConsoleEvents {
    /// Starts to take events. Call it on a runtime.
    pub(in crate::os) fn listen() -> io::Result<Self> {
        Ok(ConsoleEvents {
            c: ctrl_c()?,
            pause: ctrl_break()?,
            close: ctrl_close()?,
            logoff: (!is_service()).then(ctrl_logoff).transpose()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the next event and returns its name. `None` if there will be none.
    pub(in crate::os) async fn next(&mut self) -> Option<&'static str> {
        let logoff = async {
            match &mut self.logoff {
                Some(logoff) => logoff.recv().await,
                None => std::future::pending().await,
            }
        };
        let (come, name) = tokio::select! {
            come = self.c.recv() => (come, "Ctrl-C"),
            come = self.pause.recv() => (come, "Ctrl-Break"),
            come = self.close.recv() => (come, "the end of the console"),
            come = logoff => (come, "the end of the session"),
            come = self.shutdown.recv() => (come, "the end of the system"),
        };
        come.map(|()| name)
    }
}

/// Returns whether this process runs in the session of services.
fn is_service() -> bool {
    let mut session = u32::MAX;
    // SAFETY: the call writes one number, to the place behind the pointer.
    let is_known = unsafe { ProcessIdToSessionId(GetCurrentProcessId(), &raw mut session) };
    is_known != 0 && session == SERVICES
}

/// The handlers for the events that end a host in order. They work from [`Handlers::listen`] on: an event before that
/// ends the process.
#[derive(Debug)]
pub struct Handlers(());

/// The events that end a host in order, as they come.
#[derive(Debug)]
pub struct EndSignals(ConsoleEvents);

impl Handlers {
    /// Returns the handlers.
    ///
    /// # Errors
    /// None on this system.
    pub fn install() -> io::Result<Self> {
        Ok(Handlers(()))
    }

    /// Starts to take events. Call it on a runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen(self) -> io::Result<EndSignals> {
        ConsoleEvents::listen().map(EndSignals)
    }
}

impl EndSignals {
    /// Waits for an event that ends the host in order. After the end of the console, of the session or of the system,
    /// Windows itself ends the process within 5 to 20 s.
    pub async fn first(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Waits until a person requests the end once more.
    pub async fn second(&mut self) {
        tokio::select! {
            _ = self.0.c.recv() => {}
            _ = self.0.pause.recv() => {}
        }
    }
}
