//! The reader's side of an event queue in the host.
//!
//! The host keeps the queue and limits it. This side holds only the last batch of lines. A batch is taken as a whole or
//! not at all, so dropping a future that waits for one loses nothing.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::abi::{HostFault, HostV1};
use crate::{operation, wire};

/// The single reader of an event queue. Dropping it closes the queue.
pub struct EventStream {
    host: HostV1,
    id: u64,
    batch: String,
    /// The start of the next line in the batch.
    at: usize,
    is_over: bool,
    /// Set if the last batch was available at once. In a flood of events, each later batch may be too.
    is_hot: bool,
    /// Set if the last line says that the queue was full.
    is_full: bool,
}

/// The start of the last line of a queue that was full.
const FULL: &str = "disconnect [\"slow-guest";

impl EventStream {
    /// Opens a queue that receives what `operation` reports about `of`. It misses nothing after this call.
    pub fn open(host: HostV1, operation: &str, of: &[u8]) -> Result<Self, HostFault> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        host.ask(operation, &wire::numbered(id, of))?;
        Ok(EventStream {
            host,
            id,
            batch: String::new(),
            at: 0,
            is_over: false,
            is_hot: false,
            is_full: false,
        })
    }

    /// Opens a queue of a guest's events.
    pub fn of_guest(host: HostV1, guest: u64) -> Result<Self, HostFault> {
        EventStream::open(host, operation::GUEST_LISTEN, &guest.to_le_bytes())
    }

    /// Returns the next line, or `None` once there will be no more.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.line_of_batch() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            self.refill().await;
        }
    }

    fn line_of_batch(&mut self) -> Option<String> {
        let rest = self.batch.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split('\n').next().unwrap_or(rest).to_owned();
        self.at += line.len() + 1;
        self.is_full = line.starts_with(FULL);
        Some(line)
    }

    /// Returns whether an ended queue was full. If so, its source may still exist.
    pub fn was_full(&self) -> bool {
        self.is_full
    }

    async fn refill(&mut self) {
        if self.is_hot {
            // Yield, so that a flood of events can't block the thread's other tasks. If this future is dropped during
            // the wait, the caller has yielded too, so the flag is already cleared.
            self.is_hot = false;
            breath().await;
        }
        let id = self.id.to_le_bytes().to_vec();
        let mut pull = pin!(self.host.ask_later(operation::QUEUE_NEXT, id));
        let mut has_waited = false;
        let pulled = std::future::poll_fn(|context| {
            let polled = pull.as_mut().poll(context);
            has_waited |= polled.is_pending();
            polled
        })
        .await;
        match pulled {
            Ok(lines) if !lines.is_empty() => {
                self.batch = String::from_utf8_lossy(&lines).into_owned();
                (self.at, self.is_hot) = (0, !has_waited);
            }
            _ => self.is_over = true,
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if !self.is_over {
            // If the daemon has ended, the queue is already closed and this call has no effect.
            let _ = self
                .host
                .ask(operation::QUEUE_CLOSE, &self.id.to_le_bytes());
        }
    }
}

/// Yields once, so that other tasks can run.
pub async fn breath() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
