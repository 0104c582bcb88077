//! The signals that end a host, and how they reach its workers.
//!
//! On Windows they are the events of a console: Ctrl-C, Ctrl-Break, its end, and the end of the user's session or of the
//! system.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{
    EndSignals, Handlers, ending_a_command, forwarded, let_through, start_clean_holding_back,
};
#[cfg(unix)]
pub(crate) use unix::{leave_end_to_host, see_subprocesses, start_clean};
#[cfg(windows)]
pub(in crate::os) use windows::ConsoleEvents;
#[cfg(windows)]
pub use windows::{EndSignals, Handlers, let_through, start_clean_holding_back};
#[cfg(windows)]
pub(crate) use windows::{leave_end_to_host, see_subprocesses, start_clean};
