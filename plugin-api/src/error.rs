//! The error type of a daemon's functions: a text for a person, and optionally a code and data for a program.
//!
//! `?` makes it from any `std::error::Error`, together with the causes behind it. Therefore it can't implement that
//! trait itself, just like the error of `anyhow`. An error from another daemon keeps its code and its data, so that a
//! caller can distinguish a daemon that is away from one that refuses.
//!
//! A command that returns an error of another daemon passes it on: a code of that daemon's author as it is, and a code of
//! Common TCP as the data's member `cause`. If it were passed on as it is, it would be read as one of this daemon.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::abi::{HostFault, NO_REASON, Output, status};
use crate::coded::{
    self, CODE_BYTES_MAX, CodedError, DATA_BYTES_MAX, FAILED, RawData, is_own_code,
};
use crate::crossing::{Received, Sent};
use crate::{exact, misfit, reply};

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
/// text by `Display` will do, such as `Result<u32, String>`. Only this type has a code and data.
pub struct Error {
    text: String,
    /// `None` for most errors, which are a text and nothing else.
    detail: Option<Box<Detail>>,
}

/// The parts of an error that programs read.
#[derive(Default)]
struct Detail {
    code: Option<String>,
    data: Option<Data>,
    /// The error of another daemon, or of the way to it, if this one stands for it.
    cause: Option<Cause>,
}

/// The data of an error, as they cross and as an author reads them.
struct Data {
    raw: RawData,
    /// `None` for data of another daemon that a `Value` can't hold, such as lists in lists in lists for ever.
    value: Option<Value>,
}

/// An error that a daemon passes on, and that isn't its own.
#[derive(Serialize)]
struct Cause {
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<RawData>,
}

/// The longest message of a cause (characters). The text of the error itself has all of it.
const CAUSE_CHARS_MAX: usize = 1000;

/// The other side of a call.
pub(crate) enum Callee<'a> {
    /// The daemon of that name.
    Daemon(&'a str),
    /// The guest of that number.
    Guest(u64),
}

impl fmt::Display for Callee<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Callee::Daemon(name) => f.write_str(name),
            Callee::Guest(id) => write!(f, "guest {id}"),
        }
    }
}

impl Error {
    /// Creates an error with this text. A command that returns it is answered with the code `failed`.
    pub fn new(text: impl fmt::Display) -> Self {
        Error {
            text: text.to_string(),
            detail: None,
        }
    }

    /// Creates an error with a code, for programs to match on, and a text, for people.
    ///
    /// The code has 1 to 64 bytes of `a-z`, `0-9` and `-`. The codes of Common TCP, such as `failed` and `timeout`, can't
    /// be used. A wrong code makes an error without a code, which is answered `failed`; its text ends with the reason.
    ///
    /// ```
    /// use dae_plugin_api::prelude::*;
    ///
    /// fn value_of(key: &str) -> Result<u32> {
    ///     Err(Error::coded("not-found", "no such key").with(json::json!({ "key": key })))
    /// }
    /// let error = value_of("a").unwrap_err();
    /// assert_eq!(error.code(), Some("not-found"));
    /// assert_eq!(error.data().unwrap()["key"], "a");
    /// assert_eq!(error.to_string(), "no such key");
    /// ```
    pub fn coded(code: &str, message: impl fmt::Display) -> Self {
        let mut error = Error::new(message);
        match is_own_code(code) {
            true => error.detail_mut().code = Some(code.to_owned()),
            false => coded::note(&mut error.text, &coded::wrong_code(code)),
        }
        error
    }

    /// Returns the error with these data, which a program reads beside the code, in place of those that it had. It may
    /// have data without a code, and is then answered `failed`.
    ///
    /// The data are any value that serde writes as JSON, with at most 64 KiB of JSON. Other data are left out, and the text
    /// of the error ends with the reason. `null` stands for no data.
    #[must_use]
    pub fn with(mut self, data: impl Sent) -> Self {
        let read = reply::to_json(&data).and_then(Data::checked);
        let detail = self.detail_mut();
        detail.cause = None;
        match read {
            Ok(data) => detail.data = data,
            Err(remark) => {
                detail.data = None;
                coded::note(&mut self.text, &coded::left_out(&remark));
            }
        }
        self
    }

    /// Returns the error code: the one given to [`Error::coded`], or that of another daemon's answer. Other daemons have
    /// codes of their authors' own, and those of Common TCP: `failed`, `bad-arguments`, `unknown-command`, `crashed`,
    /// `timeout` and `unavailable`. Returns `None` for an error of this daemon without a code.
    ///
    /// If a command returns an error of another daemon, its reply has the same code only if that is an author's. A code of
    /// Common TCP becomes `failed`, and the data of the reply have it in `cause`: this daemon hasn't crashed if the other
    /// one has.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.detail.as_ref()?.code.as_deref()
    }

    /// Returns the data of the error: those given to [`Error::with`], or those of another daemon's answer. Integers of more
    /// than 64 bits are rounded in a `Value`; [`Error::data_as`] reads them exactly. Returns `None` if there are none, or a
    /// `Value` can't hold them.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        let data = self.detail.as_ref()?.data.as_ref()?;
        data.value.as_ref()
    }

    /// Does the same as [`Error::data`], and reads the data as a `T`. Returns `None` if there are none, or they don't fit.
    ///
    /// ```
    /// use dae_plugin_api::Error;
    ///
    /// let error = Error::coded("full", "the store is full").with((3, u128::MAX));
    /// assert_eq!(error.data_as(), Some((3, u128::MAX)));
    /// assert_eq!(error.data_as::<String>(), None);
    /// ```
    #[must_use]
    pub fn data_as<T: Received>(&self) -> Option<T> {
        let data = self.detail.as_ref()?.data.as_ref()?;
        exact::from_str(data.raw.get()).ok()
    }

    fn detail_mut(&mut self) -> &mut Detail {
        self.detail.get_or_insert_default()
    }

    /// Writes the error into a command's sink, and returns the status for the host.
    #[cold]
    pub(crate) fn write(&self, out: &mut Output) -> u32 {
        let crossed = self.crossed();
        if crossed.code == FAILED && crossed.data.is_none() {
            out.replace(&crossed.message);
            return status::FAILED;
        }
        match serde_json::to_string(&crossed) {
            Ok(json) => {
                out.replace(&json);
                status::CODED
            }
            Err(_) => {
                out.replace(&crossed.message);
                status::FAILED
            }
        }
    }

    /// Returns the error as the answer of a command has it.
    pub(crate) fn crossed(&self) -> CodedError {
        let detail = self.detail.as_deref();
        let code = self.code().filter(|code| is_own_code(code));
        let data = detail.and_then(|detail| match (&detail.cause, &detail.data) {
            (Some(cause), _) => cause.data(),
            (None, data) => data.as_ref().map(|data| data.raw.clone()),
        });
        let message = match self.text.trim().is_empty() {
            true => NO_REASON,
            false => &self.text,
        };
        CodedError {
            code: code.unwrap_or(FAILED).to_owned(),
            message: message.to_owned(),
            data,
        }
        .checked()
    }

    /// Creates the error of a `command` that was sent to `to`. The cause comes first, because a person needs it first.
    pub(crate) fn of_call(fault: &HostFault, command: &str, to: &Callee<'_>) -> Self {
        match serde_json::from_str::<Fault>(&fault.message) {
            Ok(fault) => {
                let Fault { code, message, .. } = &fault;
                let text = format!("{} ({code}, {command} at {to})", one_line(message));
                Error::answered(text, fault, Some((command, to)))
            }
            Err(_) if fault.status == status::GONE => {
                let text = format!("{to} has gone ({GONE_CODE}, {command})");
                let fault = Fault {
                    code: GONE_CODE.to_owned(),
                    message: format!("{to} has gone"),
                    data: None,
                    daemon: None,
                };
                Error::answered(text, fault, Some((command, to)))
            }
            Err(_) => Error::of_host(fault, command),
        }
    }

    /// Creates the error of a host operation.
    pub(crate) fn of_host(fault: &HostFault, operation: &str) -> Self {
        match serde_json::from_str::<Fault>(&fault.message) {
            Ok(fault) => Error::answered(one_line(&fault.message), fault, None),
            Err(_) if fault.status == status::UNKNOWN => Error::new(format!(
                "this host knows no `{operation}`: it is older than the plugin; update dae-host"
            )),
            Err(_) if fault.status == status::GONE => Error::new(format!(
                "this daemon has ended, so no `{operation}` any more"
            )),
            Err(_) => Error::new(one_line(&fault.to_string())),
        }
    }

    /// Creates the error for an answer with a code. The call is `None` if there was no command.
    fn answered(text: String, fault: Fault, call: Option<(&str, &Callee<'_>)>) -> Self {
        // An author's error is passed on as it is, and so is one that has been passed on already: its data have the cause.
        let is_passed = is_own_code(&fault.code) || (fault.code == FAILED && fault.data.is_some());
        let cause = (!is_passed).then(|| Cause::of(&fault, call));
        let detail = Detail {
            code: Some(fault.code),
            data: fault.data.map(Data::read),
            cause,
        };
        Error {
            text,
            detail: Some(Box::new(detail)),
        }
    }
}

impl Data {
    fn read(raw: RawData) -> Self {
        let value = serde_json::from_str(raw.get()).ok();
        Data { raw, value }
    }

    /// Returns the data of an author's JSON; `None` for `null`.
    fn checked(json: String) -> Result<Option<Self>, String> {
        if json.len() > DATA_BYTES_MAX {
            return Err(coded::too_large(json.len()));
        }
        let value = match serde_json::from_str(&json) {
            Ok(Value::Null) => return Ok(None),
            Ok(value) => Some(value),
            Err(error) => return Err(format!("they can't be read again: {error}")),
        };
        Ok(RawData::read(json).map(|raw| Data { raw, value }))
    }
}

impl Cause {
    fn of(fault: &Fault, call: Option<(&str, &Callee<'_>)>) -> Self {
        let named = match call {
            Some((_, Callee::Daemon(name))) => Some((*name).to_owned()),
            Some((_, Callee::Guest(_))) | None => None,
        };
        // Half of what an error takes leaves enough for the other members.
        let is_small = |data: &&RawData| data.get().len() <= DATA_BYTES_MAX / 2;
        let shown = |text: &str, chars: usize| misfit::shortened(text, chars).into_owned();
        Cause {
            code: shown(&fault.code, CODE_BYTES_MAX),
            command: call.map(|(command, _)| command.to_owned()),
            daemon: fault.daemon.clone().or(named),
            message: shown(&one_line(&fault.message), CAUSE_CHARS_MAX),
            data: fault.data.as_ref().filter(is_small).cloned(),
        }
    }

    /// Returns the data of the error that passes this one on.
    fn data(&self) -> Option<RawData> {
        #[derive(Serialize)]
        struct Passed<'a> {
            cause: &'a Cause,
        }
        let json = serde_json::to_string(&Passed { cause: self });
        json.ok().and_then(RawData::read)
    }
}

/// The code of a call to a daemon or guest that has gone.
const GONE_CODE: &str = "unavailable";

/// The failure of a call as a host reports it.
#[derive(Deserialize)]
struct Fault {
    code: String,
    message: String,
    #[serde(default)]
    data: Option<RawData>,
    /// The daemon that was called, for a caller that knows only the connection.
    #[serde(default)]
    daemon: Option<String>,
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

/// As the answer of a bridge's command `provided`, the error reaches the caller as it is. In any other command it is passed on
/// like the error of another daemon.
#[cfg(feature = "bridge")]
impl From<crate::bridge::CarriedError> for Error {
    fn from(carried: crate::bridge::CarriedError) -> Self {
        let text = one_line(&carried.message);
        let fault = Fault {
            code: carried.code,
            message: carried.message,
            data: carried.data.and_then(RawData::read),
            daemon: None,
        };
        let cause = (!is_own_code(&fault.code)).then(|| Cause::of(&fault, None));
        let detail = Detail {
            code: Some(fault.code),
            data: fault.data.map(Data::read),
            cause,
        };
        Error {
            text,
            detail: Some(Box::new(detail)),
        }
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
        Error { text, detail: None }
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
mod tests;
