//! What has left an ecosystem, kept for a while: one file for each departure, under the daemon's name.
//!
//! A file holds a state and, where the daemon was uninstalled, the entry that the registry had of it. It is written before
//! what it holds is removed, so that a crash in between leaves both. Logs stay where they are, under the daemon's name, and
//! are kept as long. How long that is, is decided in [`crate::retention`].
//!
//! A state that can't be read is kept as the text that it is: it is for a person to look at.
//! The home's lock makes one writer. Reading needs no host.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, DiskFault};
use crate::home::Home;
use crate::log;
use crate::registry::{DAE_NAME, Entry};
use crate::retention::{self, KeptItem};
use crate::snapshots::{KeptState, Snapshots, StoredState};

/// Between a name and a time in a file's name; no daemon's name has it.
const SEPARATOR: char = '@';

/// The time in a file's name: one that sorts, and that a person reads.
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S.%6fZ";

/// The word for the newest state that is kept.
pub const LAST: &str = "last";

/// Why a state has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DepartureReason {
    /// The daemon was uninstalled.
    Uninstalled,
    /// It was started without its state (`--fresh`).
    Fresh,
    /// It was started from another state.
    Replaced,
    /// Its newer code did not last, and the older code went back to an older state.
    RolledBack,
}

impl DepartureReason {
    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            DepartureReason::Uninstalled => "uninstalled",
            DepartureReason::Fresh => "started fresh",
            DepartureReason::Replaced => "started from another state",
            DepartureReason::RolledBack => "rolled back",
        }
    }
}

/// One departure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Departure {
    /// When.
    pub time: Timestamp,
    /// Why.
    pub reason: DepartureReason,
    /// The state; absent where the daemon had none, or had one that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeptState>,
    /// The text of a state that can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// What the registry had of a daemon that was uninstalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
}

impl Departure {
    /// A departure now, of what was found.
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

    /// Whether it was a drop-in's.
    pub fn is_drop_in(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.drop_in)
    }

    fn has_something(&self) -> bool {
        self.state.is_some() || self.damaged.is_some() || self.entry.is_some()
    }
}

/// A departure and what it is called.
#[derive(Debug, Clone)]
pub struct NumberedDeparture {
    /// What `--state` takes: the time, as in the file's name.
    pub id: String,
    /// What left.
    pub departure: Departure,
}

/// Something that was kept and is kept no longer.
#[derive(Debug, PartialEq, Eq)]
pub struct RemovedItem {
    /// Whose it was.
    pub daemon: String,
    /// `state` or `log`.
    pub what: &'static str,
    /// Why it went.
    pub why: &'static str,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct Archive {
    dir: PathBuf,
    logs: PathBuf,
}

impl Archive {
    /// That of a home.
    pub fn of(home: &Home) -> Self {
        Archive {
            dir: home.past_dir(),
            logs: home.logs_dir(),
        }
    }

    /// Keeps a departure, and returns its id; `None` where there is nothing to keep.
    ///
    /// # Errors
    /// The disk's; nothing may be removed then that it holds.
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
            // Two in one microsecond.
            time = time.checked_add(jiff::SignedDuration::from_micros(1))?;
        }
    }

    /// Keeps what lies in the place of a daemon's state, which can be replaced after that. Returns its id.
    ///
    /// # Errors
    /// The disk's; the state must stay where it is then.
    pub fn set_aside(
        &self,
        states: &Snapshots,
        daemon: &str,
        reason: DepartureReason,
    ) -> anyhow::Result<Option<String>> {
        self.keep(daemon, &Departure::of(reason, states.find(daemon)?))
    }

    /// Notes how a daemon is run that is about to be uninstalled, for a host that comes after one that was killed on the way.
    /// Returns the note's id, for [`Archive::take_back`].
    ///
    /// # Errors
    /// The disk's.
    pub fn note_leaving(&self, daemon: &str, entry: Entry) -> anyhow::Result<Option<String>> {
        let departure = Departure {
            entry: Some(entry),
            ..Departure::of(DepartureReason::Uninstalled, StoredState::Nothing)
        };
        self.keep(daemon, &departure)
    }

    /// Keeps what an uninstalled daemon leaves, and removes its state from where it was. Returns the state's length.
    ///
    /// # Errors
    /// The disk's; the state is still where it was then.
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
        self.keep(daemon, &departure)?;
        states.forget(daemon)?;
        Ok(departure.state.map(|state| state.bytes()))
    }

    /// Takes back what [`Archive::keep`] has kept.
    pub fn take_back(&self, daemon: &str, id: &str) {
        // What stays is kept twice for a week, and harms nobody.
        let _ = atomic_file::remove(&self.path_of(daemon, id));
    }

    /// Returns the departures of a daemon, the newest first. A file that can't be read is passed over.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self, daemon: &str) -> anyhow::Result<Vec<NumberedDeparture>> {
        let files = self.files()?;
        let own = files.into_iter().filter(|file| file.daemon == daemon);
        let read = |file: DepartureFile| {
            let text = fs::read(&file.path).ok()?;
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

    /// Returns the newest state that is kept of a daemon, or the one of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn state(&self, daemon: &str, which: &str) -> anyhow::Result<KeptState> {
        let of_id = |one: &NumberedDeparture| which == LAST || one.id == which;
        let all = self.list(daemon)?.into_iter().filter(of_id);
        let found = all.filter_map(|one| one.departure.state).next();
        found.ok_or_else(|| match which {
            LAST => anyhow::anyhow!("no state of {daemon} is kept that has left in the last week"),
            id => anyhow::anyhow!(
                "no state {id:?} of {daemon} is kept; `dae-host state {daemon} --history` lists those that are"
            ),
        })
    }

    /// Returns when the newest state that is kept of a daemon has left.
    pub fn last_state_time(&self, daemon: &str) -> Option<Timestamp> {
        let all = self.list(daemon).ok()?.into_iter();
        let mut with_state = all.filter(|one| one.departure.state.is_some());
        with_state.next().map(|one| one.departure.time)
    }

    /// Returns how a daemon was when it was uninstalled the last time.
    pub fn last_uninstall(&self, daemon: &str) -> Option<Departure> {
        let all = self.list(daemon).ok()?.into_iter();
        let mut uninstalled =
            all.filter(|one| one.departure.reason == DepartureReason::Uninstalled);
        uninstalled.next().map(|one| one.departure)
    }

    /// Removes at once all that is kept of a daemon, its log included. Returns whether there was anything.
    ///
    /// # Errors
    /// The disk's; what could be removed is.
    pub fn purge(&self, daemon: &str) -> anyhow::Result<bool> {
        let mut removed = Ok(());
        let mut has_any = false;
        for file in self.files()?.iter().filter(|file| file.daemon == daemon) {
            has_any = true;
            removed = removed.and(atomic_file::remove(&file.path));
        }
        has_any |= log::remove(&self.logs, daemon)?;
        removed?;
        Ok(has_any)
    }

    /// Removes what is kept no longer, and returns what it was.
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
            // What could not be removed is tried again at the next sweep.
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

    /// The files of departures, in no order.
    fn files(&self) -> Result<Vec<DepartureFile>, DiskFault> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| DiskFault::new(&error, "read", &self.dir))?,
        };
        let files = entries.flatten().map(|entry| entry.path());
        Ok(files.filter_map(DepartureFile::at).collect())
    }
}

/// Moves the file of a drop-in that was uninstalled out of the way, so that it doesn't run at the next start of a host.
/// Returns where it is now; `None` where there was none.
///
/// # Errors
/// The disk's; the file is where it was.
pub fn move_aside(file: &Path) -> Result<Option<PathBuf>, DiskFault> {
    // A link is moved, whether or not its target is there.
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
    fs::rename(file, &target).map_err(|error| DiskFault::new(&error, "move aside", file))?;
    Ok(Some(target))
}

/// A departure on the disk, by its name alone.
struct DepartureFile {
    path: PathBuf,
    daemon: String,
    id: String,
    kept: KeptItem,
}

impl DepartureFile {
    /// `None` where the file is no departure.
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
