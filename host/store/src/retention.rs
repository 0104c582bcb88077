//! Decides how long items that have left an ecosystem are kept: a pure function of times and sizes.
//!
//! States and logs of uninstalled daemons, and states that were set aside, are kept for a week so that a mistake can be
//! undone. They may take 1 GiB in total; beyond that the oldest are removed first.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The time for which an item is kept. A mistake made on a Friday is found by the next Friday.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The total size of kept items, in bytes: a small part of any disk, and enough for years of most states.
pub const KEPT_BYTES_MAX: u64 = 1 << 30;

/// A kept item's age and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptItem {
    /// The time at which it left, or was last written.
    pub since: Timestamp,
    /// Its size on the disk (bytes).
    pub bytes: u64,
}

/// The reason why an item is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It was kept for the full time.
    Age,
    /// The total size is exceeded, and it is among the oldest.
    Room,
}

impl Expiry {
    /// Returns the reason as text for a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Expiry::Age => "it was kept for a week",
            Expiry::Room => "more than 1 GiB is kept, and it is the oldest",
        }
    }
}

/// Returns the time until which an item that left at `since` is kept.
pub fn kept_until(since: Timestamp) -> Timestamp {
    let kept_for = SignedDuration::try_from(KEPT_FOR).unwrap_or(SignedDuration::MAX);
    since.checked_add(kept_for).unwrap_or(Timestamp::MAX)
}

/// Returns the indices of the items in `all` to remove, oldest first, with the reasons. An item dated in the future,
/// because a clock was wrong, counts as the newest.
pub(crate) fn expired(all: &[KeptItem], now: Timestamp) -> Vec<(usize, Expiry)> {
    let mut by_age: Vec<usize> = (0..all.len()).collect();
    by_age.sort_by_key(|at| all[*at].since);
    let mut left = all
        .iter()
        .fold(0_u64, |sum, kept| sum.saturating_add(kept.bytes));
    let mut gone = Vec::new();
    for at in by_age {
        let KeptItem { since, bytes } = all[at];
        let expiry = match kept_until(since) <= now {
            true => Expiry::Age,
            false if left > KEPT_BYTES_MAX => Expiry::Room,
            false => break,
        };
        left = left.saturating_sub(bytes);
        gone.push((at, expiry));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;
    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kept(days_ago: i64, bytes: u64) -> KeptItem {
        KeptItem {
            since: at(NOW - days_ago * DAY),
            bytes,
        }
    }

    /// Returns the expired ones of these items, each given as its age in days and its size in bytes.
    fn gone(all: &[(i64, u64)]) -> Vec<(usize, Expiry)> {
        let all: Vec<KeptItem> = all
            .iter()
            .map(|(days, bytes)| kept(*days, *bytes))
            .collect();
        expired(&all, at(NOW))
    }

    #[test]
    fn what_is_kept_and_what_goes() {
        const GIB: u64 = KEPT_BYTES_MAX;
        use Expiry::{Age, Room};
        assert_eq!(gone(&[]), []);
        assert_eq!(gone(&[(0, 1), (6, 1)]), [], "young and small");
        assert_eq!(gone(&[(1, 1), (7, 1), (8, 1)]), [(2, Age), (1, Age)]);
        assert_eq!(gone(&[(1, GIB - 1), (2, 1)]), [], "just as much as may be");
        assert_eq!(gone(&[(1, GIB), (2, 1), (3, 1)]), [(2, Room), (1, Room)]);
        assert_eq!(gone(&[(0, GIB + 1)]), [(0, Room)], "too large by itself");
        assert_eq!(gone(&[(1, GIB), (9, GIB)]), [(1, Age)], "age makes room");
        assert_eq!(
            gone(&[(-400, 1), (1, GIB)]),
            [(1, Room)],
            "the future is young"
        );
    }

    #[test]
    fn no_time_and_no_size_overflows() {
        let all = [Timestamp::MIN, Timestamp::MAX].map(|since| KeptItem {
            since,
            bytes: u64::MAX,
        });
        for now in [Timestamp::MIN, at(NOW), Timestamp::MAX] {
            assert!(expired(&all, now).len() <= 2);
        }
        assert_eq!(kept_until(Timestamp::MAX), Timestamp::MAX);
    }
}
