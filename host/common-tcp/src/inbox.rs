//! The read side of one connection: bytes in, lines out, without copying a line.
//!
//! The socket reads straight into the inbox's one buffer ([`Inbox::room`]), and the lines borrow from
//! it. Telnet is taken out in place before a line end is looked for, and each byte is looked at
//! once. What was given up: a line can't outlive the next call.
//!
//! Invariants, `bytes` being `[handed out | start .. scanned .. clean .. len]`:
//! - `start..scanned` holds no LF; `start..clean` holds no telnet; past `clean` is what came since, or
//!   the beginning of a telnet sequence that has not ended yet.
//! - A line past the limit is one fault, told as soon as the limit is passed; the rest of it up to its
//!   LF is dropped as it comes.
//! - Read until `None` between reads, the buffer stays below the line limit plus one read.
//!
//! The inbox sees no clock: that half a line has been waiting too long is for its owner to say.

use std::{mem, ops::Range};

use memchr::memchr;

use crate::{
    http,
    message::{self, Line},
    telnet::{self, Telnet},
};

/// What one connection sent and was not yet handed out.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
    clean: usize,
    telnet: Telnet,
    line_bytes_max: usize,
    /// The rest of a line that was too long is on its way.
    is_discarding: bool,
    /// No line that could be read came yet: only such a connection can turn out to be HTTP.
    is_fresh: bool,
    /// It was HTTP: nothing of what follows is a line.
    is_refused: bool,
}

impl Inbox {
    /// An inbox for lines of at most `line_bytes_max` bytes before their LF. Allocates nothing yet.
    pub fn new(line_bytes_max: usize) -> Inbox {
        Inbox {
            bytes: Vec::new(),
            start: 0,
            scanned: 0,
            clean: 0,
            telnet: Telnet::default(),
            line_bytes_max,
            is_discarding: false,
            is_fresh: true,
            is_refused: false,
        }
    }

    /// The buffer to read into, with spare capacity for at least `want_bytes` more.
    ///
    /// Append to it and nothing else; what stands in it is the inbox's. Take all lines out before,
    /// or the buffer grows past its bound.
    pub fn room(&mut self, want_bytes: usize) -> &mut Vec<u8> {
        if self.start == self.bytes.len() {
            self.forget_passed();
        }
        if self.bytes.capacity() - self.bytes.len() < want_bytes {
            self.forget_passed();
            self.grow(want_bytes);
        }
        &mut self.bytes
    }

    /// The next whole line; `None` means that more bytes are needed. Blank lines are passed over.
    ///
    /// After [`Line::Http`] it is `None` for ever: nothing of such a connection is to be run.
    // Not an `Iterator`: the lines borrow from the buffer.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Line<'_>> {
        if self.is_refused {
            self.pass(self.bytes.len());
            return None;
        }
        self.clean = self.telnet.strip(&mut self.bytes, self.clean);
        let range = self.cut_told()?;
        let is_whole = range.len() <= self.line_bytes_max;
        // Cut at the limit, so that how much more had arrived makes no difference.
        let line = &self.bytes[range.start..range.end.min(range.start + self.line_bytes_max)];
        if self.is_fresh && http::opens_http(line, is_whole) {
            self.is_refused = true;
            return Some(Line::Http);
        }
        let line = match is_whole {
            true => message::read(line),
            false => message::too_long(line, self.line_bytes_max),
        };
        // A faulty request line settles nothing: the headers behind it still give HTTP away.
        self.is_fresh &= matches!(line, Line::Fault(_));
        Some(line)
    }

    /// At the end of the stream, after [`Inbox::next`] gave `None`: a last line that had no LF.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.telnet = Telnet::default();
        self.bytes.truncate(self.clean);
        // The end of the stream ends the line, as its LF would have.
        if self.start < self.clean {
            self.bytes.push(b'\n');
        }
        self.next()
    }

    /// Whether half a line waits for its other half, once [`Inbox::next`] gave `None`.
    ///
    /// The unseen rest of a line that was too long, and a telnet sequence without its end, count too.
    pub fn is_mid_line(&self) -> bool {
        self.start < self.bytes.len() || self.is_discarding || self.telnet.is_mid_sequence()
    }

    /// How many bytes wait, not yet handed out.
    pub fn buffered(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Gives the buffer's memory back if nothing waits in it: for a connection that has gone quiet.
    pub fn rest(&mut self) {
        if self.start == self.bytes.len() {
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
        let is_empty = self.start == self.bytes.len() && self.bytes.capacity() > 0;
        is_empty.then(|| {
            self.forget_passed();
            mem::take(&mut self.bytes)
        })
    }

    /// Passes over blank lines, and gives the next other one's range.
    fn cut_told(&mut self) -> Option<Range<usize>> {
        loop {
            let range = self.cut()?;
            let is_whole = range.len() <= self.line_bytes_max;
            if !(is_whole && self.bytes[range.clone()].trim_ascii().is_empty()) {
                return Some(range);
            }
        }
    }

    /// Takes one line off the front: its range without the LF. One longer than the limit may be
    /// unended; whatever there still is of it will be discarded.
    fn cut(&mut self) -> Option<Range<usize>> {
        loop {
            let line_end = memchr(b'\n', &self.bytes[self.scanned..self.clean]);
            let Some(at) = line_end else {
                return self.cut_unended();
            };
            let range = self.start..self.scanned + at;
            self.pass(range.end + 1);
            if !mem::take(&mut self.is_discarding) {
                return Some(range);
            }
        }
    }

    /// What to do with bytes that no LF ends yet: keep them, or give up on them.
    fn cut_unended(&mut self) -> Option<Range<usize>> {
        let range = self.start..self.clean;
        let is_too_long = range.len() > self.line_bytes_max;
        if !self.is_discarding && !is_too_long {
            self.scanned = self.clean;
            return None;
        }
        self.pass(self.clean);
        let was_told = mem::replace(&mut self.is_discarding, true);
        (!was_told).then_some(range)
    }

    /// Counts everything before `end` as handed out. It stays in the buffer until the next read.
    fn pass(&mut self, end: usize) {
        self.start = end;
        self.scanned = end;
        self.clean = self.clean.max(end);
    }

    /// Moves what waits to the front of the buffer, over what was handed out.
    fn forget_passed(&mut self) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.clean -= self.start;
        self.start = 0;
    }

    /// Doubles the capacity, but not past what the longest line and one read need.
    fn grow(&mut self, want_bytes: usize) {
        let used = self.bytes.len();
        let most = self.line_bytes_max + telnet::TAIL_BYTES_MAX + want_bytes;
        let capacity = most.min(2 * self.bytes.capacity()).max(used + want_bytes);
        self.bytes.reserve_exact(capacity - used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, LINE_BYTES_MAX, Message};

    fn inbox_of(bytes: &[u8], line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.room(bytes.len()).extend_from_slice(bytes);
        inbox
    }

    /// The name and arguments of each message, or the code of each fault, to the end of the stream.
    fn told(inbox: &mut Inbox) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(line) = inbox.next() {
            told.push(line_told(line));
        }
        told.extend(inbox.finish().map(line_told));
        told
    }

    fn line_told(line: Line<'_>) -> String {
        match line {
            Line::Message(Message {
                name, arguments, ..
            }) => format!("{name} {arguments}"),
            Line::Fault(fault) => format!("!{} {}", fault.code, fault.command),
            Line::Http => "HTTP".to_owned(),
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
