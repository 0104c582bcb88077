//! Counts at one moment, and what is computed from them: quantiles, and a histogram for metrics.

use super::shard::{BUCKETS, ShardCounts, bound_ns};

/// The counts of a daemon or of one command at one moment; none before the first command.
#[derive(Debug, Clone, Default)]
pub struct CounterSnapshot(Option<Box<ShardCounts>>);

impl CounterSnapshot {
    /// Adds the numbers of a shard.
    pub(super) fn add(&mut self, numbers: &ShardCounts) {
        let total = self.0.get_or_insert_with(|| Box::new([0; 3 + BUCKETS]));
        for (sum, number) in total.iter_mut().zip(numbers) {
            *sum = sum.wrapping_add(*number);
        }
    }

    /// Adds another snapshot's counts.
    pub(super) fn add_all(&mut self, other: &CounterSnapshot) {
        if let Some(numbers) = &other.0 {
            self.add(numbers);
        }
    }

    /// Returns the number of commands answered.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.number(0)
    }

    /// Returns the number of commands answered with `error`.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.number(1)
    }

    /// Returns the number of commands that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.number(2)
    }

    fn number(&self, at: usize) -> u64 {
        self.0.as_ref().map_or(0, |numbers| numbers[at])
    }

    /// Returns the counts that have come since an earlier snapshot of the same counters.
    #[must_use]
    pub fn since(mut self, earlier: &CounterSnapshot) -> Self {
        if let (Some(now), Some(before)) = (&mut self.0, &earlier.0) {
            for (now, before) in now.iter_mut().zip(before.iter()) {
                *now = now.saturating_sub(*before);
            }
        }
        self
    }

    /// Returns that quantile of the latencies (µs, rounded to two decimals); `None` without a command. It is the upper
    /// bound of a bucket, and at most 19 % above the true value.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let buckets = &self.0.as_ref()?[3..];
        let total = sum_of(buckets);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation
        )]
        let mut left = (total as f64 * quantile).ceil() as u64;
        let bucket = buckets.iter().position(|count| {
            left = left.saturating_sub(*count);
            total > 0 && left == 0
        })?;
        Some((bound_ns(bucket) / 10.0).round() / 100.0)
    }

    /// Returns the latencies in a few wide buckets; `None` without a command.
    #[must_use]
    pub fn latencies(&self) -> Option<LatencyHistogram> {
        let histogram = LatencyHistogram::of(&self.0.as_ref()?[3..]);
        (histogram.count > 0).then_some(histogram)
    }
}

/// The latencies of commands in buckets that are a power of two wide.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyHistogram {
    /// Each bucket's highest latency in seconds, and the commands in this bucket alone. The first bucket has all that
    /// were faster, and the bound of the last one is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The number of commands.
    pub count: u64,
    /// The sum of all latencies in seconds. Each counts as the middle of its narrow bucket, which is within a tenth of
    /// the true value.
    pub sum_s: f64,
}

/// The upper end of the first wide bucket is 2^10 ns (1.024 µs): faster commands need no telling apart.
const OCTAVE_FIRST: usize = 10;
/// The upper end of the last finite wide bucket is 2^36 ns (68.7 s), above the usual limit of a command.
const OCTAVE_LAST: usize = 36;

impl LatencyHistogram {
    fn of(counts: &[u64]) -> Self {
        let mut buckets = Vec::with_capacity(OCTAVE_LAST - OCTAVE_FIRST + 2);
        let mut from = 0;
        for octave in OCTAVE_FIRST..=OCTAVE_LAST {
            let to = 4 * (octave - 2);
            buckets.push((power_of_two_s(octave), sum_of(&counts[from..to])));
            from = to;
        }
        buckets.push((f64::INFINITY, sum_of(&counts[from..])));
        LatencyHistogram {
            count: sum_of(counts),
            sum_s: sum_s(counts),
            buckets,
        }
    }
}

fn sum_of(counts: &[u64]) -> u64 {
    counts.iter().copied().fold(0, u64::wrapping_add)
}

/// Returns 2^`octave` ns in seconds.
#[allow(clippy::cast_precision_loss)]
fn power_of_two_s(octave: usize) -> f64 {
    (1_u64 << octave) as f64 / 1e9
}

/// Returns the sum of the latencies in seconds, as if each were in the middle of its bucket.
#[allow(clippy::cast_precision_loss)]
fn sum_s(counts: &[u64]) -> f64 {
    let mut below = 4.0;
    let mut sum_ns = 0.0;
    for (bucket, count) in counts.iter().enumerate() {
        let bound = bound_ns(bucket);
        sum_ns += *count as f64 * (below + bound) / 2.0;
        below = bound;
    }
    sum_ns / 1e9
}
