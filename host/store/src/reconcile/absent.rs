//! Drop-ins whose file has gone: they run on for a grace, since a file is often replaced in two steps.
//!
//! Removed and copied, renamed to a backup and copied, a link whose target is built anew: in between the file is away, and
//! nobody means the daemon to lose its guests, port and state. So it is uninstalled only when its file has been away for the
//! grace. At a host's start the grace runs from the start. Times are monotonic, and are given by the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RegisteredFile;

/// The drop-ins whose file is away.
#[derive(Debug, Default)]
pub struct Absent {
    grace: Duration,
    all: BTreeMap<String, AwayFile>,
}

/// A file that is away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AwayFile {
    file: PathBuf,
    until: Duration,
}

/// What has changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbsenceNews {
    /// The daemon's file has gone.
    Gone(String, PathBuf),
    /// It is back, or the daemon is of another file now.
    Back(String),
}

impl Absent {
    /// Files may be away for `grace`.
    #[must_use]
    pub fn for_at_most(grace: Duration) -> Self {
        Absent {
            grace,
            all: BTreeMap::new(),
        }
    }

    /// Compares with the daemons whose file has `gone`, as of now. A file that has gone and come back in between was never
    /// away; one that has gone again has a new grace.
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

    /// Returns the daemons whose grace is over, each with the file that has gone.
    #[must_use]
    pub fn over(&self, now: Duration) -> Vec<(String, PathBuf)> {
        let over = self.all.iter().filter(|(_, away)| away.until <= now);
        over.map(|(name, away)| (name.clone(), away.file.clone()))
            .collect()
    }

    /// Returns when the first grace ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        self.all.values().map(|away| away.until).min()
    }

    /// Returns the names, each with the end of its grace.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<String, Duration> {
        let ends = self.all.iter();
        ends.map(|(name, away)| (name.clone(), away.until))
            .collect()
    }

    /// Whether the daemon's file is away.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Whether that file is away.
    #[must_use]
    pub fn has_file(&self, file: &Path) -> bool {
        self.all.values().any(|away| away.file == file)
    }

    /// Forgets a daemon that is of another file now, or is uninstalled.
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
        assert_eq!(absent.update(a.iter(), s(14)), [], "told once");
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
        // Another file of the same daemon.
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
