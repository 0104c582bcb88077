//! Recognizes other protocols by how a connection opens.
//!
//! A web page, a misdirected client or a port scanner can make a program send its own protocol to a daemon's port.
//! An attacker may choose lines behind the opening, but can't choose what such a program sends first. So the
//! beginning of a connection decides: if it opens another protocol, nothing of the connection runs.
//!
//! Two functions judge the first line. [`begins_binary`] looks at its first byte, so that a TLS hello is refused
//! before a line of it is complete. [`of_line`] looks at the line once it has arrived. Both see the line without
//! telnet sequences. [`Hidden`] looks at what telnet removes: operands and subnegotiations may hold any byte, line
//! ends included, and must not hide a request line.
//!
//! Invariant: a line with strict JSON arguments is never taken for another protocol.

use std::fmt;

use crate::http::{self, is_separator};

/// The byte order mark in UTF-8. Some editors put it before the first line of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The commands that SMTP and LMTP clients introduce themselves with (RFC 5321, RFC 2033).
const SMTP_GREETINGS: [&[u8]; 3] = [b"EHLO", b"HELO", b"LHLO"];

/// A protocol that is not Common TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A request line or a header of HTTP, or of RTSP and SIP, which have the same form.
    Http,
    /// The banner of an SSH client.
    Ssh,
    /// The greeting of an SMTP client.
    Smtp,
    /// Bytes that are no text, such as a TLS hello.
    Binary,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Http => "HTTP",
            Protocol::Ssh => "SSH",
            Protocol::Smtp => "SMTP",
            Protocol::Binary => "a binary protocol such as TLS",
        })
    }
}

/// Returns the bytes behind the byte order marks at the front.
pub(crate) fn skip_byte_order_marks(mut bytes: &[u8]) -> &[u8] {
    while let Some(behind) = bytes.strip_prefix(BYTE_ORDER_MARK) {
        bytes = behind;
    }
    bytes
}

/// Returns whether the bytes are the beginning of a byte order mark that is not complete yet.
pub(crate) fn is_half_byte_order_mark(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(bytes)
}

/// Returns the index of the first non-blank byte if it is a control byte. No text begins with one.
pub(crate) fn begins_binary(bytes: &[u8]) -> Option<usize> {
    let at = bytes.iter().position(|byte| !is_blank(byte))?;
    let is_binary = bytes[at].is_ascii_control() && bytes[at] != b'\n';
    is_binary.then_some(at)
}

/// Returns the protocol that a connection's first line opens. If the line is not complete, only its beginning is
/// given.
pub(crate) fn of_line(line: &[u8], is_whole: bool) -> Option<Protocol> {
    if http::opens_http(line, is_whole) {
        return Some(Protocol::Http);
    }
    of_greeting(line)
}

fn of_greeting(line: &[u8]) -> Option<Protocol> {
    let line = line.trim_ascii();
    if is_ssh_banner(line) {
        return Some(Protocol::Ssh);
    }
    is_smtp_greeting(line).then_some(Protocol::Smtp)
}

/// Returns whether a line is `SSH-protoversion-softwareversion` (RFC 4253, section 4.2).
fn is_ssh_banner(line: &[u8]) -> bool {
    let Some(version) = line.strip_prefix(b"SSH-") else {
        return false;
    };
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let number = version.iter().take_while(|byte| is_number(byte)).count();
    number > 0 && version.get(number) == Some(&b'-')
}

/// Returns whether a line is `EHLO` with a domain or an address. With JSON arguments it is a command of that name.
fn is_smtp_greeting(line: &[u8]) -> bool {
    let end = line.iter().position(is_separator).unwrap_or(line.len());
    let (word, arguments) = line.split_at(end);
    let is_greeting = |greeting: &&[u8]| word.eq_ignore_ascii_case(greeting);
    SMTP_GREETINGS.iter().any(is_greeting) && !is_json(arguments.trim_ascii())
}

fn is_json(arguments: &[u8]) -> bool {
    match arguments.first() {
        Some(b'[') => !is_address_literal(arguments),
        Some(b'{' | b'"' | b'\'') => true,
        _ => serde_json::from_slice::<serde_json::Value>(arguments).is_ok(),
    }
}

/// Returns whether the text is like `[127.0.0.1]` or `[IPv6:::1]` (RFC 5321, section 4.1.3), which are not JSON.
fn is_address_literal(text: &[u8]) -> bool {
    let inside = &text[1..];
    let is_v4 = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let number = inside.iter().take_while(|byte| is_v4(byte));
    let is_ipv6 = inside.len() >= 5 && inside[..5].eq_ignore_ascii_case(b"IPv6:");
    is_ipv6 || number.filter(|byte| **byte == b'.').count() == 3
}

fn is_blank(byte: &u8) -> bool {
    is_separator(byte) || *byte == b'\r'
}

/// The text of a fresh connection with the operands of telnet in it, and the place where it opens another protocol.
///
/// It exists only on a connection that has sent telnet and no good line yet. Operands that are control bytes or not
/// ASCII are left out, because no request line has them.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    line: Vec<u8>,
    line_bytes_max: usize,
    /// True while the rest of an already judged line is still arriving. A line past the limit is judged by its
    /// beginning.
    is_past_max: bool,
    /// True if telnet removed something from this line or from its beginning. Other lines are judged when they are
    /// cut.
    is_touched: bool,
    /// The first protocol found, and the length of the connection's own text at that point, in bytes.
    found: Option<(usize, Protocol)>,
}

impl Hidden {
    /// Starts in the middle of a line whose beginning is `beginning`. `None` stands for a line past the limit.
    pub(crate) fn behind(beginning: Option<&[u8]>, line_bytes_max: usize) -> Self {
        let mut hidden = Hidden {
            line_bytes_max,
            is_past_max: beginning.is_none(),
            ..Hidden::default()
        };
        hidden.line.extend_from_slice(beginning.unwrap_or_default());
        hidden
    }

    /// Adds bytes that stay in the text. The first of them is at `at` there.
    pub(crate) fn keep(&mut self, bytes: &[u8], at: usize) {
        for (at, byte) in (at..).zip(bytes) {
            self.take(*byte, at);
            self.is_touched &= *byte != b'\n';
        }
    }

    /// Adds bytes that telnet removes at `at`.
    pub(crate) fn drop(&mut self, bytes: &[u8], at: usize) {
        self.is_touched = true;
        let is_text = |byte: &&u8| matches!(byte, b'\n' | b' '..=b'~');
        bytes
            .iter()
            .filter(is_text)
            .for_each(|byte| self.take(*byte, at));
    }

    /// Returns the protocol that the text opens, and where.
    pub(crate) fn found(&self) -> Option<(usize, Protocol)> {
        self.found
    }

    /// Adjusts the positions after the first `count` bytes of the text were removed.
    pub(crate) fn forget(&mut self, count: usize) {
        if let Some((at, _)) = &mut self.found {
            *at = at.saturating_sub(count);
        }
    }

    fn take(&mut self, byte: u8, at: usize) {
        if self.found.is_some() {
            return;
        }
        if byte == b'\n' {
            self.judge(at, true);
            self.line.clear();
            self.is_past_max = false;
        } else if !self.is_past_max {
            self.line.push(byte);
            if self.line.len() > self.line_bytes_max {
                self.judge(at, false);
                self.is_past_max = true;
            }
        }
    }

    fn judge(&mut self, at: usize, is_whole: bool) {
        if self.is_past_max || !self.is_touched {
            return;
        }
        let line = skip_byte_order_marks(&self.line).trim_ascii();
        let is_request = http::opens_request(line, is_whole);
        let protocol = is_request.then_some(Protocol::Http);
        self.found = protocol
            .or_else(|| of_greeting(line))
            .map(|protocol| (at, protocol));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_by_their_first_line() {
        let table: &[(&[u8], Protocol)] = &[
            (b"GET / HTTP/1.1", Protocol::Http),
            (b"OPTIONS rtsp://x/ RTSP/1.0", Protocol::Http),
            (b"SSH-2.0-OpenSSH_9.6", Protocol::Ssh),
            (b"SSH-1.99-x", Protocol::Ssh),
            (b"EHLO localhost", Protocol::Smtp),
            (b"ehlo", Protocol::Smtp),
            (b"HELO x", Protocol::Smtp),
            (b"LHLO [127.0.0.1]", Protocol::Smtp),
            (b"EHLO [IPv6:::1]", Protocol::Smtp),
            (b"EHLO 127.0.0.1", Protocol::Smtp),
        ];
        for (line, protocol) in table {
            assert_eq!(of_line(line, true), Some(*protocol), "{line:?}");
        }
    }

    #[test]
    fn commands_are_no_other_protocol() {
        let table: &[&str] = &[
            "helo [1]",
            "helo [1.5]",
            "helo [\"127.0.0.1\"]",
            "HELO {\"x\": 1}",
            "helo {x: 1}",
            "helo 'x'",
            "helo 5",
            "helo true",
            "helo#7",
            "hello",
            "ehlos x",
            "SSH-x [1]",
            "SSH-2 [1]",
            "ssh-2.0-x",
        ];
        for line in table {
            assert_eq!(of_line(line.as_bytes(), true), None, "{line}");
        }
    }

    #[test]
    fn control_bytes_begin_no_text() {
        for bytes in [&b"\x16\x03\x01"[..], b"\0", b" \x1b[A", b"\r\x7f", b"\x0c"] {
            assert!(begins_binary(bytes).is_some(), "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"dae",
            b"\r\n\x16",
            b" \t",
            b"\xc3",
            b"\xff",
            b"\xef\xbb",
        ] {
            assert_eq!(begins_binary(bytes), None, "{bytes:?}");
        }
    }
}
