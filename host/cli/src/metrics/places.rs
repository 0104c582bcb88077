//! Places for connections, and who gives way when all are taken.
//!
//! A client that hangs costs a place and nothing else. When no place is free, the client that has held one for longest
//! loses it to the next client, but only after a time that is enough for every quick client. So clients that hang delay
//! a scrape by a moment, however many they are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use dae_store::lock::lock;

/// A number of places.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    /// The time for which nobody loses a place.
    held_min: Duration,
    /// The holders, the longest-standing first.
    holders: Mutex<VecDeque<Arc<Holder>>>,
    changed: Notify,
}

#[derive(Debug)]
struct Holder {
    since: Instant,
    /// Notified when the place is lost.
    lost: Arc<Notify>,
}

/// A place, until it is dropped or lost.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    holder: Arc<Holder>,
}

impl Places {
    pub(super) fn new(max: usize, held_min: Duration) -> Arc<Self> {
        Arc::new(Places {
            max,
            held_min,
            holders: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Waits for a place, and takes it. `lost` is notified if it is lost.
    pub(super) async fn take(self: &Arc<Self>, lost: &Arc<Notify>) -> Place {
        loop {
            let changed = self.changed.notified();
            match self.try_take(lost) {
                Ok(place) => return place,
                Err(wait) => {
                    let _ = tokio::time::timeout(wait, changed).await;
                }
            }
        }
    }

    /// Takes a place, or returns the time until a holder may lose one.
    fn try_take(self: &Arc<Self>, lost: &Arc<Notify>) -> Result<Place, Duration> {
        let mut holders = lock(&self.holders);
        if holders.len() >= self.max
            && let Some(oldest) = holders.front()
        {
            let held = oldest.since.elapsed();
            if held < self.held_min {
                return Err(self.held_min - held);
            }
            oldest.lost.notify_one();
            holders.pop_front();
        }
        let holder = Arc::new(Holder {
            since: Instant::now(),
            lost: Arc::clone(lost),
        });
        holders.push_back(Arc::clone(&holder));
        Ok(Place {
            of: Arc::clone(self),
            holder,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.of.holders).retain(|one| !Arc::ptr_eq(one, &self.holder));
        self.of.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that is longer than any test.
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_place_that_is_free_again_is_taken() {
        let places = Places::new(1, FOR_EVER);
        let lost = Arc::new(Notify::new());
        let first = places.take(&lost).await;
        assert!(places.try_take(&lost).is_err());
        let next = tokio::spawn({
            let (places, lost) = (Arc::clone(&places), Arc::clone(&lost));
            async move { places.take(&lost).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        let second = next.await.expect("no panic");
        assert!(places.try_take(&lost).is_err());
        drop(second);
        assert!(places.try_take(&lost).is_ok());
    }

    #[tokio::test]
    async fn the_longest_standing_client_loses_its_place() {
        let places = Places::new(2, Duration::from_millis(20));
        let lost = [(); 3].map(|()| Arc::new(Notify::new()));
        let first = places.take(&lost[0]).await;
        let _second = places.take(&lost[1]).await;
        let _third = places.take(&lost[2]).await;
        assert!(first.holder.since.elapsed() >= places.held_min);
        lost[0].notified().await;
        // A place that was lost is not given back a second time.
        drop(first);
        assert_eq!(lock(&places.holders).len(), 2);
    }
}
