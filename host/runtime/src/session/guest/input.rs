//! The input side of a connection: the bytes that came and have no answer yet, and whether more may come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use dae_common_tcp::{Inbox, Message, TraceParent};
use tokio::io::AsyncRead;

/// The size of one read (bytes): as much as a socket's buffer usually holds.
const READ_BYTES: usize = 16 << 10;

/// The input side of a connection.
pub(super) struct Input {
    pub(super) inbox: Inbox,
    /// A command that waits for a reservation. Boxed, since few guests ever have one.
    pub(super) deferred: Option<Box<DeferredCommand>>,
    /// The trace of the next command. Boxed, since few guests ever name one.
    pub(super) trace: Option<Box<TraceParent>>,
    stage: InputStage,
    has_spoken: bool,
}

/// Whether more input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputStage {
    Open,
    /// The guest has finished sending. What it sent is still answered.
    Ended,
    /// The connection is to be closed. What is unanswered stays so.
    Closing,
}

impl Input {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Input {
            inbox: Inbox::new(line_bytes_max),
            deferred: None,
            trace: None,
            stage: InputStage::Open,
            has_spoken: false,
        }
    }

    /// Reads once. Returns false if the connection has failed; a guest that has only finished sending is still there.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<bool> {
        let room = self.inbox.room(READ_BYTES);
        let read: io::Result<usize> = ready!(tokio_util::io::poll_read_buf(
            Pin::new(stream),
            context,
            room
        ));
        if matches!(read, Ok(0)) && self.stage == InputStage::Open {
            self.stage = InputStage::Ended;
        }
        Poll::Ready(read.is_ok())
    }

    /// Ends the input: the connection is to be closed.
    pub(super) fn close(&mut self) {
        self.stage = InputStage::Closing;
    }

    /// Returns whether the connection is to be closed.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.stage == InputStage::Closing
    }

    /// Returns whether nothing more is read.
    #[inline]
    pub(super) fn is_deaf(&self) -> bool {
        self.stage != InputStage::Open
    }

    /// Returns whether the input has ended and nothing of it waits for an answer. `has_all` is true if all whole lines
    /// were taken.
    pub(super) fn is_over(&self, has_all: bool) -> bool {
        match self.stage {
            InputStage::Open => false,
            InputStage::Ended => has_all && self.deferred.is_none(),
            InputStage::Closing => self.deferred.is_none(),
        }
    }

    /// Returns whether no input waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.inbox.buffered() == 0 && self.deferred.is_none()
    }

    /// Takes the inbox out, so that its lines can be answered. The caller puts it back.
    #[inline]
    pub(super) fn take_inbox(&mut self) -> Inbox {
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        if self.stage == InputStage::Ended {
            inbox.end();
        }
        inbox
    }

    /// Notes that whole lines were taken. Returns true the first time.
    #[inline]
    pub(super) fn note_lines(&mut self) -> bool {
        !std::mem::replace(&mut self.has_spoken, true)
    }
}

/// A command that waits for a reservation.
pub(super) struct DeferredCommand {
    /// Its index in the command table.
    pub(super) index: u32,
    line: Vec<u8>,
}

impl DeferredCommand {
    /// Copies a command out of the inbox.
    pub(super) fn of(message: &Message<'_>, index: u32) -> Box<Self> {
        let (name, arguments) = (message.name, message.arguments);
        let line = match message.tag {
            Some(tag) => format!("{name}#{tag} {arguments}\n"),
            None => format!("{name} {arguments}\n"),
        };
        let line = line.into_bytes();
        Box::new(DeferredCommand { index, line })
    }

    /// Returns an inbox that holds its line alone.
    pub(super) fn inbox(&self) -> Inbox {
        let mut inbox = Inbox::resumed(self.line.len());
        inbox.room(self.line.len()).extend_from_slice(&self.line);
        inbox
    }
}

#[cfg(test)]
mod tests {
    use dae_common_tcp::Line;
    use futures_util::FutureExt as _;

    use super::*;

    fn input(mut bytes: &[u8]) -> Input {
        let mut input = Input::new(100);
        let read = std::future::poll_fn(|context| input.read(&mut bytes, context));
        assert_eq!(read.now_or_never(), Some(true));
        input
    }

    #[test]
    fn what_was_sent_before_the_end_is_answered_first() {
        let mut input = input(b"add [1]\nadd [2]");
        let mut end: &[u8] = b"";
        let read = std::future::poll_fn(|context| input.read(&mut end, context));
        assert_eq!(read.now_or_never(), Some(true));
        assert!(input.is_deaf() && !input.is_closing());
        assert!(!input.is_over(false) && input.is_over(true));
        let mut inbox = input.take_inbox();
        let mut lines = 0;
        while let Some(Line::Message(_)) = inbox.next() {
            lines += 1;
        }
        assert_eq!(lines, 2, "the last line needs no LF");
    }

    #[test]
    fn a_close_is_final() {
        let mut input = input(b"add [1]\n");
        input.close();
        let mut end: &[u8] = b"";
        let read = std::future::poll_fn(|context| input.read(&mut end, context));
        assert_eq!(read.now_or_never(), Some(true));
        assert!(input.is_closing() && input.is_over(false));
    }

    #[test]
    fn a_deferred_command_is_the_line_that_came() {
        for line in ["add [1,2]\n", "add#7 [1,2]\n", "now \n"] {
            let mut inbox = Inbox::resumed(line.len());
            inbox.room(line.len()).extend_from_slice(line.as_bytes());
            let Some(Line::Message(message)) = inbox.next() else {
                panic!("{line}");
            };
            let deferred = DeferredCommand::of(&message, 3);
            assert_eq!(
                deferred.inbox().next(),
                Some(Line::Message(message)),
                "{line}"
            );
        }
    }
}
