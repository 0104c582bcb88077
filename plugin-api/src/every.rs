//! A timer whose ticks are counted from its start, so that a late tick doesn't delay those after it.
//!
//! The host's timer only counts milliseconds from the time of the request, so this type keeps the deadlines.

use std::time::{Duration, Instant};

use crate::Ecosystem;

/// The shortest period; the host's timer has no finer resolution.
const PERIOD_MIN: Duration = Duration::from_millis(1);
/// The longest period: a hundred years, so that no sum with it overflows.
const PERIOD_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A timer with a fixed period, created by [`Ecosystem::every`].
#[derive(Debug)]
pub struct Every {
    eco: Ecosystem,
    beat: Beat,
}

impl Every {
    pub(crate) fn new(eco: Ecosystem, period: Duration) -> Self {
        Every {
            eco,
            beat: Beat::new(eco.now(), period),
        }
    }

    /// Waits for the next tick. Returns how many ticks were missed before it because nothing waited for them: 0 for a
    /// daemon that keeps up. Dropping the future loses no tick.
    pub async fn tick(&mut self) -> u64 {
        loop {
            let now = self.eco.now();
            match self.beat.due(now) {
                Some(missed) => return missed,
                None => self.eco.sleep(whole_ms(self.beat.next - now)).await,
            }
        }
    }
}

/// Rounds up to whole milliseconds. The host's timer would round down and wake too early.
fn whole_ms(wait: Duration) -> Duration {
    let ms = wait.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// The schedule of the ticks.
#[derive(Debug)]
struct Beat {
    period: Duration,
    next: Instant,
}

impl Beat {
    fn new(start: Instant, period: Duration) -> Self {
        let period = period.clamp(PERIOD_MIN, PERIOD_MAX);
        Beat {
            period,
            next: start + period,
        }
    }

    /// Returns `None` if no tick is due. Otherwise returns how many were missed, and schedules the next one.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let late = now.checked_duration_since(self.next)?;
        let missed = late.as_nanos() / self.period.as_nanos();
        let into_period = late.as_nanos() % self.period.as_nanos();
        // The remainder is less than a period, so a u64 of nanoseconds can hold it.
        let into_period = Duration::from_nanos(u64::try_from(into_period).unwrap_or(0));
        self.next = now - into_period + self.period;
        Some(u64::try_from(missed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn lateness_does_not_add_up() {
        let start = Instant::now();
        let mut beat = Beat::new(start, 10 * MS);
        assert_eq!(beat.due(start + 9 * MS), None);
        assert_eq!(beat.due(start + 13 * MS), Some(0));
        assert_eq!(beat.next, start + 20 * MS);
        assert_eq!(beat.due(start + 20 * MS), Some(0));
        assert_eq!(beat.next, start + 30 * MS);
    }

    #[test]
    fn missed_ticks_are_counted_and_not_caught_up() {
        let start = Instant::now();
        let mut beat = Beat::new(start, 10 * MS);
        assert_eq!(beat.due(start + 45 * MS), Some(3));
        assert_eq!(beat.due(start + 49 * MS), None);
        assert_eq!(beat.due(start + 50 * MS), Some(0));
    }

    #[test]
    fn no_period_is_too_short_or_too_long_to_count_with() {
        let start = Instant::now();
        assert_eq!(Beat::new(start, Duration::ZERO).next, start + MS);
        assert_eq!(Beat::new(start, Duration::MAX).next, start + PERIOD_MAX);
        assert_eq!(whole_ms(Duration::from_nanos(1_000_001)), 2 * MS);
    }
}
