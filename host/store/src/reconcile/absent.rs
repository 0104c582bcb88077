//! Tracks drop-ins whose file is missing. They run on for a grace period, since a file is often replaced in two steps.
//!
//! A file is missing for a moment if it is removed and copied again, if it is renamed to a backup first, or if a link's
//! target is rebuilt. The daemon must not lose its guests, port and state then, so it is uninstalled only after its
//! file has been missing for the grace period. At a host's start the period begins with the start. The caller passes
//! monotonic times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RegisteredFile;

/// The drop-ins whose file is missing.
#[derive(Debug, Default)]
pub struct Absent {
    grace: Duration,
    all: BTreeMap<String, AwayFile>,
}

/// A missing file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AwayFile {
    file: PathBuf,
    until: Duration,
}

/// A change since the last update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbsenceNews {
    /// The daemon's file is missing.
    Gone(String, PathBuf),
    /// The file is back, or the daemon has another file now.
    Back(String),
}

impl Absent {
    /// Creates a tracker with the grace period `grace`.
    #[must_use]
    pub fn for_at_most(grace: Duration) -> Self {
        Absent {
            grace,
            all: BTreeMap::new(),
        }
    }

    /// Updates the list with the daemons whose file is `gone` at the time `now`, and returns the changes. A file that
    /// disappears and returns between two updates never counts as missing. A file that disappears again gets a new
    /// grace period.
    pub fn update<'a>(
        &mut self,
        gone: impl Iterator<Item = &'a RegisteredFile>,
        now: Duration,
    ) -> Vec<AbsenceNews> {
        let mut before = std::mem::take(&mut self.all);
        let mut news = Vec::new();
        for one in gone {
            let known = before.remove(&one.name);
            let known = known.filter(|away| away.file == one.source);
            if known.is_none() {
                news.push(AbsenceNews::Gone(one.name.clone(), one.source.clone()));
            }
            let new = || AwayFile {
                file: one.source.clone(),
                until: now.saturating_add(self.grace),
            };
            let away = known.unwrap_or_else(new);
            self.all.insert(one.name.clone(), away);
        }
        news.extend(before.into_keys().map(AbsenceNews::Back));
        news
    }

    /// Returns the daemons whose grace period is over, each with its missing file.
    #[must_use]
    pub fn over(&self, now: Duration) -> Vec<(String, PathBuf)> {
        let over = self.all.iter().filter(|(_, away)| away.until <= now);
        over.map(|(name, away)| (name.clone(), away.file.clone()))
            .collect()
    }

    /// Returns when the first grace period ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        self.all.values().map(|away| away.until).min()
    }

    /// Returns the names of the daemons, each with the end of its grace period.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<String, Duration> {
        let ends = self.all.iter();
        ends.map(|(name, away)| (name.clone(), away.until))
            .collect()
    }

    /// Returns whether the daemon's file is missing.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Returns whether that file is missing.
    #[must_use]
    pub fn has_file(&self, file: &Path) -> bool {
        self.all.values().any(|away| away.file == file)
    }

    /// Removes a daemon that has another file now or is uninstalled.
    pub fn forget(&mut self, name: &str) {
        self.all.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(name: &str, file: &str) -> RegisteredFile {
        RegisteredFile {
            name: name.to_owned(),
            source: file.into(),
            is_drop_in: true,
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_file_is_away_for_its_grace_and_no_longer() {
        let mut absent = Absent::for_at_most(s(10));
        let a = [dropped("A", "a.so")];
        assert_eq!(
            absent.update(a.iter(), s(5)),
            [AbsenceNews::Gone("A".into(), "a.so".into())]
        );
        assert_eq!(absent.update(a.iter(), s(14)), [], "reported once");
        assert_eq!(
            (absent.over(s(14)), absent.next_end()),
            (vec![], Some(s(15)))
        );
        assert_eq!(absent.over(s(15)), [("A".to_owned(), "a.so".into())]);
        assert_eq!(
            absent.update([].iter(), s(15)),
            [AbsenceNews::Back("A".into())]
        );
        assert_eq!((absent.over(s(99)), absent.next_end()), (vec![], None));
    }

    #[test]
    fn each_absence_has_its_own_grace() {
        let mut absent = Absent::for_at_most(s(10));
        absent.update([dropped("A", "a.so")].iter(), s(0));
        absent.update([].iter(), s(9));
        absent.update([dropped("A", "a.so"), dropped("B", "b.so")].iter(), s(9));
        assert_eq!(absent.over(s(18)), []);
        assert_eq!(absent.over(s(19)).len(), 2);
        // The same daemon has another file now.
        let moved = absent.update([dropped("A", "c.so")].iter(), s(18));
        assert_eq!(
            moved,
            [
                AbsenceNews::Gone("A".into(), "c.so".into()),
                AbsenceNews::Back("B".into())
            ]
        );
        assert_eq!(absent.over(s(19)), []);
    }

    #[test]
    fn no_grace_is_none_and_the_longest_does_not_overflow() {
        let gone = [dropped("A", "a.so")];
        let mut at_once = Absent::for_at_most(Duration::ZERO);
        at_once.update(gone.iter(), s(1));
        assert_eq!(at_once.over(s(1)).len(), 1);
        let mut for_ever = Absent::for_at_most(Duration::MAX);
        for_ever.update(gone.iter(), s(1));
        assert_eq!(for_ever.over(s(u64::MAX)), []);
    }
}
