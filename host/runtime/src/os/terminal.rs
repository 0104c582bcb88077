//! The terminal of a program: its keys one by one, and its escape sequences.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use system::allow_escapes;

/// The mode of the terminal that standard input is, as it was before its keys were read one by one. It comes back when
/// this is dropped.
#[derive(Debug)]
pub struct KeyMode(system::Mode);

impl KeyMode {
    /// Turns off the terminal's waiting for whole lines and its echo. Its signals and its output stay. Returns `None` if
    /// standard input is no terminal, or this program is in the background.
    #[must_use]
    pub fn begin() -> Option<Self> {
        system::Mode::begin().map(KeyMode)
    }

    /// Brings the earlier mode back, before the process ends at once.
    pub fn restore(&self) {
        self.0.restore();
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        self.restore();
    }
}
