//! Systems without systemd.

use std::convert::Infallible;
use std::io::{self, Write};

/// Returns false.
pub(crate) fn is_standard_error() -> bool {
    false
}

/// A socket that can't exist.
#[derive(Debug)]
pub(crate) struct JournaldSocket(Infallible);

impl JournaldSocket {
    /// Fails.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn connect() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Write for JournaldSocket {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}
