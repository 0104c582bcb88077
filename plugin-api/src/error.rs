//! The error type of a daemon's functions: a text for a person.
//!
//! `?` makes it from any `std::error::Error`, together with the causes behind it. Therefore it can't implement that
//! trait itself, just like the error of `anyhow`. An error from another daemon keeps its code, so that a caller can
//! distinguish a daemon that is away from one that refuses.

use std::fmt;

use serde::Deserialize;

use crate::abi::{HostFault, status};

/// The result of a daemon's own functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a daemon could not do what was requested; the guest reads its text.
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
///
/// [`bail!`](crate::bail) and [`ensure!`](crate::ensure) are shorter. A `String` or a `&str` isn't converted by `?` or
/// `into()`, since neither is a [`std::error::Error`]. A command may also return another error: each type that has a
/// text by `Display` will do, such as `Result<u32, String>`.
pub struct Error {
    text: String,
    code: Option<String>,
}

impl Error {
    /// Creates an error with this text.
    pub fn new(text: impl fmt::Display) -> Self {
        Error {
            text: text.to_string(),
            code: None,
        }
    }

    /// Returns the error code if the error came from another daemon or from the way to it. It is a code of Common TCP:
    /// `failed`, `bad-arguments`, `unknown-command`, `crashed`, `timeout` or `unavailable`. Returns `None` for an error
    /// of this daemon.
    ///
    /// If a command returns such an error, its own reply is still `failed`: the code belongs to the other daemon's
    /// reply.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Creates the error of a `command` that was sent to `to`. The cause comes first, because a person needs it first.
    pub(crate) fn of_call(fault: &HostFault, command: &str, to: impl fmt::Display) -> Self {
        match serde_json::from_str::<Fault>(&fault.message) {
            Ok(Fault { code, message }) => Error {
                text: format!("{} ({code}, {command} at {to})", one_line(&message)),
                code: Some(code),
            },
            Err(_) if fault.status == status::GONE => Error {
                text: format!("{to} has gone ({GONE_CODE}, {command})"),
                code: Some(GONE_CODE.to_owned()),
            },
            Err(_) => Error::of_host(fault, command),
        }
    }

    /// Creates the error of a host operation.
    pub(crate) fn of_host(fault: &HostFault, operation: &str) -> Self {
        match serde_json::from_str::<Fault>(&fault.message) {
            Ok(Fault { code, message }) => Error {
                text: one_line(&message),
                code: Some(code),
            },
            Err(_) if fault.status == status::UNKNOWN => Error::new(format!(
                "this host knows no `{operation}`: it is older than the plugin; update dae-host"
            )),
            Err(_) if fault.status == status::GONE => Error::new(format!(
                "this daemon has ended, so no `{operation}` any more"
            )),
            Err(_) => Error::new(one_line(&fault.to_string())),
        }
    }
}

/// The code of a call to a daemon or guest that has gone.
const GONE_CODE: &str = "unavailable";

/// A failure as it crosses the boundary.
#[derive(Deserialize)]
struct Fault {
    code: String,
    message: String,
}

/// Returns the text in one line, or a replacement for an empty text, which an older host may send.
fn one_line(text: &str) -> String {
    match text.trim().is_empty() {
        true => "no reason was given".to_owned(),
        false => text.replace(|c: char| c.is_control(), " "),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        Error { text, code: None }
    }
}

/// Returns from the function with an [`Error`] of this text, written as for `format!`, or of a value that has a text.
///
/// ```
/// use dae_plugin_api::prelude::*;
///
/// fn take(seats: u32, free: u32) -> Result<u32> {
///     if seats > free {
///         bail!("only {free} seats are free, not {seats}");
///     }
///     Ok(free - seats)
/// }
/// assert_eq!(take(3, 2).unwrap_err().to_string(), "only 2 seats are free, not 3");
/// ```
#[macro_export]
macro_rules! bail {
    ($text:literal $($arguments:tt)*) => {
        return ::core::result::Result::Err($crate::Error::new(::core::format_args!($text $($arguments)*)))
    };
    ($text:expr $(,)?) => {
        return ::core::result::Result::Err($crate::Error::new($text))
    };
}

/// Returns from the function with an [`Error`], as [`bail!`](crate::bail) does, unless the condition holds.
///
/// ```
/// use dae_plugin_api::prelude::*;
///
/// fn half(of: u32) -> Result<u32> {
///     ensure!(of % 2 == 0, "{of} is odd; send an even number");
///     Ok(of / 2)
/// }
/// assert_eq!(half(3).unwrap_err().to_string(), "3 is odd; send an even number");
/// assert_eq!(half(4).unwrap(), 2);
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            $crate::bail!($($text)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u32, message: &str) -> HostFault {
        HostFault {
            status,
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_answer_of_another_daemon_keeps_its_code_and_fits_a_line() {
        let said = r#"{"code":"bad-arguments","message":"it takes 2 arguments;\ngot 1"}"#;
        let error = Error::of_call(&fault(status::FAILED, said), "add", "Counter");
        assert_eq!(
            error.to_string(),
            "it takes 2 arguments; got 1 (bad-arguments, add at Counter)"
        );
        assert_eq!(error.code(), Some("bad-arguments"));
        let silent = fault(status::FAILED, r#"{"code":"failed","message":" "}"#);
        let error = Error::of_call(&silent, "add", "Counter").to_string();
        assert_eq!(error, "no reason was given (failed, add at Counter)");
    }

    #[test]
    fn an_error_is_made_of_a_format_or_of_a_value() {
        fn bailed(which: u8) -> Result<()> {
            let (name, full) = ("store", "it is full".to_owned());
            match which {
                0 => bail!("full"),
                1 => bail!("{name} is {}%", 100),
                2 => bail!("{} {size}", name, size = 1,),
                3 => bail!(full),
                _ => ensure!(which > 5, "{which} is too small"),
            }
            Ok(())
        }
        let texts = [0, 1, 2, 3, 4].map(|which| bailed(which).unwrap_err().to_string());
        let expected = [
            "full",
            "store is 100%",
            "store 1",
            "it is full",
            "4 is too small",
        ];
        assert_eq!(texts, expected);
        assert!(bailed(6).is_ok());
    }

    #[test]
    fn what_is_no_fault_object_is_told_as_it_came() {
        let of = |status, text| Error::of_call(&fault(status, text), "add", "guest 5");
        let gone = of(status::GONE, "");
        assert_eq!(gone.to_string(), "guest 5 has gone (unavailable, add)");
        assert_eq!(gone.code(), Some("unavailable"));
        let odd = of(status::FAILED, "disk\nfull");
        assert_eq!((odd.to_string().as_str(), odd.code()), ("disk full", None));
        let old = Error::of_host(&fault(status::UNKNOWN, ""), "connect");
        assert!(old.to_string().contains("update dae-host"), "{old}");
    }
}
