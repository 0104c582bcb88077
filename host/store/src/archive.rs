//! The archive of states that have left an ecosystem: one file per departure, under the daemon's name.
//!
//! A file holds a state and, if the daemon was uninstalled, its registry entry. It is written before its content is
//! removed elsewhere, so after a crash in between both exist. Logs stay where they are, under the daemon's name, and
//! are kept equally long. [`crate::retention`] decides how long.
//!
//! A state that can't be parsed is kept as raw text for a person to inspect. The home's lock ensures a single writer.
//! Reading needs no host.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, DiskFault};
use crate::home::Home;
use crate::log;
use crate::registry::{DAE_NAME, Entry, check_name};
use crate::retention::{self, KeptItem};
use crate::snapshots::{KeptState, Snapshots, StoredState};

/// The separator between name and time in a file's name. No daemon's name contains it.
const SEPARATOR: char = '@';

/// The time format in a file's name, which sorts by time and is readable.
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S.%6fZ";

/// The word that stands for the newest kept state.
pub const LAST: &str = "last";

/// The reason why a state has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepartureReason {
    /// The daemon was uninstalled.
    Uninstalled,
    /// It was started without its state (`--fresh`).
    Fresh,
    /// The daemon was started from another state.
    Replaced,
    /// Newer code failed, and the older code went back to an older state.
    RolledBack,
}

impl DepartureReason {
    /// Returns the text shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            DepartureReason::Uninstalled => "uninstalled",
            DepartureReason::Fresh => "started fresh",
            DepartureReason::Replaced => "started from another state",
            DepartureReason::RolledBack => "rolled back",
        }
    }
}

/// The record of one state that has left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Departure {
    /// The time at which it left.
    pub time: Timestamp,
    /// The reason why it left.
    pub reason: DepartureReason,
    /// The state. Absent if the daemon had none or one that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeptState>,
    /// The raw text of a state that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// The registry entry of an uninstalled daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
}

impl Departure {
    /// Creates a departure of the state `found`, dated now.
    pub fn of(reason: DepartureReason, found: StoredState) -> Self {
        let (state, damaged) = match found {
            StoredState::Nothing => (None, None),
            StoredState::State(state) => (Some(state), None),
            StoredState::Damaged(text) => (None, Some(text)),
        };
        Departure {
            time: Timestamp::now(),
            reason,
            state,
            damaged,
            entry: None,
        }
    }

    /// Returns whether the daemon was a drop-in.
    pub fn is_drop_in(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.drop_in)
    }

    /// Returns whether it only records how an uninstalled daemon was run.
    fn is_note(&self) -> bool {
        let has_state = self.state.is_some() || self.damaged.is_some();
        self.reason == DepartureReason::Uninstalled && !has_state
    }

    fn has_something(&self) -> bool {
        self.state.is_some() || self.damaged.is_some() || self.entry.is_some()
    }
}

/// A departure and its id.
#[derive(Debug, Clone)]
pub struct NumberedDeparture {
    /// The value for `--state`: the time, as in the file's name.
    pub id: String,
    /// The departure itself.
    pub departure: Departure,
}

/// An item that the archive no longer keeps.
#[derive(Debug, PartialEq, Eq)]
pub struct RemovedItem {
    /// The name of its daemon.
    pub daemon: String,
    /// `state` or `log`.
    pub what: &'static str,
    /// The reason for its removal.
    pub why: &'static str,
}

/// The archive of a home.
#[derive(Debug, Clone)]
pub struct Archive {
    dir: PathBuf,
    logs: PathBuf,
    history: PathBuf,
}

impl Archive {
    /// Returns the archive of a home.
    pub fn of(home: &Home) -> Self {
        Archive {
            dir: home.past_dir(),
            logs: home.logs_dir(),
            history: home.history_dir(),
        }
    }

    /// Keeps a departure and returns its id, or `None` if there is nothing to keep.
    ///
    /// # Errors
    /// A disk error; the caller must then not remove the departure's content elsewhere.
    pub fn keep(&self, daemon: &str, departure: &Departure) -> anyhow::Result<Option<String>> {
        if !departure.has_something() {
            return Ok(None);
        }
        let text = serde_json::to_vec(departure)?;
        let mut time = departure.time;
        loop {
            let id = time.strftime(TIME_FORMAT).to_string();
            let path = self.path_of(daemon, &id);
            if !path.exists() {
                atomic_file::write(&path, &text)?;
                return Ok(Some(id));
            }
            // Two departures fell into the same microsecond.
            time = time.checked_add(jiff::SignedDuration::from_micros(1))?;
        }
    }

    /// Keeps a copy of a daemon's stored state, so that the state can be replaced. Returns the copy's id.
    ///
    /// # Errors
    /// A disk error; the state must then stay where it is.
    pub fn set_aside(
        &self,
        states: &Snapshots,
        daemon: &str,
        reason: DepartureReason,
    ) -> anyhow::Result<Option<String>> {
        self.keep(daemon, &Departure::of(reason, states.find(daemon)?))
    }

    /// Records the entry of a daemon before it is uninstalled, for the next host in case this one is killed during the
    /// uninstall. Returns the record's id, for [`Archive::take_back`].
    ///
    /// # Errors
    /// A disk error.
    pub fn note_leaving(&self, daemon: &str, entry: Entry) -> anyhow::Result<Option<String>> {
        // Records that can't be listed stay.
        let earlier = self.list(daemon).unwrap_or_default();
        let departure = Departure {
            entry: Some(entry),
            ..Departure::of(DepartureReason::Uninstalled, StoredState::Nothing)
        };
        let noted = self.keep(daemon, &departure)?;
        // Of several records without a state only the newest is ever read.
        for one in earlier.iter().filter(|one| one.departure.is_note()) {
            self.take_back(daemon, &one.id);
        }
        Ok(noted)
    }

    /// Keeps the state and entry of an uninstalled daemon, then removes the state from the snapshots. Returns the
    /// state's length.
    ///
    /// # Errors
    /// A disk error; a state on the disk is then still there.
    pub fn leave(
        &self,
        states: &Snapshots,
        daemon: &str,
        entry: Option<Entry>,
    ) -> anyhow::Result<Option<u64>> {
        let departure = Departure {
            entry,
            ..Departure::of(DepartureReason::Uninstalled, states.find(daemon)?)
        };
        let kept = self.keep(daemon, &departure)?;
        if let Err(error) = states.forget(daemon) {
            // The state stays where it is, and is archived once it can be removed.
            if let Some(id) = kept {
                self.take_back(daemon, &id);
            }
            return Err(error);
        }
        Ok(departure.state.map(|state| state.bytes()))
    }

    /// Removes what [`Archive::keep`] has written.
    pub fn take_back(&self, daemon: &str, id: &str) {
        // A leftover is a harmless duplicate that expires after a week.
        let _ = atomic_file::remove(&self.path_of(daemon, id));
    }

    /// Returns the departures of a daemon, newest first. Skips files that can't be read.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self, daemon: &str) -> anyhow::Result<Vec<NumberedDeparture>> {
        let files = self.files()?;
        let own = files.into_iter().filter(|file| file.daemon == daemon);
        let read = |file: DepartureFile| {
            let text = atomic_file::read(&file.path).ok()?;
            let departure = serde_json::from_slice(&text).ok()?;
            Some(NumberedDeparture {
                id: file.id,
                departure,
            })
        };
        let mut all: Vec<NumberedDeparture> = own.filter_map(read).collect();
        all.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(all)
    }

    /// Returns a daemon's newest kept state (`last`), or the state with the id `which`.
    ///
    /// # Errors
    /// There is no such state, or the directory can't be read.
    pub fn state(&self, daemon: &str, which: &str) -> anyhow::Result<KeptState> {
        let of_id = |one: &NumberedDeparture| which == LAST || one.id == which;
        let all = self.list(daemon)?.into_iter().filter(of_id);
        let found = all.filter_map(|one| one.departure.state).next();
        found.ok_or_else(|| match which {
            LAST => anyhow::anyhow!("no state of {daemon} is kept that has left in the last week"),
            id => anyhow::anyhow!("no state {id:?} of {daemon} is kept"),
        })
    }

    /// Returns when the newest kept state of a daemon left.
    pub fn last_state_time(&self, daemon: &str) -> Option<Timestamp> {
        let all = self.list(daemon).ok()?.into_iter();
        let mut with_state = all.filter(|one| one.departure.state.is_some());
        with_state.next().map(|one| one.departure.time)
    }

    /// Returns the record of a daemon's last uninstall.
    pub fn last_uninstall(&self, daemon: &str) -> Option<Departure> {
        let all = self.list(daemon).ok()?.into_iter();
        let mut uninstalled =
            all.filter(|one| one.departure.reason == DepartureReason::Uninstalled);
        uninstalled.next().map(|one| one.departure)
    }

    /// Removes everything that is kept of a daemon at once, including its log. Returns whether there was anything.
    ///
    /// # Errors
    /// A disk error; everything else that could be removed is removed.
    pub fn purge(&self, daemon: &str) -> anyhow::Result<bool> {
        let mut removed = Ok(());
        let mut has_any = false;
        for file in self.files()?.iter().filter(|file| file.daemon == daemon) {
            has_any = true;
            removed = removed.and(atomic_file::remove(&file.path));
        }
        has_any |= log::remove(&self.logs, daemon)?;
        if check_name(daemon).is_ok() {
            let history = self.history.join(daemon);
            has_any |= history.exists();
            removed = removed.and(atomic_file::remove(&history));
        }
        removed?;
        Ok(has_any)
    }

    /// Removes expired items and returns them.
    ///
    /// # Errors
    /// A directory can't be read.
    pub fn sweep(
        &self,
        installed: &HashSet<String>,
        now: Timestamp,
    ) -> anyhow::Result<Vec<RemovedItem>> {
        let files = self.files()?;
        let is_gone = |name: &String| name != DAE_NAME && !installed.contains(name);
        let logs = log::kept(&self.logs)?;
        let logs: Vec<_> = logs.into_iter().filter(|(name, _)| is_gone(name)).collect();
        let all: Vec<KeptItem> = files
            .iter()
            .map(|file| file.kept)
            .chain(logs.iter().map(|(_, kept)| *kept))
            .collect();
        let mut gone = Vec::new();
        for (at, expiry) in retention::expired(&all, now) {
            let (daemon, what, is_removed) = match files.get(at) {
                Some(file) => (
                    &file.daemon,
                    "state",
                    atomic_file::remove(&file.path).is_ok(),
                ),
                None => {
                    let daemon = &logs[at - files.len()].0;
                    (daemon, "log", log::remove(&self.logs, daemon).is_ok())
                }
            };
            // An item that could not be removed is tried again at the next sweep.
            if is_removed {
                gone.push(RemovedItem {
                    daemon: daemon.clone(),
                    what,
                    why: expiry.as_str(),
                });
            }
        }
        Ok(gone)
    }

    fn path_of(&self, daemon: &str, id: &str) -> PathBuf {
        self.dir.join(format!("{daemon}{SEPARATOR}{id}.json"))
    }

    /// Returns the files of departures, in no particular order.
    fn files(&self) -> Result<Vec<DepartureFile>, DiskFault> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| DiskFault::new(&error, "read", &self.dir))?,
        };
        let files = entries.flatten().map(|entry| entry.path());
        Ok(files.filter_map(DepartureFile::at).collect())
    }
}

/// Renames the file of an uninstalled drop-in, so that the next start of a host doesn't run it. Returns the new path,
/// or `None` if there was no file.
///
/// # Errors
/// A disk error; the file is then still where it was.
pub fn move_aside(file: &Path) -> Result<Option<PathBuf>, DiskFault> {
    // A symbolic link is renamed itself, even if its target is missing.
    if fs::symlink_metadata(file).is_err() {
        return Ok(None);
    }
    let beside = |number: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(".uninstalled");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    let mut numbers = (1..).map(beside);
    let is_free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    let Some(target) = numbers.find(is_free) else {
        return Ok(None);
    };
    atomic_file::move_aside(file, &target)?;
    Ok(Some(target))
}

/// A departure's file, described by its name and metadata alone.
struct DepartureFile {
    path: PathBuf,
    daemon: String,
    id: String,
    kept: KeptItem,
}

impl DepartureFile {
    /// Returns `None` if the file is not a departure.
    fn at(path: PathBuf) -> Option<Self> {
        let stem = Path::new(path.file_name()?).file_stem()?.to_str()?;
        let (daemon, id) = stem.split_once(SEPARATOR)?;
        let (daemon, id) = (daemon.to_owned(), id.to_owned());
        let since = Timestamp::strptime("%Y%m%dT%H%M%S.%f%z", id.replace('Z', "+0000")).ok()?;
        let bytes = fs::metadata(&path).ok()?.len();
        Some(DepartureFile {
            path,
            daemon,
            id,
            kept: KeptItem { since, bytes },
        })
    }
}

#[cfg(test)]
mod tests;
