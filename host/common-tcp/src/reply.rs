//! The write side: appends lines to a buffer that its owner sends in one write.
//!
//! A reply is opened, the producer of its one value writes that value, and the reply is closed. So a daemon's
//! result goes straight into the guest's buffer. Nothing here fails, unless memory runs out.
//!
//! Invariant: each write appends exactly one line, whatever the arguments, the result or the message contain. Names
//! and tags are written as they are, because they come from a line that was read or were checked with
//! [`crate::is_name`].

use crate::{
    ErrorCode, line_end,
    message::{is_name, is_tag},
};

/// Appends a line up to where its arguments begin, `name#tag [`. Returns where the line begins.
///
/// Write the result behind it as JSON, or nothing if the command returns nothing. Then call [`close_reply`].
#[inline(always)]
pub fn open_reply(out: &mut Vec<u8>, name: &str, tag: Option<&str>) -> usize {
    let start = out.len();
    write_command(out, name, tag);
    out.extend_from_slice(b" [");
    start
}

/// Ends the line that was opened at `start`.
///
/// JSON allows an LF only between tokens, where a space means the same. So each LF becomes a space.
#[inline]
pub fn close_reply(out: &mut Vec<u8>, start: usize) {
    let line = &mut out[start..];
    if line_end::is_in(line) {
        keep_one_line(line);
    }
    out.extend_from_slice(b"]\n");
}

#[cold]
fn keep_one_line(json: &mut [u8]) {
    let line_feeds = json.iter_mut().filter(|byte| **byte == b'\n');
    line_feeds.for_each(|byte| *byte = b' ');
}

/// The beginning of the untagged replies to one command, for a daemon that answers it repeatedly.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The text with padding. Copying all of it is one step for a processor; the padding is then cut off.
    bytes: [u8; OPENING_BYTES_MAX],
    len: usize,
}

/// The size of the buffer of an [`Opening`]. A longer beginning is assembled for each reply.
const OPENING_BYTES_MAX: usize = 32;

impl Opening {
    /// Returns the opening of the replies to the command `name`, or `None` if the name is too long.
    pub fn of(name: &str) -> Option<Opening> {
        let mut text = Vec::new();
        open_reply(&mut text, name, None);
        let mut bytes = [0; OPENING_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(&text);
        Some(Opening {
            bytes,
            len: text.len(),
        })
    }

    /// Does the same as [`open_reply`].
    #[inline(always)]
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out.truncate(start + self.len);
        start
    }
}

/// Appends a complete line. `arguments_array_json` is a JSON array. Each LF in it becomes a space.
pub fn write_message(
    out: &mut Vec<u8>,
    name: &str,
    tag: Option<&str>,
    arguments_array_json: &[u8],
) {
    write_command(out, name, tag);
    out.push(b' ');
    let start = out.len();
    out.extend_from_slice(arguments_array_json);
    if line_end::is_in(arguments_array_json) {
        keep_one_line(&mut out[start..]);
    }
    out.push(b'\n');
}

/// The message of an error without a message.
const NO_REASON: &str = "no reason was given; the daemon's log may have more";

/// Appends `error#tag [{"command":...,"code":...,"message":...}]`. Escapes the command and the message.
///
/// Every error is written here, so this function makes sure that no message is blank: it replaces a blank one.
///
/// ```
/// use dae_common_tcp::{ErrorCode, write_error};
///
/// let mut out = Vec::new();
/// write_error(&mut out, "greet", Some("7"), ErrorCode::Failed, "nobody\nhere");
/// let line = r#"error#7 [{"command":"greet","code":"failed","message":"nobody\nhere"}]"#;
/// assert_eq!(out, format!("{line}\n").as_bytes());
/// ```
pub fn write_error(
    out: &mut Vec<u8>,
    command: &str,
    tag: Option<&str>,
    code: ErrorCode,
    message: &str,
) {
    let error = DaemonError {
        code: code.as_str(),
        message,
        data: None,
    };
    write_daemon_error(out, command, tag, &error);
}

/// An error with a code that may be a daemon's own, and with data.
#[derive(Debug, Clone, Copy)]
pub struct DaemonError<'a> {
    /// The code. The writer does not check it.
    pub code: &'a str,
    /// The text for a person.
    pub message: &'a str,
    /// One JSON value for programs, as text. The member `data` is absent without it.
    pub data: Option<&'a str>,
}

/// Appends an error line as [`write_error`] does, with any code, and with the member `data` if the error has data.
///
/// ```
/// use dae_common_tcp::{DaemonError, write_daemon_error};
///
/// let error = DaemonError { code: "not-found", message: "no such key", data: Some(r#"{"key":"a"}"#) };
/// let mut out = Vec::new();
/// write_daemon_error(&mut out, "get", None, &error);
/// let line = r#"error [{"command":"get","code":"not-found","message":"no such key","data":{"key":"a"}}]"#;
/// assert_eq!(out, format!("{line}\n").as_bytes());
/// ```
pub fn write_daemon_error(
    out: &mut Vec<u8>,
    command: &str,
    tag: Option<&str>,
    error: &DaemonError<'_>,
) {
    let start = open_reply(out, "error", tag);
    out.extend_from_slice(b"{\"command\":");
    write_string(out, command);
    out.extend_from_slice(b",\"code\":");
    write_string(out, error.code);
    out.extend_from_slice(b",\"message\":");
    match error.message.trim().is_empty() {
        true => write_string(out, NO_REASON),
        false => write_string(out, error.message),
    }
    if let Some(data) = error.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
    close_reply(out, start);
}

#[inline(always)]
fn write_command(out: &mut Vec<u8>, name: &str, tag: Option<&str>) {
    debug_assert!(is_name(name), "{name:?} is no name");
    out.extend_from_slice(name.as_bytes());
    if let Some(tag) = tag {
        debug_assert!(is_tag(tag), "{tag:?} is no tag");
        out.push(b'#');
        out.extend_from_slice(tag.as_bytes());
    }
}

pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a Vec takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inbox, LINE_BYTES_MAX, Line, Message};

    #[test]
    fn replies_and_events() {
        let mut out = Vec::new();
        let start = open_reply(&mut out, "nothing", None);
        close_reply(&mut out, start);
        let start = open_reply(&mut out, "add", Some("7"));
        out.extend_from_slice(b"\n3\n");
        close_reply(&mut out, start);
        write_message(&mut out, "tick", None, b"[\n7\n]");
        assert_eq!(out, b"nothing []\nadd#7 [ 3 ]\ntick [ 7 ]\n");
    }

    #[test]
    fn an_opening_is_what_would_be_put_together() {
        for name_bytes in 1..=OPENING_BYTES_MAX {
            let name = "n".repeat(name_bytes);
            let (mut out, mut expected) = (b"before".to_vec(), b"before".to_vec());
            let start = open_reply(&mut expected, &name, None);
            match Opening::of(&name) {
                Some(opening) => assert_eq!((opening.write(&mut out), out), (start, expected)),
                None => assert!(expected.len() - start > OPENING_BYTES_MAX),
            }
        }
    }

    #[test]
    fn an_error_never_has_an_empty_message() {
        for blank in ["", " ", "\n\t"] {
            let mut out = Vec::new();
            write_error(&mut out, "a", None, ErrorCode::Failed, blank);
            let said = std::str::from_utf8(&out).unwrap();
            assert!(said.contains(NO_REASON), "{said}");
        }
    }

    #[test]
    fn the_data_of_an_error_are_one_line_whatever_they_are() {
        let error = DaemonError {
            code: "a\"b",
            message: "no",
            data: Some("{\n\"key\":\n\"a\\n\"}"),
        };
        let mut out = Vec::new();
        write_daemon_error(&mut out, "get", Some("7"), &error);
        let expected =
            r#"error#7 [{"command":"get","code":"a\"b","message":"no","data":{ "key": "a\n"}}]"#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn an_error_is_one_line_whatever_it_says() {
        let hostile = "a\nb\r\"c\"\\ \u{0} \u{2028} 👾";
        let mut out = Vec::new();
        write_error(&mut out, hostile, None, ErrorCode::Crashed, hostile);

        let mut inbox = Inbox::new(LINE_BYTES_MAX);
        inbox.room(out.len()).extend_from_slice(&out);
        let Some(Line::Message(Message {
            name, arguments, ..
        })) = inbox.next()
        else {
            panic!("no message: {out:?}");
        };
        let value: serde_json::Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(name, "error");
        assert_eq!(value[0]["command"], hostile);
        assert_eq!(value[0]["code"], "crashed");
        assert_eq!(value[0]["message"], hostile);
        assert!(!inbox.is_mid_line());
        assert_eq!(inbox.next(), None);
    }
}
