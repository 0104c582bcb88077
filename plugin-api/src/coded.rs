//! Errors with a code and data, in the form that crosses the boundary: the JSON that a sink holds with the status
//! [`CODED`](crate::abi::status::CODED).
//!
//! A plugin writes an error by these rules, and a host checks it by the same rules, since a plugin need not be written
//! with this crate. What breaks a rule never costs the message: a wrong code becomes [`FAILED`], wrong data is left out,
//! and the message ends with the reason.
//!
//! The data stay text on their way, so that each number keeps all its digits.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::misfit;

/// The longest code of an author (bytes). It is a word for programs to match on, and stands in each error line.
pub const CODE_BYTES_MAX: usize = 64;
/// The most data that an error has (bytes of JSON). An error must fit a line of 1 MiB together with its message, also
/// after several daemons have passed it on. A large value belongs into a result.
pub const DATA_BYTES_MAX: usize = 64 << 10;
/// The code of an error that has no code of its own.
pub const FAILED: &str = "failed";
/// The most that a message shows of a wrong code (characters).
const SHOWN_CHARS_MAX: usize = 80;

/// The codes of Common TCP, which no author's error may have. The crate `dae-common-tcp` defines them; a test of the
/// host compares the two lists, because a plugin doesn't depend on that crate.
const PROTOCOL_CODES: [&str; 12] = [
    "unknown-command",
    "bad-arguments",
    "line-too-long",
    "not-utf8",
    "bad-name",
    FAILED,
    "crashed",
    "timeout",
    "unavailable",
    "too-many-guests",
    "slow-guest",
    "denied",
];

/// Returns whether a daemon's author may use this code: 1 to [`CODE_BYTES_MAX`] bytes of `a-z`, `0-9` and `-`, and no
/// code of Common TCP.
#[must_use]
pub fn is_own_code(code: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=CODE_BYTES_MAX).contains(&code.len())
        && code.bytes().all(is_allowed)
        && !PROTOCOL_CODES.contains(&code)
}

/// JSON that is passed on as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawData(Box<RawValue>);

impl RawData {
    /// Returns the data of this JSON text, or `None` if it isn't JSON.
    #[must_use]
    pub fn read(json: String) -> Option<Self> {
        RawValue::from_string(json).ok().map(RawData)
    }

    /// Returns the JSON.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawData {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawData {}

/// An error as it crosses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodedError {
    /// An author's code, or [`FAILED`].
    pub code: String,
    /// The text for a person.
    #[serde(default)]
    pub message: String,
    /// The data for a program. `null` stands for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<RawData>,
}

impl CodedError {
    /// Reads an error from a sink. If the plugin has written something else, that is the message.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let read = serde_json::from_slice::<CodedError>(bytes);
        let error = read.unwrap_or_else(|_| CodedError {
            code: FAILED.to_owned(),
            message: String::from_utf8_lossy(bytes).into_owned(),
            data: None,
        });
        error.checked()
    }

    /// Returns the error with all that breaks a rule replaced or left out.
    #[must_use]
    pub fn checked(mut self) -> Self {
        if self.code != FAILED && !is_own_code(&self.code) {
            note(&mut self.message, &wrong_code(&self.code));
            FAILED.clone_into(&mut self.code);
        }
        let bytes = self.data.as_ref().map_or(0, |data| data.get().len());
        if bytes > DATA_BYTES_MAX {
            note(&mut self.message, &left_out(&too_large(bytes)));
            self.data = None;
        }
        self
    }
}

/// Appends a remark about the error to its message.
pub(crate) fn note(message: &mut String, remark: &str) {
    *message = match message.trim() {
        "" => remark.to_owned(),
        text => format!("{text} ({remark})"),
    };
}

/// Returns the remark on a code that no author's error may have.
pub(crate) fn wrong_code(code: &str) -> String {
    let shown = misfit::shortened(code, SHOWN_CHARS_MAX);
    match PROTOCOL_CODES.contains(&code) {
        true => format!(
            "its code {shown:?} is one of Common TCP, which daemons can't use; choose another"
        ),
        false => format!(
            "its code {shown:?} is no code: expected 1 to {CODE_BYTES_MAX} of a-z, 0-9 and `-`"
        ),
    }
}

/// Returns the reason why data of that size can't be those of an error.
pub(crate) fn too_large(bytes: usize) -> String {
    format!(
        "they have {bytes} bytes of JSON, and an error takes {DATA_BYTES_MAX}; return large data as a result"
    )
}

/// Returns the remark on data that an error can't have, for this reason.
pub(crate) fn left_out(why: &str) -> String {
    format!("its data were left out: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, data: Option<String>) -> CodedError {
        CodedError {
            code: code.to_owned(),
            message: "no such key".to_owned(),
            data: data.and_then(RawData::read),
        }
    }

    #[test]
    fn a_code_of_an_author_is_a_short_word_that_the_protocol_does_not_have() {
        for code in ["not-found", "a", "404", "-", &"x".repeat(64)] {
            assert!(is_own_code(code), "{code}");
        }
        let too_long = "x".repeat(65);
        for code in ["", "Not-Found", "not found", "ä", "a_b", "a\n", &too_long] {
            assert!(!is_own_code(code), "{code}");
        }
        for code in PROTOCOL_CODES {
            assert!(!is_own_code(code), "{code}");
        }
    }

    #[test]
    fn a_wrong_code_becomes_failed_and_keeps_the_message_and_the_data() {
        let checked = error("crashed", Some("1".to_owned())).checked();
        assert_eq!(checked.code, FAILED);
        let expected = "no such key (its code \"crashed\" is one of Common TCP, which daemons can't use; choose another)";
        assert_eq!(checked.message, expected);
        assert_eq!(checked.data.unwrap().get(), "1");
        let message = error(&"É".repeat(999), None).checked().message;
        assert!(message.contains("expected 1 to 64 of a-z") && message.len() < 400);
    }

    #[test]
    fn too_much_data_are_left_out_and_keep_the_code_and_the_message() {
        let string = |bytes: usize| Some(format!("\"{}\"", "x".repeat(bytes - 2)));
        let fits = error("full", string(DATA_BYTES_MAX));
        assert_eq!(fits.clone().checked(), fits);
        let checked = error("full", string(DATA_BYTES_MAX + 1)).checked();
        assert_eq!((checked.code.as_str(), checked.data), ("full", None));
        let remark = "no such key (its data were left out: they have 65537 bytes of JSON, and an error takes 65536;";
        assert!(checked.message.starts_with(remark), "{}", checked.message);
    }

    #[test]
    fn an_error_is_read_back_and_anything_else_is_a_message() {
        let sent = error(
            "not-found",
            Some(r#"{"n": 18446744073709551616}"#.to_owned()),
        );
        let json = serde_json::to_vec(&sent).unwrap();
        assert_eq!(CodedError::read(&json), sent);
        let without = CodedError::read(br#"{"code":"a","message":"m","data":null,"later":1}"#);
        assert_eq!(without.data, None);
        for (bytes, message) in [(&b"boom"[..], "boom"), (b"", ""), (b"{}", "{}")] {
            let read = CodedError::read(bytes);
            assert_eq!(
                (read.code.as_str(), read.message.as_str()),
                (FAILED, message)
            );
        }
    }
}
