//! A feed: a queue of lines in the host, and the one reader of it.
//!
//! The host keeps the queue, and bounds it; here is only the batch that was taken last. A batch is taken whole or not at
//! all, so that dropping a future that waits for it loses nothing.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::abi::{HostFault, HostV1};
use crate::{operation, wire};

/// One reader's queue. Dropped, it is closed.
pub struct Feed {
    host: HostV1,
    id: u64,
    batch: String,
    /// Where the next line of the batch begins.
    at: usize,
    is_over: bool,
    /// The last batch was there at once; the next may be too, and so on without end.
    is_hot: bool,
    /// The last line said that the queue was full.
    is_full: bool,
}

/// How the last line of a feed begins that the host has given up.
const FULL: &str = "disconnect [\"slow-guest";

impl Feed {
    /// A feed of what `operation` says about `of`. From here on it misses nothing.
    pub fn open(host: HostV1, operation: &str, of: &[u8]) -> Result<Self, HostFault> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        host.ask(operation, &wire::numbered(id, of))?;
        Ok(Feed {
            host,
            id,
            batch: String::new(),
            at: 0,
            is_over: false,
            is_hot: false,
            is_full: false,
        })
    }

    /// A feed of a guest's events.
    pub fn of_guest(host: HostV1, guest: u64) -> Result<Self, HostFault> {
        Feed::open(host, operation::GUEST_LISTEN, &guest.to_le_bytes())
    }

    /// The next line; `None` once there will be no more.
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

    /// Of a feed that has ended: whether it was too full, and what it told of may go on.
    pub fn was_full(&self) -> bool {
        self.is_full
    }

    async fn refill(&mut self) {
        if self.is_hot {
            // A flood must not keep the thread from everything else that it runs. Whoever drops this future has let it run.
            self.is_hot = false;
            breath().await;
        }
        let id = self.id.to_le_bytes().to_vec();
        let mut pull = pin!(self.host.ask_later(operation::FEED_NEXT, id));
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

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.is_over {
            // Of a daemon that has ended, it is closed already.
            let _ = self.host.ask(operation::FEED_CLOSE, &self.id.to_le_bytes());
        }
    }
}

/// Lets everything else run first.
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
