//! A bounded queue of lines for one reader, which takes them when it can. Producers never wait for the reader.
//!
//! A producer pushes a line and wakes the reader. Past the limit the queue accepts nothing more and counts as slow,
//! which ends the connection or subscription that the reader reads from.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use dae_store::lock::lock;

/// The limit for unread lines of one reader, in bytes (Common TCP, hostile input).
pub const EVENT_QUEUE_BYTES_MAX: usize = 4 << 20;

/// A bounded queue of lines for one reader.
#[derive(Debug, Default)]
pub struct EventQueue {
    lines: Mutex<Vec<u8>>,
    /// True if `lines` holds anything. Polling an empty queue needs no lock.
    has_mail: AtomicBool,
    is_slow: AtomicBool,
    has_ended: AtomicBool,
    reader: AtomicWaker,
}

impl EventQueue {
    /// Queues one line, given without its LF. Returns false if the queue is full or has ended.
    pub fn push(&self, line: &[u8]) -> bool {
        self.push_within(line, EVENT_QUEUE_BYTES_MAX)
    }

    /// Queues one line as [`EventQueue::push`] does, with a limit of `most` bytes for all queued lines.
    pub fn push_within(&self, line: &[u8], most: usize) -> bool {
        if self.has_ended.load(Ordering::Acquire) {
            return false;
        }
        let mut lines = lock(&self.lines);
        if self.is_slow() || lines.len() + line.len() > most {
            self.is_slow.store(true, Ordering::Release);
        } else {
            lines.extend_from_slice(line);
            lines.push(b'\n');
            self.has_mail.store(true, Ordering::Release);
        }
        drop(lines);
        self.reader.wake();
        !self.is_slow()
    }

    /// Queues one line as [`EventQueue::push_within`] does, if the queue has room for it. Returns false if it has none; the
    /// reader is not slow for that, because the producer waits.
    pub fn offer_within(&self, line: &[u8], most: usize) -> bool {
        if self.has_ended() || self.is_slow() {
            return false;
        }
        let mut lines = lock(&self.lines);
        if lines.len() + line.len() > most {
            return false;
        }
        lines.extend_from_slice(line);
        lines.push(b'\n');
        self.has_mail.store(true, Ordering::Release);
        drop(lines);
        self.reader.wake();
        true
    }

    /// Returns whether anything was pushed since the last take.
    #[inline]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Appends the queued lines to `outbox`.
    #[inline]
    pub fn take_into(&self, outbox: &mut Vec<u8>) {
        if !self.has_mail() {
            return;
        }
        let mut lines = lock(&self.lines);
        self.has_mail.store(false, Ordering::Release);
        match outbox.is_empty() {
            true => std::mem::swap(&mut *lines, outbox),
            false => outbox.append(&mut lines),
        }
    }

    /// Returns whether a push has exceeded the limit.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Acquire)
    }

    /// Ends the queue: it accepts no more lines. Queued lines can still be taken.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Returns whether the queue has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Registers the reader's waker for later pushes. Check for earlier lines after this call.
    pub fn watch(&self, context: &Context<'_>) {
        self.reader.register(context.waker());
    }

    /// Wakes the reader for a reason other than a queued line.
    pub fn wake(&self) {
        self.reader.wake();
    }

    /// Takes all queued lines, each with its LF. Returns `None` once the queue has ended and is empty.
    pub fn poll_lines(&self, context: &Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.watch(context);
        // Checked first, so that the check below still sees lines that were pushed before the end.
        let is_over = self.has_ended() || self.is_slow();
        if self.has_mail() {
            let mut lines = Vec::new();
            self.take_into(&mut lines);
            return Poll::Ready(Some(lines));
        }
        match is_over {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(event_queue: &EventQueue) -> Poll<Option<Vec<u8>>> {
        event_queue.poll_lines(&Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn lines_come_in_order_and_an_end_comes_after_them() {
        let event_queue = EventQueue::default();
        assert_eq!(look(&event_queue), Poll::Pending);
        assert!(event_queue.push(b"a") && event_queue.push(b"b"));
        event_queue.end();
        assert!(!event_queue.push(b"c"));
        assert_eq!(look(&event_queue), Poll::Ready(Some(b"a\nb\n".to_vec())));
        assert_eq!(look(&event_queue), Poll::Ready(None));
    }

    #[test]
    fn a_reader_who_is_too_slow_gets_what_was_there_and_no_more() {
        let event_queue = EventQueue::default();
        assert!(event_queue.push(&vec![b'x'; EVENT_QUEUE_BYTES_MAX - 10]));
        assert!(!event_queue.push(&[b'y'; 20]));
        assert!(!event_queue.push(b"z"));
        let Poll::Ready(Some(lines)) = look(&event_queue) else {
            panic!("what was there")
        };
        assert!(!lines.contains(&b'y') && !lines.contains(&b'z'));
        assert_eq!(look(&event_queue), Poll::Ready(None));
    }
}
