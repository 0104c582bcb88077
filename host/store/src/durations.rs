//! Time spans from settings, limited so that computing with them is safe.
//!
//! A setting may hold any number up to 2^64. Adding or multiplying such spans, or adding one to a point in time, would
//! overflow and panic. Every span from a setting is therefore created here and is at most [`SPAN_MAX`] long. No daemon
//! waits longer, and the sum of a few thousand such spans still fits every type.

use std::time::{Duration, Instant};

/// The longest span: a hundred years.
pub(crate) const SPAN_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// Returns a span of `ms` milliseconds, at most [`SPAN_MAX`].
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms).min(SPAN_MAX)
}

/// Returns the whole milliseconds of a span.
pub fn in_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a span of `s` seconds, at most [`SPAN_MAX`].
pub fn s(s: u64) -> Duration {
    Duration::from_secs(s).min(SPAN_MAX)
}

/// Returns the point in time `wait` after `start`. A `wait` longer than [`SPAN_MAX`] counts as [`SPAN_MAX`].
pub fn after(start: Instant, wait: Duration) -> Instant {
    start + wait.min(SPAN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_span_is_too_long_to_compute_with() {
        for span in [ms(u64::MAX), s(u64::MAX), ms(u64::MAX - 1)] {
            assert_eq!(span, SPAN_MAX);
            assert!(after(Instant::now(), span * 1000) > Instant::now());
            let _ = tokio::time::Instant::now() + span * 10;
            let _ = span.mul_f64(1.25) + span * 100;
        }
        assert_eq!((in_ms(ms(5)), in_ms(Duration::MAX)), (5, u64::MAX));
        assert_eq!(
            (ms(5), s(5)),
            (Duration::from_millis(5), Duration::from_secs(5))
        );
        assert_eq!(
            after(Instant::now(), Duration::MAX).elapsed(),
            Duration::ZERO
        );
    }
}
