//! The steps of a durable write: a temporary file, its rename over the old file, and the syncing of both. Files that
//! another program may keep from being used are waited for.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    is_own_descriptor, never_wait, open, open_anything, read, remove, rename, replace,
    sync_before_rename, sync_directory, sync_later, temporary_in, with_one_wait,
};
#[cfg(windows)]
pub(crate) use windows::{
    is_own_descriptor, never_wait, open, open_anything, read, remove, rename, replace,
    sync_before_rename, sync_directory, sync_later, temporary_in, with_one_wait,
};
