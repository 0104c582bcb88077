//! Opens a plugin's file, which may have been replaced since it was checked.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{is_of_device, is_on_disk, open, read_beginning};
#[cfg(windows)]
pub(crate) use windows::{is_of_device, is_on_disk, open, read_beginning};
