//! The error of an author's functions: a text for a person.
//!
//! It is made from any `std::error::Error` by `?`, with the causes behind it, and therefore is none itself (as
//! with `anyhow`, the two exclude each other in Rust).

use std::fmt;

/// What a daemon's own function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a daemon could not do what it was asked; its text is what the guest reads.
///
/// ```
/// use dae_plugin_api::{Error, Result};
///
/// fn half(of: u32) -> Result<u32> {
///     if of % 2 == 1 {
///         return Err(Error::new(format!("{of} is odd; send an even number")));
///     }
///     Ok(of / 2)
/// }
/// assert_eq!(half(3).unwrap_err().to_string(), "3 is odd; send an even number");
/// ```
pub struct Error(String);

impl Error {
    /// An error with this text.
    pub fn new(text: impl fmt::Display) -> Self {
        Error(text.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Many libraries repeat the cause in their own text.
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        Error(text)
    }
}
