//! Words that a person knows from this system: its shell, its tools, its directories.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::borrow::Cow;

pub use system::{EDITOR_DEFAULT, FILE_TOO_LARGE, HOME_DEFAULT, LINKER, NO_ACCESS};

/// Quotes a word for a shell, if it needs that.
#[must_use]
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || system::PLAIN.contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(system::quoted(word)),
    }
}

/// Returns a way to end a host in order, for a person, by the id of its process.
#[must_use]
pub fn way_to_end(pid: u32) -> String {
    system::way_to_end(pid)
}
