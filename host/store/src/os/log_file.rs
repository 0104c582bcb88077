//! Log files are renamed and read while they are open.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{can_be_renamed, is_at};
#[cfg(windows)]
pub(crate) use windows::{can_be_renamed, is_at};
