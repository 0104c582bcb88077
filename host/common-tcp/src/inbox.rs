//! The read side of one connection: takes bytes and returns lines, without copying a line.
//!
//! The socket reads straight into the inbox's one buffer ([`Inbox::room`]), and the lines borrow from it. Telnet is
//! removed in place before the search for line ends. The price: a line can't outlive the next read.
//!
//! [`Lines`] handles a buffer full of lines in one pass. It checks a window of complete lines for UTF-8 at once,
//! and reads each plain line in one look at its bytes. Every other line (blank, tagged, too long, not UTF-8, a
//! connection's first) is read by the full rules, one by one.
//!
//! Invariants, with `bytes` as `[handed out | start .. scanned .. clean .. len]`:
//! - `start..scanned` holds no LF. `start..clean` holds no telnet. Past `clean` is what came since, or the
//!   beginning of an incomplete telnet sequence.
//! - A line past the limit is one fault, reported as soon as the limit is passed. The rest up to its LF is dropped
//!   as it comes.
//! - If the lines are read until `None` between reads, the buffer stays below the line limit plus one read.
//! - A plain line gives the same message either way.
//!
//! The inbox has no clock: its owner limits how long half a line may wait.

use std::mem;

use crate::{
    Fault, Protocol,
    cutter::Cutter,
    message::{self, Before, Line, Message},
    telnet::{self, Telnet},
};

/// The bytes that one connection sent and that were not handed out yet.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    telnet: Telnet,
    cutter: Cutter,
}

/// The result of [`Inbox::front`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front<'a> {
    /// No complete line.
    Nothing,
    /// A message. It stays in the inbox.
    Message,
    /// A line to answer with an error. It is taken out.
    Fault(Fault<'a>),
    /// The opening of another protocol, as [`Line::OtherProtocol`] says.
    OtherProtocol(Protocol),
}

/// An iterator over the complete lines. Dropping it early leaves the rest for the next call.
#[derive(Debug)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    cutter: &'a mut Cutter,
    /// The next complete lines, if they are known to be UTF-8 and a plain line may be among them.
    text: &'a str,
    before: Before<'a>,
}

impl Inbox {
    /// Creates an inbox for the side that accepted the connection, for lines of at most `line_bytes_max` bytes
    /// before their LF. Allocates nothing yet.
    pub fn new(line_bytes_max: usize) -> Inbox {
        Inbox {
            bytes: Vec::new(),
            telnet: Telnet::default(),
            cutter: Cutter::new(line_bytes_max),
        }
    }

    /// Creates an inbox for the side that connected. A server may send any greeting first: only HTTP ends the
    /// connection.
    pub fn connecting(line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.cutter.is_accepting = false;
        inbox
    }

    /// Creates an inbox for a connection that has sent lines before. It doesn't look for other protocols.
    pub fn resumed(line_bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(line_bytes_max);
        inbox.cutter.is_fresh = false;
        inbox
    }

    /// Returns the buffer to read into, with spare capacity for at least `want_bytes` more.
    ///
    /// Only append to it: its contents belong to the inbox. Take all lines out first, or the buffer grows past its
    /// bound.
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

    /// Returns the complete lines, for a caller that takes many. Skips blank lines.
    ///
    /// After [`Line::OtherProtocol`] there are never any more: nothing of such a connection may run.
    pub fn lines(&mut self) -> Lines<'_> {
        self.strip();
        Lines {
            text: self.cutter.look_ahead(&self.bytes),
            bytes: &self.bytes,
            cutter: &mut self.cutter,
            before: Before::default(),
        }
    }

    /// Returns the next line, as [`Inbox::lines`] does. `None` means that more bytes are needed.
    // Not an `Iterator`: the lines borrow from the buffer.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Line<'_>> {
        self.strip();
        self.cutter.next(&self.bytes)
    }

    /// Takes the next line if no receiver could accept it. A message stays. Skips blank lines.
    pub fn front(&mut self) -> Front<'_> {
        self.strip();
        let before = self.cutter.place();
        match self.cutter.next(&self.bytes) {
            None => Front::Nothing,
            Some(Line::Fault(fault)) => Front::Fault(fault),
            Some(Line::OtherProtocol(protocol)) => Front::OtherProtocol(protocol),
            Some(Line::Message(_)) => {
                self.cutter.go_back_to(before);
                Front::Message
            }
        }
    }

    /// Ends the stream. A last line without an LF then counts as ended.
    pub fn end(&mut self) {
        self.strip();
        self.telnet = Telnet::default();
        self.bytes.truncate(self.cutter.clean);
        if self.buffered() > 0 && self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b'\n');
        }
    }

    /// Ends the stream after [`Inbox::next`] returned `None`. Returns a last line that had no LF.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.end();
        self.next()
    }

    /// Returns whether half a line waits for its rest, once [`Inbox::next`] has returned `None`.
    ///
    /// The rest of a line that was too long and an incomplete telnet sequence count too.
    pub fn is_mid_line(&self) -> bool {
        self.buffered() > 0 || self.cutter.is_discarding || self.telnet.is_mid_sequence()
    }

    /// Returns the number of bytes that were not handed out yet.
    pub fn buffered(&self) -> usize {
        self.bytes.len() - self.cutter.start
    }

    /// Frees the buffer's memory if it holds no waiting bytes, for a connection that has gone quiet.
    pub fn rest(&mut self) {
        if self.buffered() == 0 {
            self.forget_passed();
            self.bytes = Vec::new();
        }
    }

    /// Gives an inbox without a buffer one to read into, so that quiet connections share a few buffers.
    pub fn lend(&mut self, mut spare: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            spare.clear();
            self.bytes = spare;
        }
    }

    /// Takes the buffer back if it holds no waiting bytes.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        let is_empty = self.buffered() == 0 && self.bytes.capacity() > 0;
        is_empty.then(|| {
            self.forget_passed();
            mem::take(&mut self.bytes)
        })
    }

    /// Removes the telnet from the bytes that came since the last call.
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

    /// Removes what was handed out, by moving the waiting bytes to the front of the buffer.
    fn forget_passed(&mut self) {
        self.bytes.drain(..self.cutter.start);
        self.cutter.forget_passed();
    }

    /// Doubles the capacity, but not beyond the longest line plus one read.
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
    /// Returns the number of bytes behind the lines that were handed out.
    #[must_use]
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.cutter.start
    }

    /// Returns the next line if it is plain and its text was checked already. `None` doesn't mean that there is no
    /// line.
    ///
    /// In a run of lines with the same short name, the names are the same slice.
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
        // This is the end of a line, or lies past the text.
        let passed = self.cutter.start - before;
        self.text = self.text.get(passed..).unwrap_or_default();
        line
    }
}

#[cfg(test)]
mod tests;
