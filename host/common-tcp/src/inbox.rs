//! The read side of one connection: bytes in, lines out, without copying a line.
//!
//! The socket reads straight into the inbox's one buffer ([`Inbox::room`]), and the lines borrow from
//! it. Telnet is taken out in place before a line end is looked for. What was given up: a line can't
//! outlive the next read.
//!
//! A buffer full of lines is handled in one pass ([`Lines`]): a window of whole lines is held to be
//! UTF-8 at once, and a line of the plain kind is handed out of it in one look at its bytes. Every
//! other line (blank, tagged, too long, no UTF-8, a connection's first) is read by the rules, one by one.
//!
//! Invariants, `bytes` being `[handed out | start .. scanned .. clean .. len]`:
//! - `start..scanned` holds no LF; `start..clean` holds no telnet; past `clean` is what came since, or
//!   the beginning of a telnet sequence that has not ended yet.
//! - A line past the limit is one fault, told as soon as the limit is passed; the rest of it up to its
//!   LF is dropped as it comes.
//! - Read until `None` between reads, the buffer stays below the line limit plus one read.
//! - A plain line gives the same message either way.
//!
//! The inbox sees no clock: that half a line has been waiting too long is for its owner to say.

use std::mem;

use crate::{
    cutter::Cutter,
    message::{self, Before, Line, Message},
    telnet::{self, Telnet},
};

/// What one connection sent and was not yet handed out.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    telnet: Telnet,
    cutter: Cutter,
}

/// The whole lines that are there. Dropped early, it leaves the rest for the next time.
#[derive(Debug)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    cutter: &'a mut Cutter,
    /// Whole lines that come next, where they are known to be UTF-8 and nothing hinders one of being a plain one.
    text: &'a str,
    before: Before<'a>,
}

impl Inbox {
    /// An inbox of the side that accepted the connection, for lines of at most `line_bytes_max` bytes before their LF. Allocates nothing yet.
    pub fn new(line_bytes_max: usize) -> Inbox {
        Inbox {
            bytes: Vec::new(),
            telnet: Telnet::default(),
            cutter: Cutter::new(line_bytes_max),
        }
    }

    /// An inbox for the side that connected. What a server says first may be any greeting: only HTTP ends the connection.
    pub fn connecting(line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.cutter.is_accepting = false;
        inbox
    }

    /// An inbox for a connection that has sent lines before. It doesn't look for other protocols.
    pub fn resumed(line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.cutter.is_fresh = false;
        inbox
    }

    /// The buffer to read into, with spare capacity for at least `want_bytes` more.
    ///
    /// Append to it and nothing else; what stands in it is the inbox's. Take all lines out before,
    /// or the buffer grows past its bound.
    pub fn room(&mut self, want_bytes: usize) -> &mut Vec<u8> {
        if self.buffered() == 0 {
            self.forget_passed();
        }
        if self.bytes.capacity() - self.bytes.len() < want_bytes {
            self.forget_passed();
            self.grow(want_bytes);
        }
        &mut self.bytes
    }

    /// The whole lines that are there, for who takes many. Blank ones are passed over.
    ///
    /// After [`Line::OtherProtocol`] there are none for ever: nothing of such a connection is to be run.
    pub fn lines(&mut self) -> Lines<'_> {
        self.strip();
        Lines {
            text: self.cutter.look_ahead(&self.bytes),
            bytes: &self.bytes,
            cutter: &mut self.cutter,
            before: Before::default(),
        }
    }

    /// The next of [`Inbox::lines`]; `None` means that more bytes are needed.
    // Not an `Iterator`: the lines borrow from the buffer.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Line<'_>> {
        self.strip();
        self.cutter.next(&self.bytes)
    }

    /// The stream has ended, and its end ends a last line that had no LF, as that would have.
    pub fn end(&mut self) {
        self.strip();
        self.telnet = Telnet::default();
        self.bytes.truncate(self.cutter.clean);
        if self.buffered() > 0 && self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
    }

    /// At the end of the stream, after [`Inbox::next`] gave `None`: a last line that had no LF.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.end();
        self.next()
    }

    /// Whether half a line waits for its other half, once [`Inbox::next`] gave `None`.
    ///
    /// The unseen rest of a line that was too long, and a telnet sequence without its end, count too.
    pub fn is_mid_line(&self) -> bool {
        self.buffered() > 0 || self.cutter.is_discarding || self.telnet.is_mid_sequence()
    }

    /// How many bytes wait, not yet handed out.
    pub fn buffered(&self) -> usize {
        self.bytes.len() - self.cutter.start
    }

    /// Gives the buffer's memory back if nothing waits in it: for a connection that has gone quiet.
    pub fn rest(&mut self) {
        if self.buffered() == 0 {
            self.forget_passed();
            self.bytes = Vec::new();
        }
    }

    /// Gives an inbox that has no buffer one to read into, so that quiet connections share few buffers.
    pub fn lend(&mut self, mut spare: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            spare.clear();
            self.bytes = spare;
        }
    }

    /// Takes the buffer back, if nothing waits in it.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        let is_empty = self.buffered() == 0 && self.bytes.capacity() > 0;
        is_empty.then(|| {
            self.forget_passed();
            mem::take(&mut self.bytes)
        })
    }

    /// Takes the telnet out of what came since the last time.
    #[inline]
    fn strip(&mut self) {
        let clean = self.cutter.clean;
        if clean < self.bytes.len() {
            let is_plain = !self.telnet.is_mid_sequence() && self.cutter.hidden.is_none();
            match is_plain && !Telnet::may_be_in(&self.bytes[clean..]) {
                true => self.cutter.clean = self.bytes.len(),
                false => self.strip_telnet(),
            }
        }
    }

    #[cold]
    fn strip_telnet(&mut self) {
        self.cutter.watch_hidden(&self.bytes);
        let hidden = self.cutter.hidden.as_deref_mut();
        self.cutter.clean = self
            .telnet
            .strip(&mut self.bytes, self.cutter.clean, hidden);
    }

    /// Moves what waits to the front of the buffer, over what was handed out.
    fn forget_passed(&mut self) {
        self.bytes.drain(..self.cutter.start);
        self.cutter.forget_passed();
    }

    /// Doubles the capacity, but not past what the longest line and one read need.
    fn grow(&mut self, want_bytes: usize) {
        let used = self.bytes.len();
        let most = self.cutter.line_bytes_max + telnet::TAIL_BYTES_MAX + want_bytes;
        let capacity = most.min(2 * self.bytes.capacity()).max(used + want_bytes);
        self.bytes.reserve_exact(capacity - used);
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline]
    fn next(&mut self) -> Option<Line<'a>> {
        match self.next_plain() {
            Some(message) => Some(Line::Message(message)),
            None => self.next_by_the_rules(),
        }
    }
}

impl<'a> Lines<'a> {
    /// How many bytes wait behind the lines that were handed out.
    #[must_use]
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.cutter.start
    }

    /// The next one, where it is of the plain kind and at hand; `None` says nothing about whether there is one.
    ///
    /// In a run of lines of the same short name, the names are the same slice.
    #[inline(always)]
    pub fn next_plain(&mut self) -> Option<Message<'a>> {
        let (message, length) = message::read_plain(self.text, &mut self.before)?;
        if length > self.cutter.line_bytes_max {
            return None;
        }
        self.text = self.text.get(length + 1..).unwrap_or_default();
        self.cutter.pass(self.cutter.start + length + 1);
        Some(message)
    }

    #[inline(never)]
    fn next_by_the_rules(&mut self) -> Option<Line<'a>> {
        if self.text.is_empty() && self.cutter.start < self.cutter.clean {
            self.text = self.cutter.look_ahead(self.bytes);
            if let Some(message) = self.next_plain() {
                return Some(Line::Message(message));
            }
        }
        let before = self.cutter.start;
        let line = self.cutter.next(self.bytes);
        // A line's end, or past the text.
        let passed = self.cutter.start - before;
        self.text = self.text.get(passed..).unwrap_or_default();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, LINE_BYTES_MAX, Message, Protocol};

    fn inbox_of(bytes: &[u8], line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.room(bytes.len()).extend_from_slice(bytes);
        inbox
    }

    /// The name and arguments of each message, or the code of each fault, to the end of the stream.
    fn told(inbox: &mut Inbox) -> Vec<String> {
        let mut told = Vec::new();
        told.extend(inbox.lines().map(line_told));
        inbox.end();
        told.extend(inbox.lines().map(line_told));
        told
    }

    fn line_told(line: Line<'_>) -> String {
        match line {
            Line::Message(Message {
                name, arguments, ..
            }) => format!("{name} {arguments}"),
            Line::Fault(fault) => format!("!{} {}", fault.code, fault.command),
            Line::OtherProtocol(protocol) => protocol.to_string(),
        }
    }

    #[test]
    fn lines_are_cut_as_the_protocol_says() {
        let table: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"\n \r\n\t\n\r\n", &[]),
            (b"a\nb [1]\r\n", &["a ", "b [1]"]),
            (b"a [1]", &["a [1]"]),
            (b"a [1]\r", &["a [1]"]),
            (b"12345678\n", &["12345678 "]),
            (b"123456789\na\n", &["!line-too-long ", "a "]),
            (b"a 3456789", &["!line-too-long a"]),
            (b"1234567\xff\xf1\xff\xf18\n", &["12345678 "]),
            (b"a\n\xff", &["a "]),
            (b"a\n\xff\xfa\x1fb\n", &["a "]),
            (b"         \na\n", &["!line-too-long ", "a "]),
        ];
        for (bytes, expected) in table {
            assert_eq!(told(&mut inbox_of(bytes, 8)), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_line_too_long_is_told_at_once_and_once() {
        let mut inbox = inbox_of(b"echo 3456", 8);
        let Some(Line::Fault(fault)) = inbox.next() else {
            panic!("no fault before the LF came");
        };
        assert_eq!(
            (fault.code, fault.command),
            (ErrorCode::LineTooLong, "echo")
        );
        for _ in 0..1000 {
            inbox.room(64).extend_from_slice(&[b'x'; 64]);
            assert_eq!(inbox.next(), None);
            assert!(inbox.is_mid_line());
            assert_eq!(inbox.buffered(), 0);
        }
        inbox.room(64).extend_from_slice(b"x\nb\n");
        assert_eq!(told(&mut inbox), ["b "]);
        assert!(!inbox.is_mid_line());
        assert!(inbox.bytes.capacity() <= 8 + telnet::TAIL_BYTES_MAX + 64);
    }

    #[test]
    fn after_http_nothing_is_a_line() {
        let mut inbox = inbox_of(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\na\n", LINE_BYTES_MAX);
        assert_eq!(told(&mut inbox), ["HTTP"]);
        inbox.room(8).extend_from_slice(b"a\n");
        assert_eq!(inbox.next(), None);
        assert_eq!(told(&mut inbox), [""; 0]);
    }

    #[test]
    fn http_is_the_first_line_or_none() {
        let mut inbox = inbox_of(b"a\nGET / HTTP/1.1\n", LINE_BYTES_MAX);
        assert_eq!(told(&mut inbox), ["a ", "GET / HTTP/1.1"]);
        // A long address must not hide the request line, or the body behind it would be run.
        let mut inbox = inbox_of(b"POST /xxxxxxxxxxxxxxxxxxx HTTP/1.1\r\n\r\na\n", 16);
        assert_eq!(told(&mut inbox), ["HTTP"]);
        // Nor must a method without end, or one that is no text.
        let mut inbox = inbox_of(b"XXXXXXXXXXXXXXXXXXXXX /\r\n\xc3\nHost: x\r\n\r\na\n", 16);
        assert_eq!(told(&mut inbox), ["!line-too-long ", "!not-utf8 ", "HTTP"]);
    }

    #[test]
    fn telnet_hides_no_request() {
        let table: &[&[u8]] = &[
            b"\xff\xfb\x1f\xff\xfb\x20GET / HTTP/1.1\r\n\r\na\n",
            b"GE\xff\xf1T / HTTP/1.1\r\n\r\na\n",
            b"GET /\xff\xfb HTTP/1.1\r\n\r\na\n",
            b"GET / HT\xff\xfbTP/1.1\r\n\r\na\n",
            b"GET / HT\xff\xfb\x01TP/1.1\r\n\r\na\n",
            b"GET / HTTP/1.1\xff\xfb\na\n",
            b"GET /\xff\xfa HTTP/1.1\r\n\r\n\xff\xf0\na\n",
            b"\xff\xfaGET / HTTP/1.1\r\n\r\n\xff\xf0a\n",
            b"\xff\xfa\x1fGET / HTTP/1.1\r\n\r\n\xff\xf0\na\n",
            b"\n\xff\xfa\xef\xbb\xbfGET / HTTP/1.1\n\xff\xf0\na\n",
        ];
        for bytes in table {
            assert_eq!(
                told(&mut inbox_of(bytes, LINE_BYTES_MAX)),
                ["HTTP"],
                "{bytes:?}"
            );
        }
        let smtp = b"\xff\xfaEHLO x\r\n\xff\xf0a\n";
        assert_eq!(told(&mut inbox_of(smtp, LINE_BYTES_MAX)), ["SMTP"]);
        // A window of 10 lines: its size holds a line end, and is no line.
        let window = b"\xff\xfa\x1f\0\x0a\0\x0a\xff\xf0a [\"GET / HTTP/1.1\"]\r\n\xff\xfaGET / HTTP/1.1\n\xff\xf0b\n";
        let lines = ["a [\"GET / HTTP/1.1\"]", "b "];
        assert_eq!(told(&mut inbox_of(window, LINE_BYTES_MAX)), lines);
    }

    #[test]
    fn binary_bytes_are_refused_before_a_line_is_whole() {
        let table: &[&[u8]] = &[
            b"\x16\x03\x01\x02",
            b"\xff\xfb\x1f\x16\x03\x01",
            b"\xef\xbb\xbf\0",
            b"\r\n \x16\na\n",
        ];
        for bytes in table {
            let mut inbox = inbox_of(bytes, LINE_BYTES_MAX);
            let line = Line::OtherProtocol(Protocol::Binary);
            assert_eq!(inbox.next(), Some(line), "{bytes:?}");
            assert_eq!(inbox.next(), None);
        }
        let mut later = inbox_of(b"a\n\x16\x03\nb\n", LINE_BYTES_MAX);
        assert_eq!(told(&mut later), ["a ", "!bad-name ", "b "]);
        let mut later = inbox_of(b"\xc3\n\x16\x03\nb\n", LINE_BYTES_MAX);
        assert_eq!(told(&mut later), ["!not-utf8 ", "!bad-name ", "b "]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_before_the_first_line_alone() {
        let table: &[(&[u8], &[&str])] = &[
            (
                b"\xef\xbb\xbfa [1]\n\xef\xbb\xbfb\n",
                &["a [1]", "\u{feff}b "],
            ),
            (b"\r\n\xef\xbb\xbf\xff\xfb\x1fa\n", &["a "]),
            (b"\xef\xbb\xbf\n\xef\xbb\xbfa", &["a "]),
            (b"\xef\xbb\xbf", &[]),
            (b"\xef\xbb", &["!not-utf8 "]),
            (b"\xef\xbb\xbf12345678\n", &["12345678 "]),
            (b"\xef\xbb\xbfGET / HTTP/1.1\na\n", &["HTTP"]),
        ];
        for (bytes, expected) in table {
            assert_eq!(told(&mut inbox_of(bytes, 8)), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_server_may_greet_as_it_likes() {
        let mut inbox = Inbox::connecting(LINE_BYTES_MAX);
        let greeting = b"\x1b[32mhello\nSSH-2.0-x\r\n";
        inbox.room(64).extend_from_slice(greeting);
        assert_eq!(told(&mut inbox), ["!bad-name ", "SSH-2.0-x "]);
        let mut inbox = Inbox::connecting(LINE_BYTES_MAX);
        inbox
            .room(64)
            .extend_from_slice(b"\xef\xbb\xbfContent-Length: 9\n");
        assert_eq!(told(&mut inbox), ["HTTP"]);
    }

    #[test]
    fn a_connection_that_goes_on_is_no_http() {
        let mut inbox = Inbox::resumed(LINE_BYTES_MAX);
        inbox
            .room(64)
            .extend_from_slice(b"x: 1\nGET / HTTP/1.1\na\n");
        assert_eq!(told(&mut inbox), ["x: 1", "GET / HTTP/1.1", "a "]);
    }

    #[test]
    fn a_quiet_connection_holds_no_memory() {
        let mut inbox = Inbox::new(LINE_BYTES_MAX);
        assert_eq!(inbox.bytes.capacity(), 0);
        inbox.room(4096).extend_from_slice(b"a\nb");
        assert!(inbox.next().is_some() && inbox.next().is_none());
        inbox.rest();
        assert_eq!((inbox.buffered(), inbox.is_mid_line()), (1, true));
        inbox.room(4096).push(b'\n');
        assert!(inbox.next().is_some() && inbox.next().is_none());
        inbox.rest();
        assert_eq!((inbox.bytes.capacity(), inbox.is_mid_line()), (0, false));
    }
}
