//! The write side: lines appended to a buffer that its owner sends in one write.
//!
//! A reply is opened, its one value is written by whoever has it, and it is closed: so a daemon's result
//! goes straight into the guest's buffer. Nothing here fails: memory is the only thing that could run out.
//!
//! Invariant: what is written by [`write_message`] and [`write_error`] is exactly one line, whatever stands
//! in the arguments or the message. Names and tags are written as they are: they come from a line that was
//! read, or were held against [`crate::is_name`].

use memchr::memchr_iter;

use crate::{
    ErrorCode,
    message::{is_name, is_tag},
};

/// Appends a line up to where its arguments begin: `name#tag [`.
///
/// Write the result behind it, as JSON with no LF, or nothing for a command that returns nothing; then
/// call [`close_reply`].
#[inline(always)]
pub fn open_reply(out: &mut Vec<u8>, name: &str, tag: Option<&str>) {
    write_command(out, name, tag);
    out.extend_from_slice(b" [");
}

/// Ends the line that [`open_reply`] began.
#[inline]
pub fn close_reply(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]\n");
}

/// Appends a whole line. `arguments_array_json` is a JSON array; each LF inside it, where JSON allows one
/// at all, becomes a space.
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
    for at in memchr_iter(b'\n', arguments_array_json) {
        out[start + at] = b' ';
    }
    out.push(b'\n');
}

/// Appends `error#tag [{"command":...,"code":...,"message":...}]`. Command and message are escaped.
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
    open_reply(out, "error", tag);
    out.extend_from_slice(b"{\"command\":");
    write_string(out, command);
    out.extend_from_slice(b",\"code\":\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    write_string(out, message);
    out.push(b'}');
    close_reply(out);
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

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a Vec takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inbox, LINE_BYTES_MAX, Line, Message};

    #[test]
    fn replies_and_events() {
        let mut out = Vec::new();
        open_reply(&mut out, "nothing", None);
        close_reply(&mut out);
        open_reply(&mut out, "add", Some("7"));
        out.push(b'3');
        close_reply(&mut out);
        write_message(&mut out, "tick", None, b"[\n7\n]");
        assert_eq!(out, b"nothing []\nadd#7 [3]\ntick [ 7 ]\n");
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
