//! The error codes of the protocol, for programs to act on.
//!
//! The set is closed on purpose: a guest may match on all of them, and a new code is a new version of the protocol.
//! The message beside the code explains the error to a person.

use std::{error::Error, fmt, str::FromStr};

/// The reason for answering a command with `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::UnknownCommand,
        ErrorCode::BadArguments,
        ErrorCode::LineTooLong,
        ErrorCode::NotUtf8,
        ErrorCode::BadName,
        ErrorCode::Failed,
        ErrorCode::Crashed,
        ErrorCode::Timeout,
        ErrorCode::Unavailable,
        ErrorCode::TooManyGuests,
        ErrorCode::SlowGuest,
        ErrorCode::Denied,
    ];

    /// Returns the code as it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::UnknownCommand => "unknown-command",
            ErrorCode::BadArguments => "bad-arguments",
            ErrorCode::LineTooLong => "line-too-long",
            ErrorCode::NotUtf8 => "not-utf8",
            ErrorCode::BadName => "bad-name",
            ErrorCode::Failed => "failed",
            ErrorCode::Crashed => "crashed",
            ErrorCode::Timeout => "timeout",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::TooManyGuests => "too-many-guests",
            ErrorCode::SlowGuest => "slow-guest",
            ErrorCode::Denied => "denied",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<ErrorCode, UnknownErrorCode> {
        let known = ErrorCode::ALL.into_iter();
        let mut matching = known.filter(|code| code.as_str() == text);
        matching
            .next()
            .ok_or_else(|| UnknownErrorCode(text.to_owned()))
    }
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

    #[test]
    fn each_code_is_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        let unknown = "Crashed".parse::<ErrorCode>().unwrap_err().to_string();
        assert_eq!(unknown, "\"Crashed\" is no error code of Common TCP");
    }
}
