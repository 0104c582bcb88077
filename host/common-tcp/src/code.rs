//! The error codes of the protocol, for programs to act on.
//!
//! The set is closed on purpose: a guest may match on all of them, and a new code is a new version of the protocol. A
//! daemon's author may have codes of the daemon's own, none of which is in the set. The message beside the code explains
//! the error to a person.

use std::{error::Error, fmt};

use strum::{EnumString, IntoStaticStr, VariantArray};

/// The reason for answering a command with `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumString, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[strum(parse_err_ty = UnknownErrorCode, parse_err_fn = unknown)]
pub enum ErrorCode {
    /// The daemon has no command of that name.
    UnknownCommand,
    /// The arguments are not even JSON5, or have the wrong count or type.
    BadArguments,
    /// The line passed the limit and was discarded.
    LineTooLong,
    /// The line is not UTF-8.
    NotUtf8,
    /// The name or the tag breaks the rules.
    BadName,
    /// The daemon returned an error of its own.
    Failed,
    /// The daemon panicked, or its process died.
    Crashed,
    /// The command exceeded its time limit.
    Timeout,
    /// The daemon is stopped, has failed, or has been restarting for longer than a command waits.
    Unavailable,
    /// The daemon has its maximum number of guests.
    TooManyGuests,
    /// The guest did not read its pending output.
    SlowGuest,
    /// This guest may not call the command.
    Denied,
}

impl ErrorCode {
    /// All codes, in the protocol's order.
    pub const ALL: &'static [ErrorCode] = ErrorCode::VARIANTS;

    /// Returns the code as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn unknown(text: &str) -> UnknownErrorCode {
    UnknownErrorCode(text.to_owned())
}

/// A code that the protocol does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownErrorCode(String);

impl fmt::Display for UnknownErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no error code of Common TCP", self.0)
    }
}

impl Error for UnknownErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A variant with another name would be another code on the wire.
    #[test]
    fn the_codes_on_the_wire_stay_as_they_are() {
        let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let expected = [
            "unknown-command",
            "bad-arguments",
            "line-too-long",
            "not-utf8",
            "bad-name",
            "failed",
            "crashed",
            "timeout",
            "unavailable",
            "too-many-guests",
            "slow-guest",
            "denied",
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn each_code_is_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        let unknown = "Crashed".parse::<ErrorCode>().unwrap_err().to_string();
        assert_eq!(unknown, "\"Crashed\" is no error code of Common TCP");
    }
}
