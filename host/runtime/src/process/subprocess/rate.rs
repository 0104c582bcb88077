//! A limit on how much of a subprocess's output is kept: the records and the bytes of each second. Of the records
//! beyond that only the number is kept, so that a subprocess that never stops fills neither the log nor the memory.

use std::time::{Duration, Instant};

/// The most records kept in one second: more than anybody reads.
const RECORDS_A_SECOND_MAX: u32 = 1_000;
/// The most bytes kept in one second. As many lines of 80 columns have far less.
const BYTES_A_SECOND_MAX: usize = 4 << 20;

/// A counter of the records of one kind, with its limits.
#[derive(Debug)]
pub(super) struct Rate {
    /// The kind of record, in the plural.
    what: &'static str,
    second: Instant,
    kept: u32,
    bytes: usize,
    left_out: u64,
}

impl Rate {
    /// Creates a counter that has counted nothing.
    pub(super) fn of(what: &'static str) -> Self {
        Rate {
            what,
            second: Instant::now(),
            kept: 0,
            bytes: 0,
            left_out: 0,
        }
    }

    /// Returns whether to keep a record of this size, and a text to log before it about those that were not kept.
    pub(super) fn take(&mut self, bytes: usize) -> (bool, Option<String>) {
        let mut told = None;
        if self.second.elapsed() > Duration::from_secs(1) {
            told = self.left_out();
            self.second = Instant::now();
            (self.kept, self.bytes) = (0, 0);
        }
        let is_kept = self.kept < RECORDS_A_SECOND_MAX && self.bytes < BYTES_A_SECOND_MAX;
        if is_kept {
            self.kept += 1;
            self.bytes += bytes;
        } else {
            self.left_out += 1;
        }
        (is_kept, told)
    }

    /// Returns a text about the records that were not kept, if there were any, and resets their number.
    pub(super) fn left_out(&mut self) -> Option<String> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then(|| {
            format!(
                "{left_out} {} were left out: more than {RECORDS_A_SECOND_MAX}, or {} MiB, a second",
                self.what,
                BYTES_A_SECOND_MAX >> 20
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_so_much_is_kept_and_the_rest_is_counted() {
        let mut many = Rate::of("lines");
        let kept = (0..RECORDS_A_SECOND_MAX + 7)
            .filter(|_| many.take(1).0)
            .count();
        assert_eq!(kept, RECORDS_A_SECOND_MAX as usize);
        assert!(
            many.left_out()
                .is_some_and(|text| text.starts_with("7 lines"))
        );
        let mut large = Rate::of("log records");
        let kept = (0..10)
            .filter(|_| large.take(BYTES_A_SECOND_MAX / 4).0)
            .count();
        assert_eq!(kept, 4);
        assert!(large.left_out().is_some());
        assert_eq!(large.left_out(), None);
    }
}
