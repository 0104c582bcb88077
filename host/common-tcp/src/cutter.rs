//! Cuts the bytes of an inbox into lines.
//!
//! The bytes belong to the inbox. The cutter tracks how many were handed out and what the next ones are. A
//! connection is *fresh* until its first line that can be read. Only a fresh connection is checked for other
//! protocols and byte order marks.

use std::{mem, ops::Range, str};

use memchr::{memchr, memrchr};

use crate::{
    http,
    message::{self, Line},
    opening::{self, Hidden, Protocol},
};

/// The number of bytes checked ahead of the lines that are handed out: some hundred lines of the usual size. The
/// limit keeps repeated checks short if a caller stops in between.
const WINDOW_BYTES: usize = 4 << 10;

/// The state of an inbox's bytes: how many were handed out and what the next ones are. The bytes belong to the
/// inbox.
#[derive(Debug)]
pub(crate) struct Cutter {
    pub(crate) start: usize,
    pub(crate) scanned: usize,
    pub(crate) clean: usize,
    pub(crate) line_bytes_max: usize,
    /// True while the rest of a line that was too long is still arriving.
    pub(crate) is_discarding: bool,
    /// True until the first line that is not blank.
    is_first: bool,
    /// True until the first line that can be read. Only such a connection can turn out to be of another protocol.
    pub(crate) is_fresh: bool,
    /// True if the connection was accepted. Then the first bytes are a guest's, not a server's greeting.
    pub(crate) is_accepting: bool,
    /// True once the connection was of another protocol. Nothing that follows is a line.
    is_refused: bool,
    /// The text that telnet may hide. It exists while the connection is fresh, from its first telnet on.
    pub(crate) hidden: Option<Box<Hidden>>,
}

/// A position of a cutter, to return to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    start: usize,
    is_discarding: bool,
    is_first: bool,
    is_fresh: bool,
}

impl Cutter {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Cutter {
            start: 0,
            scanned: 0,
            clean: 0,
            line_bytes_max,
            is_discarding: false,
            is_first: true,
            is_fresh: true,
            is_accepting: true,
            is_refused: false,
            hidden: None,
        }
    }

    /// Returns the complete UTF-8 lines at the front, up to the window's size. Returns an empty text if the next
    /// line can't be a plain one.
    pub(crate) fn look_ahead<'b>(&self, bytes: &'b [u8]) -> &'b str {
        if self.is_fresh || self.is_discarding {
            return "";
        }
        let window = &bytes[self.start..self.clean.min(self.start + WINDOW_BYTES)];
        let window = whole_lines(window);
        match str::from_utf8(window) {
            Ok(text) => text,
            Err(fault) => {
                str::from_utf8(whole_lines(&window[..fault.valid_up_to()])).unwrap_or_default()
            }
        }
    }

    /// Returns the next line. See [`crate::Inbox::next`].
    pub(crate) fn next<'b>(&mut self, bytes: &'b [u8]) -> Option<Line<'b>> {
        if self.is_refused {
            self.pass(bytes.len());
            return None;
        }
        if self.is_fresh {
            return self.next_of_fresh(bytes);
        }
        if self.start == self.clean {
            return None;
        }
        loop {
            let range = self.cut(bytes)?;
            if !self.is_blank(&bytes[range.clone()]) {
                return Some(self.read(bytes, range));
            }
        }
    }

    /// Returns the next line of a connection that may still turn out to be of another protocol.
    #[cold]
    fn next_of_fresh<'b>(&mut self, bytes: &'b [u8]) -> Option<Line<'b>> {
        loop {
            self.discard(bytes);
            if let Some(protocol) = self.hidden_before(self.start) {
                return Some(self.refuse(protocol));
            }
            if self.is_first {
                self.skip_byte_order_marks(bytes);
            }
            let rest = &bytes[self.start..self.clean];
            if rest.is_empty() || (self.is_first && opening::is_half_byte_order_mark(rest)) {
                return None;
            }
            let within_limit = &rest[..rest.len().min(self.line_bytes_max)];
            if self.is_accepting
                && self.is_first
                && let Some(at) = opening::begins_binary(within_limit)
            {
                // Only what came before that byte decides, however much has come since.
                let hidden = self.hidden_before(self.start + at);
                return Some(self.refuse(hidden.unwrap_or(Protocol::Binary)));
            }
            let cut = self.cut(bytes);
            if let Some(protocol) = self.hidden_in(cut.as_ref()) {
                return Some(self.refuse(protocol));
            }
            let range = cut?;
            if !self.is_blank(&bytes[range.clone()]) {
                return Some(self.read_first(bytes, range));
            }
        }
    }

    /// Drops the buffered rest of a line that was too long.
    fn discard(&mut self, bytes: &[u8]) {
        if self.is_discarding {
            let line_end = memchr(b'\n', &bytes[self.scanned..self.clean]);
            let end = line_end.map_or(self.clean, |at| self.scanned + at + 1);
            self.pass(end);
            self.is_discarding = line_end.is_none();
        }
    }

    fn skip_byte_order_marks(&mut self, bytes: &[u8]) {
        let rest = &bytes[self.start..self.clean];
        self.start = self.clean - opening::skip_byte_order_marks(rest).len();
        self.scanned = self.scanned.max(self.start);
    }

    /// Reads a line that may be the connection's first.
    fn read_first<'b>(&mut self, bytes: &'b [u8], range: Range<usize>) -> Line<'b> {
        self.is_first = false;
        let is_whole = range.len() <= self.line_bytes_max;
        let line = self.limited(bytes, &range);
        let other = match self.is_accepting {
            true => opening::of_line(line, is_whole),
            false => http::opens_http(line, is_whole).then_some(Protocol::Http),
        };
        if let Some(protocol) = other {
            return self.refuse(protocol);
        }
        let line = self.read(bytes, range);
        // A faulty request line settles nothing: the headers behind it can still show that this is HTTP.
        self.is_fresh = matches!(line, Line::Fault(_));
        if !self.is_fresh {
            self.hidden = None;
        }
        line
    }

    fn read<'b>(&self, bytes: &'b [u8], range: Range<usize>) -> Line<'b> {
        let line = self.limited(bytes, &range);
        match range.len() <= self.line_bytes_max {
            true => message::read(line),
            false => message::too_long(line, self.line_bytes_max),
        }
    }

    /// Returns the line, cut at the limit, so that the result doesn't depend on how much more has arrived.
    fn limited<'b>(&self, bytes: &'b [u8], range: &Range<usize>) -> &'b [u8] {
        &bytes[range.start..range.end.min(range.start + self.line_bytes_max)]
    }

    fn refuse<'b>(&mut self, protocol: Protocol) -> Line<'b> {
        self.is_refused = true;
        self.hidden = None;
        Line::OtherProtocol(protocol)
    }

    /// Returns whether a line is within the limit and blank. Such lines are skipped.
    fn is_blank(&self, line: &[u8]) -> bool {
        line.len() <= self.line_bytes_max && line.trim_ascii().is_empty()
    }

    /// Returns the position of the next line, for [`Cutter::go_back_to`].
    pub(crate) fn place(&self) -> Position {
        Position {
            start: self.start,
            is_discarding: self.is_discarding,
            is_first: self.is_first,
            is_fresh: self.is_fresh,
        }
    }

    /// Undoes one call of [`Cutter::next`] that returned a message.
    pub(crate) fn go_back_to(&mut self, place: Position) {
        self.start = place.start;
        self.scanned = place.start;
        self.is_discarding = place.is_discarding;
        self.is_first = place.is_first;
        self.is_fresh = place.is_fresh;
    }

    /// Starts to record what telnet removes, on a guest's connection that has sent no good line yet.
    pub(crate) fn watch_hidden(&mut self, bytes: &[u8]) {
        if !self.is_fresh || !self.is_accepting || self.hidden.is_some() {
            return;
        }
        let before = &bytes[self.start..self.clean];
        let line = memrchr(b'\n', before).map_or(0, |at| at + 1);
        let is_past_max = self.is_discarding && line == 0;
        let beginning = (!is_past_max).then_some(&before[line..]);
        let hidden = Hidden::behind(beginning, self.line_bytes_max);
        self.hidden = Some(Box::new(hidden));
    }

    /// Returns the protocol that telnet hid up to `place`.
    fn hidden_before(&self, place: usize) -> Option<Protocol> {
        let (at, protocol) = self.hidden.as_ref()?.found()?;
        (at <= place).then_some(protocol)
    }

    /// Returns the protocol that telnet hid before the end of the line that was cut, or in a line that has not
    /// ended. If the line is too long, only what is within the limit counts: the fault is reported first.
    fn hidden_in(&self, cut: Option<&Range<usize>>) -> Option<Protocol> {
        let place = match cut {
            Some(range) if range.len() > self.line_bytes_max => range.start + self.line_bytes_max,
            Some(range) => range.end,
            None => usize::MAX,
        };
        self.hidden_before(place)
    }

    /// Adjusts the positions after everything before `start` was removed from the buffer.
    pub(crate) fn forget_passed(&mut self) {
        if let Some(hidden) = &mut self.hidden {
            hidden.forget(self.start);
        }
        self.scanned -= self.start;
        self.clean -= self.start;
        self.start = 0;
    }

    /// Takes one line off the front and returns its range without the LF. A line longer than the limit may not have
    /// ended. The rest of it will be discarded.
    fn cut(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        loop {
            let line_end = memchr(b'\n', &bytes[self.scanned..self.clean]);
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

    /// Decides about bytes without an LF: keeps them, or gives them up if they are past the limit.
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

    /// Marks everything before `end` as handed out. It stays in the buffer until the next read.
    #[inline]
    pub(crate) fn pass(&mut self, end: usize) {
        self.start = end;
        self.scanned = end;
        self.clean = self.clean.max(end);
    }
}

/// Returns the bytes up to and including the last LF.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    &bytes[..end]
}
