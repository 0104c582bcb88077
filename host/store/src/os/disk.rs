//! The steps of a durable write: a temporary file, its rename over the old file, and the syncing of both.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{replace, sync_before_rename, sync_directory, sync_later, temporary_in};
#[cfg(windows)]
pub(crate) use windows::{replace, sync_before_rename, sync_directory, sync_later, temporary_in};
