//! The log of one daemon as `top` holds it: the newest records, a filter, and the place to which it is scrolled.

use std::collections::VecDeque;

use dae_store::log::Record;

/// The records that are held: many screens, and little memory.
pub(super) const RECORDS_MAX: usize = 2_000;

/// The records by which a key scrolls.
const SCROLL: u64 = 10;

/// The log of one daemon.
#[derive(Debug, Default)]
pub(super) struct LogPane {
    records: VecDeque<Record>,
    /// The number of records that came, those that were dropped since included.
    count: u64,
    /// The number of records up to the last one that is shown; `None` follows the newest.
    end: Option<u64>,
    /// Only records that contain this are shown, in any case of letters.
    pub(super) filter: String,
    /// True to break long records over several lines, false to cut them.
    pub(super) wraps: bool,
    /// The daemon, and the number of its log, of which nothing else is taken.
    pub(super) follow: u64,
}

impl LogPane {
    /// Begins with the records of another daemon, or of the same one after a new connection.
    pub(super) fn begin(&mut self, follow: u64, records: Vec<Record>) {
        (self.follow, self.count, self.end) = (follow, 0, None);
        self.records.clear();
        self.add(follow, records);
    }

    /// Adds new records. Those of a log that is shown no longer are dropped.
    pub(super) fn add(&mut self, follow: u64, records: Vec<Record>) {
        if follow != self.follow {
            return;
        }
        self.count += records.len() as u64;
        self.records.extend(records);
        let surplus = self.records.len().saturating_sub(RECORDS_MAX);
        drop(self.records.drain(..surplus));
    }

    /// Returns whether the newest record is shown.
    pub(super) fn is_following(&self) -> bool {
        self.end.is_none()
    }

    /// Scrolls towards older records.
    pub(super) fn back(&mut self) {
        let end = self.end.unwrap_or(self.count).saturating_sub(SCROLL);
        self.end = Some(end.max(self.first() + 1).min(self.count));
    }

    /// Scrolls towards newer records, and follows them once the newest is shown.
    pub(super) fn forth(&mut self) {
        let end = self.end.map(|end| end.max(self.first()) + SCROLL);
        self.end = end.filter(|end| *end < self.count);
    }

    /// Follows the newest records.
    pub(super) fn newest(&mut self) {
        self.end = None;
    }

    /// Returns the records to show, the newest first.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Record> {
        let newer = self.count - self.end.unwrap_or(self.count).max(self.first());
        let skipped = usize::try_from(newer).unwrap_or(usize::MAX);
        let wanted = self.filter.to_lowercase();
        let has = move |record: &&Record| {
            wanted.is_empty() || record.line(false).to_lowercase().contains(&wanted)
        };
        self.records.iter().rev().skip(skipped).filter(has)
    }

    /// Returns the number of records that were dropped.
    fn first(&self) -> u64 {
        self.count - self.records.len() as u64
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use jiff::Timestamp;

    pub(crate) fn record(message: &str) -> Record {
        Record {
            time: Timestamp::UNIX_EPOCH,
            daemon: "A".to_owned(),
            generation: Some(1),
            level: "info".to_owned(),
            target: "a".to_owned(),
            message: message.to_owned(),
            fields: serde_json::Map::new(),
        }
    }

    fn numbered(from: u32, to: u32) -> Vec<Record> {
        (from..to).map(|n| record(&format!("n{n}."))).collect()
    }

    fn newest(pane: &LogPane) -> String {
        let first = pane.shown().next();
        first.map_or_else(String::new, |record| record.message.clone())
    }

    #[test]
    fn a_log_that_is_scrolled_back_stays_there_until_it_is_back_at_the_end() {
        let mut pane = LogPane::default();
        pane.begin(1, numbered(0, 30));
        assert_eq!(newest(&pane), "n29.");
        pane.back();
        pane.add(1, numbered(30, 40));
        pane.add(2, numbered(99, 100));
        assert_eq!(
            (newest(&pane), pane.is_following()),
            ("n19.".to_owned(), false)
        );
        pane.forth();
        assert_eq!(newest(&pane), "n29.");
        pane.forth();
        assert_eq!(
            (newest(&pane), pane.is_following()),
            ("n39.".to_owned(), true)
        );
        (0..9).for_each(|_| pane.back());
        assert_eq!(newest(&pane), "n0.");
        pane.filter = "N3".to_owned();
        pane.newest();
        assert_eq!(pane.shown().count(), 11);
    }

    #[test]
    fn no_more_records_are_held_than_the_limit() {
        let mut pane = LogPane::default();
        pane.begin(1, numbered(0, 10));
        pane.back();
        pane.add(1, numbered(10, 5_000));
        assert_eq!(pane.records.len(), RECORDS_MAX);
        // The place that it was scrolled to is gone; what is left of it is shown.
        pane.forth();
        assert_eq!(newest(&pane), "n3009.");
    }
}
