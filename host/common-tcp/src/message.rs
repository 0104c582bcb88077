//! Reads one line: a name, an optional tag, and the arguments as text.
//!
//! The arguments stay as they came, without the spaces around them. A line that can't be read becomes a [`Fault`].
//! It names the command and the tag as far as they are certain, so that the sender can match it to its call. There
//! is no error type: every fault is answered to the guest.
//!
//! Invariant: a name or a tag that is returned here keeps the protocol's rules, in a fault too. It may be written
//! into a reply as it is.

use std::str;

use memchr::memchr2;

use crate::{ErrorCode, NAME_BYTES_MAX, Protocol, TAG_BYTES_MAX, line_end};

/// The result of reading one line from a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A command, a reply or an event. Only the receiver knows which.
    Message(Message<'a>),
    /// A line to answer with an error. The connection goes on.
    Fault(Fault<'a>),
    /// The opening of another protocol. The connection must be closed, and nothing of it may run.
    OtherProtocol(Protocol),
}

/// A line that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The name, 1 to 128 bytes.
    pub name: &'a str,
    /// The tag, 1 to 128 bytes, as its sender chose it.
    pub tag: Option<&'a str>,
    /// The text after the name, without the spaces around it. It may be empty, and it may not be JSON.
    pub arguments: &'a str,
}

/// A line that could not be read, and the error to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The error code of the fault.
    pub code: ErrorCode,
    /// The command's name if it is certain and keeps the rules, otherwise empty.
    pub command: &'a str,
    /// The tag if it is certain and keeps the rules.
    pub tag: Option<&'a str>,
    /// The message for a person, in one line: what was expected and what came.
    pub message: String,
}

/// Returns whether `text` is a valid command name: 1 to 128 bytes, no white space, no control character, no `#`.
///
/// ```
/// assert!(dae_common_tcp::is_name("greet"));
/// assert!(!dae_common_tcp::is_name("greet#7"));
/// ```
pub fn is_name(text: &str) -> bool {
    check_label(text, NAME_BYTES_MAX).is_ok()
}

/// Returns whether `text` is a valid tag. Tags have the same rules as names.
pub(crate) fn is_tag(text: &str) -> bool {
    check_label(text, TAG_BYTES_MAX).is_ok()
}

/// Reads a complete line, without its LF, that is not blank.
///
/// ```
/// use dae_common_tcp::{Line, read_line};
///
/// let Line::Message(message) = read_line(b"tick [7]") else { panic!() };
/// assert_eq!((message.name, message.arguments), ("tick", "[7]"));
/// ```
pub fn read_line(line: &[u8]) -> Line<'_> {
    read(line)
}

/// Reads the plain line that `text` begins with. Returns the message and the length of the line in bytes, without
/// the LF. A plain line has an ASCII name, no tag, and one space before arguments that end with the line. Returns
/// `None` if [`read`] must judge.
#[inline(always)]
pub(crate) fn read_plain<'a>(
    text: &'a str,
    before: &mut Before<'a>,
) -> Option<(Message<'a>, usize)> {
    let bytes = text.as_bytes();
    if !before.has_name_of(bytes) {
        let name_bytes = bytes.iter().position(|byte| !is_plain(*byte))?;
        if name_bytes == 0 || name_bytes > NAME_BYTES_MAX {
            return None;
        }
        let name = &text[..name_bytes];
        match bytes[name_bytes] {
            b' ' => *before = Before::of(name),
            b'\n' => {
                let message = Message {
                    name,
                    tag: None,
                    arguments: "",
                };
                return Some((message, name_bytes));
            }
            _ => return None,
        }
    }
    let name = before.name;
    let name_bytes = name.len();
    let message = |arguments| Message {
        name,
        tag: None,
        arguments,
    };
    let line_bytes = name_bytes + 1 + line_end::find(&bytes[name_bytes + 1..])?;
    let arguments = &text[name_bytes + 1..line_bytes];
    let arguments = arguments.strip_suffix('\r').unwrap_or(arguments);
    match arguments.as_bytes() {
        [first, .., last] if *first > b' ' && *last > b' ' => {
            Some((message(arguments), line_bytes))
        }
        [only] if *only > b' ' => Some((message(arguments), line_bytes)),
        _ => None,
    }
}

/// The name of the previous plain line. For a short name it also holds the bytes with which another line of that
/// name begins. The lines of a batch often have the same name, and one comparison then recognizes it.
#[derive(Debug)]
pub(crate) struct Before<'a> {
    name: &'a str,
    /// A mask for the name and the space behind it among the first eight bytes of a line. It is 0 if the name is
    /// too long.
    mask: u64,
    beginning: u64,
}

impl Default for Before<'_> {
    fn default() -> Self {
        Before {
            name: "",
            mask: 0,
            // With the mask 0, no line matches this.
            beginning: 1,
        }
    }
}

impl<'a> Before<'a> {
    #[inline]
    fn of(name: &'a str) -> Self {
        let mut beginning = [0; 8];
        let Some(place) = beginning.get_mut(..=name.len()) else {
            return Before {
                name,
                ..Before::default()
            };
        };
        let (space, place) = place.split_last_mut().expect("one byte at least");
        place.copy_from_slice(name.as_bytes());
        *space = b' ';
        Before {
            name,
            mask: u64::MAX >> (8 * (7 - name.len())),
            beginning: u64::from_le_bytes(beginning),
        }
    }

    #[inline]
    fn has_name_of(&self, line: &[u8]) -> bool {
        let beginning = line.first_chunk().map(|first| u64::from_le_bytes(*first));
        beginning.is_some_and(|beginning| beginning & self.mask == self.beginning)
    }
}

/// Returns whether a name may contain this byte without a further check.
#[inline]
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Reads a complete line, without its LF, that is not blank.
pub(crate) fn read(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match str::from_utf8(line) {
        Ok(text) => read_text(text),
        Err(fault) => not_utf8(line, fault.valid_up_to()),
    }
}

/// Returns the fault of a line that is too long. `beginning` is the part that has arrived.
pub(crate) fn too_long(beginning: &[u8], line_bytes_max: usize) -> Line<'_> {
    let beginning = trim_start(beginning);
    // Without a space, the name might continue behind the beginning.
    let word = match memchr2(b' ', b'\t', beginning) {
        Some(end) => &beginning[..end],
        None => &[],
    };
    let (command, tag) = certain_command(word);
    Line::Fault(Fault {
        code: ErrorCode::LineTooLong,
        command,
        tag,
        message: format!(
            "the line is longer than {line_bytes_max} bytes, the most that is taken; it was discarded"
        ),
    })
}

fn read_text(text: &str) -> Line<'_> {
    let text = text.trim_matches([' ', '\t']);
    let end = memchr2(b' ', b'\t', text.as_bytes()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    match read_command(word) {
        Ok((name, tag)) => Line::Message(Message {
            name,
            tag,
            arguments: rest.trim_start_matches([' ', '\t']),
        }),
        Err(fault) => Line::Fault(fault),
    }
}

fn not_utf8(line: &[u8], valid_bytes: usize) -> Line<'_> {
    let line_trimmed = trim_start(line);
    let end = memchr2(b' ', b'\t', line_trimmed).unwrap_or(line_trimmed.len());
    let (command, tag) = certain_command(&line_trimmed[..end]);
    Line::Fault(Fault {
        code: ErrorCode::NotUtf8,
        command,
        tag,
        message: format!(
            "the line is not UTF-8: byte {} of it, 0x{:02X}, can't stand there",
            valid_bytes + 1,
            line[valid_bytes]
        ),
    })
}

/// Splits `name#tag` and checks both against the rules.
fn read_command(word: &str) -> Result<(&str, Option<&str>), Fault<'_>> {
    let (name, tag) = match word.split_once('#') {
        Some((name, tag)) => (name, Some(tag)),
        None => (word, None),
    };
    let tag_checked = tag.map_or(Ok(()), |tag| check_label(tag, TAG_BYTES_MAX));
    let name_checked = check_label(name, NAME_BYTES_MAX);
    let flaw = match (&name_checked, &tag_checked) {
        (Ok(()), Ok(())) => return Ok((name, tag)),
        (Err(flaw), _) => format!("a name has 1 to {NAME_BYTES_MAX} bytes; this one {flaw}"),
        (_, Err(flaw)) => {
            format!("a tag, behind the #, has 1 to {TAG_BYTES_MAX} bytes; this one {flaw}")
        }
    };
    Err(Fault {
        code: ErrorCode::BadName,
        command: name_checked.map_or("", |()| name),
        tag: tag_checked.map_or(None, |()| tag),
        message: flaw,
    })
}

/// Returns the name and tag of a faulty line if both keep the rules.
fn certain_command(word: &[u8]) -> (&str, Option<&str>) {
    let text = str::from_utf8(word).unwrap_or_default();
    read_command(text).unwrap_or_default()
}

/// Checks a name or a tag. The error continues the sentence "this one ...".
fn check_label(label: &str, bytes_max: usize) -> Result<(), String> {
    if label.is_empty() {
        return Err("is empty".to_owned());
    }
    if label.len() > bytes_max {
        return Err(format!("has {}", label.len()));
    }
    if label.bytes().all(is_plain) {
        return Ok(());
    }
    match label.chars().find(|&letter| is_barred(letter)) {
        Some(letter) => Err(format!("has {letter:?} in it")),
        None => Ok(()),
    }
}

fn is_barred(letter: char) -> bool {
    letter == '#' || letter.is_whitespace() || letter.is_control()
}

fn trim_start(mut line: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = line {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(name: &'a str, tag: Option<&'a str>, arguments: &'a str) -> Line<'a> {
        Line::Message(Message {
            name,
            tag,
            arguments,
        })
    }

    /// Returns the code, command and tag of a fault.
    fn fault_of<'a>(line: &Line<'a>) -> (ErrorCode, &'a str, Option<&'a str>) {
        match line {
            Line::Fault(fault) => (fault.code, fault.command, fault.tag),
            other => panic!("a fault expected, got {other:?}"),
        }
    }

    #[test]
    fn lines_that_can_be_read() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        let table = [
            ("dae", message("dae", None, "")),
            ("dae\r", message("dae", None, "")),
            ("add [1,2]", message("add", None, "[1,2]")),
            (" \tadd \t [1, 2] \t\r", message("add", None, "[1, 2]")),
            ("add\t[1]", message("add", None, "[1]")),
            ("add#7 [1]", message("add", Some("7"), "[1]")),
            ("add [\"#\"]", message("add", None, "[\"#\"]")),
            ("grüße#👾 1", message("grüße", Some("👾"), "1")),
            ("a hello  world", message("a", None, "hello  world")),
            (&longest, message(&longest, None, "")),
        ];
        for (line, expected) in table {
            assert_eq!(read(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn names_and_tags_that_break_the_rules() {
        let name = "n".repeat(NAME_BYTES_MAX + 1);
        let tag = format!("a#{}", "t".repeat(TAG_BYTES_MAX + 1));
        let table = [
            (name.as_str(), "", None, "has 129"),
            (&tag, "a", None, "has 129"),
            ("a#", "a", None, "is empty"),
            ("#", "", None, "is empty"),
            ("#7 [1]", "", Some("7"), "is empty"),
            ("a#b#c", "a", None, "'#'"),
            ("a\u{7}b", "", None, "'\\u{7}'"),
            ("a\rb [1]", "", None, "'\\r'"),
            ("a\u{a0}b", "", None, "'\\u{a0}'"),
            ("a#\u{85}", "a", None, "'\\u{85}'"),
        ];
        for (line, command, tag, flaw) in table {
            let read = read(line.as_bytes());
            assert_eq!(fault_of(&read), (ErrorCode::BadName, command, tag));
            assert!(matches!(read, Line::Fault(fault) if fault.message.contains(flaw)));
        }
    }

    #[test]
    fn faults_name_the_command_only_if_it_is_certain() {
        let table: &[(&[u8], &str, Option<&str>)] = &[
            (b"echo#7 [\"\xc3\"]", "echo", Some("7")),
            (b"  echo \xff", "echo", None),
            (b"x\xc3", "", None),
            (b"x# \xc3", "", None),
        ];
        for (line, command, tag) in table {
            let expected = (ErrorCode::NotUtf8, *command, *tag);
            assert_eq!(fault_of(&read(line)), expected, "{line:?}");
        }
        let table = [("echo#7 [", "echo", Some("7")), ("echo", "", None)];
        for (line, command, tag) in table {
            let expected = (ErrorCode::LineTooLong, command, tag);
            assert_eq!(
                fault_of(&too_long(line.as_bytes(), 8)),
                expected,
                "{line:?}"
            );
        }
    }
}
