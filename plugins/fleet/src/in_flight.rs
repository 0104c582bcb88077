//! Counts the calls that run, so that the end of an instance can wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The number of calls that run.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Count>);

#[derive(Default)]
struct Count {
    running: AtomicUsize,
    ended: Notify,
}

/// A call that runs, until it is dropped.
pub(crate) struct Running(Arc<Count>);

impl InFlight {
    /// Counts a call. Returns `None` if `max` run already.
    pub(crate) fn begin(&self, max: usize) -> Option<Running> {
        let running = Running(Arc::clone(&self.0));
        let earlier = self.0.running.fetch_add(1, Ordering::AcqRel);
        (earlier < max).then_some(running)
    }

    /// Waits until no call runs any more, for a limited time.
    pub(crate) async fn drained(&self, limit: Duration) {
        let drained = async {
            loop {
                let ended = self.0.ended.notified();
                if self.0.running.load(Ordering::Acquire) == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_what_runs_and_not_for_ever() {
        let calls = InFlight::default();
        let (first, second) = (calls.begin(1), calls.begin(1));
        assert!(first.is_some() && second.is_none());
        calls.drained(Duration::from_millis(10)).await;
        let waiting = tokio::spawn({
            let calls = calls.clone();
            async move { calls.drained(Duration::from_secs(60)).await }
        });
        drop(first);
        waiting.await.unwrap();
    }
}
