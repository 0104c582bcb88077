//! The steps of a durable write: a temporary file, its rename over the old file, and the syncing of both.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{open_to_sync, replace, sync_directory, temporary_in};
#[cfg(windows)]
pub(crate) use windows::{open_to_sync, replace, sync_directory, temporary_in};
