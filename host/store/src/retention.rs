//! How long what has left an ecosystem is kept: a pure function of times and sizes.
//!
//! States and logs of daemons that were uninstalled, and states that a start without them has set aside, are kept for a
//! week, so that a mistake can be undone. They may take 1 GiB in all; past that the oldest go first.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long something is kept: a mistake made on a Friday is found by the next one.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How much is kept in all, in bytes: a small part of any disk, and years of most states.
pub const KEPT_BYTES_MAX: u64 = 1 << 30;

/// Something that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptItem {
    /// Since when.
    pub since: Timestamp,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// Why something is kept no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Its time is over.
    Age,
    /// There is more than may be kept, and it is among the oldest.
    Room,
}

impl Expiry {
    /// The reason, for a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Expiry::Age => "it was kept for a week",
            Expiry::Room => "more than 1 GiB is kept, and it is the oldest",
        }
    }
}

/// Returns until when something is kept that has left at `since`.
pub fn kept_until(since: Timestamp) -> Timestamp {
    let kept_for = SignedDuration::try_from(KEPT_FOR).unwrap_or(SignedDuration::MAX);
    since.checked_add(kept_for).unwrap_or(Timestamp::MAX)
}

/// Returns which of `all` are to go, by their places, oldest first. What is dated in the future, since a clock was wrong, is
/// as young as can be.
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

    /// What goes of things that left so many days ago and have so many bytes.
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
