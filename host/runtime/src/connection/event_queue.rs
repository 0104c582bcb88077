//! A queue of lines for one reader, who takes them when he can: bounded, and never waited for.
//!
//! Whoever has something for the reader leaves it here and wakes him. Past the bound nothing more is taken, and the reader
//! is one that is too slow, which ends what he reads from.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use dae_store::lock::lock;

/// Lines that wait for a reader who doesn't read, in bytes (Common TCP, hostile input).
pub const FEED_BYTES_MAX: usize = 4 << 20;

/// See the file's head.
#[derive(Debug, Default)]
pub struct EventQueue {
    lines: Mutex<Vec<u8>>,
    /// Whether there is anything in `lines`, so that a reader nobody writes to takes no lock.
    has_mail: AtomicBool,
    is_slow: AtomicBool,
    has_ended: AtomicBool,
    reader: AtomicWaker,
}

impl EventQueue {
    /// Leaves one line, without its LF. False once too many wait, or it has ended.
    pub fn push(&self, line: &[u8]) -> bool {
        self.push_within(line, FEED_BYTES_MAX)
    }

    /// As [`EventQueue::push`], where no more than so many bytes wait with it.
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

    /// Whether anything was pushed since it was last taken.
    #[inline]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Appends what was pushed.
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

    /// Whether more was pushed than may wait.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Acquire)
    }

    /// Nothing more comes; what waits can still be taken.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The reader is woken by what comes from now on. Look for what came before after this.
    pub fn watch(&self, context: &Context<'_>) {
        self.reader.register(context.waker());
    }

    /// Has the reader look, for a reason that isn't in the feed.
    pub fn wake(&self) {
        self.reader.wake();
    }

    /// All that waits, each line with its LF; `None` once nothing more comes.
    pub fn poll_lines(&self, context: &Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.watch(context);
        // Asked first: what was pushed before the end is seen by the look that follows.
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
        assert!(event_queue.push(&vec![b'x'; FEED_BYTES_MAX - 10]));
        assert!(!event_queue.push(&[b'y'; 20]));
        assert!(!event_queue.push(b"z"));
        let Poll::Ready(Some(lines)) = look(&event_queue) else {
            panic!("what was there")
        };
        assert!(!lines.contains(&b'y') && !lines.contains(&b'z'));
        assert_eq!(look(&event_queue), Poll::Ready(None));
    }
}
