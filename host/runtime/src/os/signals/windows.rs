//! Console events. A process has nothing to clean or to hold back at its start: it inherits no mask.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
    ctrl_logoff, ctrl_shutdown,
};

/// Does nothing: see the file's head.
pub(crate) fn start_clean() {}

/// Does nothing: a worker has a console of its own, so no event of its host's console reaches it.
pub(crate) fn leave_end_to_host() {}

/// Does nothing: see the file's head.
pub fn start_clean_holding_back() {}

/// Does nothing: see the file's head.
pub fn let_through() {}

/// Does nothing: every process may learn how those end that it has started.
pub(crate) fn see_subprocesses() {}

/// The handlers for the events that end a host in order. They work from [`Handlers::listen`] on: an event before that
/// ends the process.
#[derive(Debug)]
pub struct Handlers(());

/// The events that end a host in order, as they come.
#[derive(Debug)]
pub struct EndSignals {
    c: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

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
        Ok(EndSignals {
            c: ctrl_c()?,
            pause: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }
}

impl EndSignals {
    /// Waits for an event that ends the host in order. After the last three the system itself ends the process within
    /// 5 to 20 s.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.c.recv() => {}
            _ = self.pause.recv() => {}
            _ = self.close.recv() => {}
            _ = self.logoff.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }

    /// Waits until a person requests the end once more.
    pub async fn second(&mut self) {
        tokio::select! {
            _ = self.c.recv() => {}
            _ = self.pause.recv() => {}
        }
    }
}
