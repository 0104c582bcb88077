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
    Fault, Protocol,
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

/// What [`Inbox::front`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front<'a> {
    /// No whole line.
    Nothing,
    /// A message, which is still there.
    Message,
    /// A line to be answered with an error. It is taken.
    Fault(Fault<'a>),
    /// The connection opens another protocol, as [`Line::OtherProtocol`] says.
    OtherProtocol(Protocol),
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

    /// Takes the next line where it is refused whatever it would be handed to; a message stays. Blank lines are passed over.
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
mod tests;
