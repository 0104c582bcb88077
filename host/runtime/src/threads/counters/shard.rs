//! Counts that many threads, or another process, add to: calls, errors, and latencies in narrow buckets.
//!
//! The buckets are those of OpenTelemetry's exponential histogram at scale 2: the bound of each is 2^(1/4) times the one
//! before, so that a quantile is within 19 % of the true value. A bound belongs to the bucket below it. A shard takes
//! 1.2 KB; a finer histogram costs 20 KB, and there may be ten thousand daemons.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::batch::BatchCounts;

/// Four buckets for each power of two, from 2^2 ns up to 2^39 ns (550 s). Longer latencies count in the last bucket.
pub(super) const BUCKETS: usize = 4 * 37;

/// The numbers of a shard: calls, errors, panics, and the buckets.
pub(super) type ShardCounts = [u64; 3 + BUCKETS];

/// Counts that any number of threads may add to. All zero bytes are a valid empty shard.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Shard {
    pub(super) calls: AtomicU64,
    pub(super) errors: AtomicU64,
    panics: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Shard {
    fn default() -> Self {
        Shard {
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Shard {
    /// Adds commands that each waited `latency`.
    #[inline]
    pub fn add(&self, counts: BatchCounts, latency: Duration) {
        self.calls.fetch_add(counts.calls, Relaxed);
        self.buckets[bucket_of(latency)].fetch_add(counts.calls, Relaxed);
        if counts.errors > 0 {
            self.errors.fetch_add(counts.errors, Relaxed);
            self.panics.fetch_add(counts.panics, Relaxed);
        }
    }

    /// Adds numbers of another shard.
    pub(super) fn add_all(&self, numbers: &ShardCounts) {
        for (own, others) in self.counters().zip(numbers) {
            own.fetch_add(*others, Relaxed);
        }
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        let first = [&self.calls, &self.errors, &self.panics];
        first.into_iter().chain(&self.buckets)
    }

    /// Returns its numbers as they are now.
    pub(super) fn numbers(&self) -> ShardCounts {
        let mut numbers = [0; 3 + BUCKETS];
        for (number, counter) in numbers.iter_mut().zip(self.counters()) {
            *number = counter.load(Relaxed);
        }
        numbers
    }
}

/// 2^62 times the first three quarter powers of two, rounded down.
const QUARTERS: [u64; 3] = [
    5_484_249_825_272_419_511,
    6_521_908_912_666_391_106,
    7_755_900_482_342_532_474,
];

fn bucket_of(latency: Duration) -> usize {
    let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    if ns <= 4 {
        return 0;
    }
    // The last bucket begins below 2^39.
    let ns = ns.min(1 << 39);
    let octave = (ns - 1).ilog2();
    // Between 2^62 and 2^63. Nothing is shifted out, so the comparison with the bounds is exact.
    let scaled = ns << (62 - octave);
    let quarter: usize = QUARTERS
        .iter()
        .map(|bound| usize::from(scaled > *bound))
        .sum();
    4 * (octave as usize - 2) + quarter
}

/// Returns the upper bound of a bucket in nanoseconds. The bucket below it has the lower one.
#[allow(clippy::cast_precision_loss)]
pub(super) fn bound_ns(bucket: usize) -> f64 {
    ((bucket + 9) as f64 / 4.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_duration_has_a_bucket() {
        for ns in [0, 1, 3, 4, 5, 1 << 20, 1 << 38, 1 << 39, u64::MAX] {
            assert!(bucket_of(Duration::from_nanos(ns)) < BUCKETS, "{ns}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_has_the_latencies_above_the_bound_before_it_and_up_to_its_own() {
        for bucket in 0..BUCKETS {
            let bound = bound_ns(bucket);
            // A bound that is no power of two is no whole number.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let last = bound.floor() as u64;
            assert_eq!(bucket_of(Duration::from_nanos(last)), bucket, "{bound}");
            let next = (bucket + 1).min(BUCKETS - 1);
            assert_eq!(bucket_of(Duration::from_nanos(last + 1)), next, "{bound}");
        }
    }
}
