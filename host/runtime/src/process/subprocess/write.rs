//! The writes of frames to a subprocess. A guest's task writes what it has queued itself. Guests that get replies together
//! share one write of their next commands. Whatever a full socket leaves over, the process supervisor writes later.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::{Link, lock};

/// The number of answers that come together from which the guests' next commands share a write.
const SHARED_MIN: usize = 2;

impl Link {
    /// Writes as much as the socket takes; the process supervisor writes the rest. If that holds frames back, it writes all.
    pub(super) fn flush(&self) {
        // The reading task sees a failure.
        let _ = self.try_flush();
    }

    /// Does the same.
    ///
    /// # Errors
    /// The system's error, such as that the subprocess has ended. A full socket is none.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        // A task that still finds it set has queued its frames before the process supervisor locks the queue.
        if self.is_held.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = lock(&self.outgoing).write(|bytes| self.stream.try_write(bytes));
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.more.notify_one();
                Ok(())
            }
            written => written,
        }
    }

    /// Makes [`Link::flush`] leave everything to the next call of [`Link::write_together`].
    pub(super) fn hold_back(&self) {
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// Writes what was held back. If there were so many answers, the guests that got them have a turn first.
    pub(super) async fn write_together(&self, answers: usize) {
        if answers >= SHARED_MIN {
            after_those_woken().await;
        }
        self.is_held.store(false, Ordering::Relaxed);
        self.flush();
    }
}

/// Writes the bytes that a full socket has left over, whenever there are some.
pub(super) async fn write_rest(link: &Link) -> std::convert::Infallible {
    loop {
        link.more.notified().await;
        while !lock(&link.outgoing).is_empty() {
            // The reading task sees the failure.
            if link.stream.writable().await.is_err() {
                return std::future::pending().await;
            }
            link.flush();
            tokio::task::yield_now().await;
        }
    }
}

/// Returns once the tasks that are ready to run have had a turn, as far as other threads leave them to this one.
async fn after_those_woken() {
    let mut had_turn = false;
    poll_fn(|context| match std::mem::replace(&mut had_turn, true) {
        true => Poll::Ready(()),
        false => {
            // To the end of the queue, from which another thread may take it.
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn those_that_are_woken_have_their_turn_first() {
        let turns = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.fetch_add(1, Ordering::Relaxed) });
        }
        assert_eq!(turns.load(Ordering::Relaxed), 0);
        after_those_woken().await;
        assert_eq!(turns.load(Ordering::Relaxed), 3);
    }
}
