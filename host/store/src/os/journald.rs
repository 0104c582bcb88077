//! The journal of systemd: whether standard error leads there, and the socket that takes entries with fields.
//!
//! Systemd tells its services by the variable `JOURNAL_STREAM` which device and inode its stream has (systemd.exec(5)).

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{JournaldSocket, is_standard_error};
#[cfg(target_os = "linux")]
pub(crate) use linux::{JournaldSocket, is_standard_error};
