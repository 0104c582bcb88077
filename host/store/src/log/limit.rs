//! The least severe level that one daemon's log keeps: by its setting, or as its owner has chosen at run time.
//!
//! The limit belongs to the daemon and not to an instance, so a choice outlasts reloads and restarts. It ends with the
//! host, and when the setting changes. What the host itself records about the daemon is always kept: without it nobody
//! could tell why a daemon is silent.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{LEVELS, Record, TARGET_OF_HOST};
use crate::report::LogLevel;

/// The limit of one daemon's log.
#[derive(Debug)]
pub struct LogLimit {
    setting: AtomicU8,
    /// The level that was chosen at run time, or [`LogLimit::NONE`].
    chosen: AtomicU8,
}

impl LogLimit {
    const NONE: u8 = u8::MAX;

    /// Creates the limit of a daemon with that setting.
    #[must_use]
    pub fn of(setting: LogLevel) -> Self {
        LogLimit {
            setting: AtomicU8::new(setting as u8),
            chosen: AtomicU8::new(Self::NONE),
        }
    }

    /// Takes the setting of a new instance. A setting that has changed ends what was chosen before.
    pub fn adopt(&self, setting: LogLevel) {
        if self.setting.swap(setting as u8, Ordering::Relaxed) != setting as u8 {
            self.choose(None);
        }
    }

    /// Chooses a level at run time; `None` returns to the setting.
    pub fn choose(&self, level: Option<LogLevel>) {
        let chosen = level.map_or(Self::NONE, |level| level as u8);
        self.chosen.store(chosen, Ordering::Relaxed);
    }

    /// Returns the level that was chosen at run time.
    #[must_use]
    pub fn chosen(&self) -> Option<LogLevel> {
        level_of(self.chosen.load(Ordering::Relaxed))
    }

    /// Returns the level that counts.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        let setting = || level_of(self.setting.load(Ordering::Relaxed));
        self.chosen().or_else(setting).unwrap_or_default()
    }

    /// Returns whether the daemon's log keeps the record.
    #[must_use]
    pub fn keeps(&self, record: &Record) -> bool {
        let rank = LEVELS.iter().position(|level| *level == record.level);
        let kept = self.level() as usize;
        record.target == TARGET_OF_HOST || rank.is_none_or(|rank| rank < kept)
    }
}

/// Returns the level with that number.
fn level_of(number: u8) -> Option<LogLevel> {
    let mut all = LogLevel::ALL.into_iter();
    all.find(|level| *level as u8 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: &str) -> Record {
        let mut record = Record::about("A", Some(1), level, "text");
        "author".clone_into(&mut record.target);
        record
    }

    #[test]
    fn a_record_is_kept_if_it_is_severe_enough_or_the_hosts() {
        for (level, kept) in [
            (LogLevel::Off, 0),
            (LogLevel::Error, 1),
            (LogLevel::Warn, 2),
            (LogLevel::Info, 3),
            (LogLevel::Debug, 4),
        ] {
            let limit = LogLimit::of(level);
            let found = LEVELS.iter().filter(|level| limit.keeps(&record(level)));
            assert_eq!(found.count(), kept, "{level:?}");
            assert!(limit.keeps(&Record::about("A", None, "debug", "of the host")));
        }
    }

    #[test]
    fn a_choice_lasts_until_it_is_taken_back_or_the_setting_changes() {
        let limit = LogLimit::of(LogLevel::Debug);
        limit.choose(Some(LogLevel::Warn));
        limit.adopt(LogLevel::Debug);
        assert_eq!(limit.level(), LogLevel::Warn);
        limit.choose(None);
        assert_eq!(limit.level(), LogLevel::Debug);
        limit.choose(Some(LogLevel::Off));
        limit.adopt(LogLevel::Error);
        assert_eq!((limit.level(), limit.chosen()), (LogLevel::Error, None));
    }
}
