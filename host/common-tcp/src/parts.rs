//! Replies in parts: the line by which a connection asks for them, and the line of one part.
//!
//! The request is a `dae` with arguments, which no side answers. So it is harmless to a side that doesn't know of parts,
//! and no command can have its name.

use crate::reply::{close_reply, open_reply, write_string};
use crate::trace::request;

/// The name of the lines that carry parts.
pub const PART: &str = "part";

/// A part of the reply to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name of the command.
    pub command: &'a str,
    /// The tag of the command.
    pub tag: &'a str,
    /// True for a report of progress, which the command's result doesn't hold.
    pub is_progress: bool,
    /// The item, JSON.
    pub item: &'a [u8],
}

/// Appends `part#tag [{"command":...,"item":...}]`, with `"progress":true` for a report. Escapes the command.
///
/// ```
/// use dae_common_tcp::{Part, write_part};
///
/// let mut out = Vec::new();
/// write_part(&mut out, Part { command: "count", tag: "7", is_progress: false, item: b"3" });
/// assert_eq!(out, b"part#7 [{\"command\":\"count\",\"item\":3}]\n");
/// ```
pub fn write_part(out: &mut Vec<u8>, part: Part<'_>) {
    let start = open_reply(out, PART, Some(part.tag));
    out.extend_from_slice(b"{\"command\":");
    write_string(out, part.command);
    out.extend_from_slice(b",\"item\":");
    out.extend_from_slice(part.item);
    if part.is_progress {
        out.extend_from_slice(b",\"progress\":true");
    }
    out.push(b'}');
    close_reply(out, start);
}

/// Returns whether the arguments of a `dae` ask for parts, or ask for no more of them. Returns `None` for anything else,
/// such as a credential: that is the late reply to a call which was given up.
///
/// ```
/// use dae_common_tcp::asks_for_parts;
///
/// assert_eq!(asks_for_parts(r#"[{"parts":true}]"#), Some(true));
/// assert_eq!(asks_for_parts(r#"{"parts":false}"#), Some(false));
/// assert_eq!(asks_for_parts(r#"[{"name":"A","pid":1,"port":1,"parts":true}]"#), None);
/// ```
#[must_use]
pub fn asks_for_parts(arguments: &str) -> Option<bool> {
    request(arguments)?.get("parts")?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_line_whatever_it_holds() {
        let mut out = Vec::new();
        let part = Part {
            command: "say\"so",
            tag: "t",
            is_progress: true,
            item: b"[1,\n2]",
        };
        write_part(&mut out, part);
        let expected = "part#t [{\"command\":\"say\\\"so\",\"item\":[1, 2],\"progress\":true}]\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn only_an_object_with_parts_and_without_a_name_asks() {
        for (arguments, asks) in [
            (r#"[{"parts":true}]"#, Some(true)),
            (r#"{"parts":true,"later":1}"#, Some(true)),
            (r#"[{"parts":false}]"#, Some(false)),
            (r#"[{"parts":1}]"#, None),
            (r#"[{"parts":true},1]"#, None),
            (r#"[{"name":"A","parts":true}]"#, None),
            ("[{}]", None),
            ("[true]", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(asks_for_parts(arguments), asks, "{arguments}");
        }
    }
}
