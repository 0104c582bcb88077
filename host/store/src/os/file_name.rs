//! Names of daemons as names of files: those that can't be one although their characters can, and those that are the same.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{IGNORES_CASE, check};
#[cfg(windows)]
pub(crate) use windows::{IGNORES_CASE, check};

use std::borrow::Cow;

/// Returns the text that all names have in common whose daemons would share files.
pub fn file_key(name: &str, ignores_case: bool) -> Cow<'_, str> {
    match ignores_case {
        // A name has ASCII letters alone.
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}
