//! The lock on the file and on the directory of a home.
//!
//! It belongs to an open file and ends with its process. On Unix both can be removed or moved while they are locked, and
//! on Windows neither: see the twins.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{hold_directory, is_directory_held, is_held, open, try_lock};
#[cfg(windows)]
pub(crate) use windows::{hold_directory, is_directory_held, is_held, open, try_lock};
