//! The exclusive use of a home: a lock of the operating system, not a file with a process id.
//!
//! The lock ends with its process, however that ends, so no stale lock can remain. The file's text, which names the
//! holder and the start time, is only for people and remains after the end; only the lock counts. The host never
//! removes the file: a second process could then lock a new file while the first still holds the old one. Because a
//! person may remove it, the home's directory is locked too, and the holder creates the file again
//! ([`HomeLock::renew`]). The system's part of it is in `os/home_lock.rs`.
//!
//! The directory stays open while the lock is held. Its [`FileId`] therefore stays valid even if the directory is moved
//! or removed, and the holder can check whether the home's path still leads to it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Home;
use crate::atomic_file::{self, DiskFault};
use crate::lock::lock;
use crate::os::file_id::FileId;
use crate::os::home_lock;

/// The longest text read from a lock file (bytes). The host writes far less, and a longer text isn't the host's.
const TEXT_BYTES_MAX: u64 = 4096;

/// The longest time for which a taken lock is retried. A process that only checks for a holder ([`Home::holder`]) has
/// it for a moment.
const ASKED_MAX: Duration = Duration::from_millis(250);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// The exclusive use of a home, until dropped.
#[derive(Debug)]
pub struct HomeLock {
    file: Mutex<File>,
    /// The open directory, which is also locked if the file system supports that.
    _directory: File,
    id: FileId,
    /// The time since which this process has the home. It tells it from a later process with the same process id.
    since: Timestamp,
}

/// The error that another process uses the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeBusy {
    /// The home's data directory.
    pub home: PathBuf,
    /// The process that uses the home, if known.
    pub pid: Option<u32>,
    /// The time since which it uses the home, if known.
    pub since: Option<Timestamp>,
}

impl HomeBusy {
    /// Returns whether both may be the same process: nothing that is known of both differs. The same process id is not
    /// enough, since in a container the next host usually gets the one of the last.
    #[must_use]
    pub fn may_be(&self, other: &HomeBusy) -> bool {
        let differs = self
            .pid
            .zip(other.pid)
            .is_some_and(|(one, other)| one != other)
            || self
                .since
                .zip(other.since)
                .is_some_and(|(one, other)| one != other);
        !differs
    }
}

impl fmt::Display for HomeBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the home {} is in use", self.home.display())?;
        if let Some(pid) = self.pid {
            write!(f, " by process {pid}")?;
        }
        if let Some(since) = self.since {
            write!(f, " since {since:.0}")?;
        }
        f.write_str("; one host at a time: end that one, or choose another home")
    }
}

impl std::error::Error for HomeBusy {}

/// The text of the lock file.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    since: Timestamp,
    /// The holder's control socket, if it is a host.
    #[serde(default)]
    socket: Option<PathBuf>,
}

impl Home {
    /// Takes the home for this process. Its directories must exist ([`Home::create`]).
    ///
    /// # Errors
    /// [`HomeBusy`] if another process uses it (use `downcast_ref`), otherwise a disk error.
    #[expect(
        clippy::disallowed_methods,
        reason = "no event tells when another process lets go of a file"
    )]
    pub fn lock(&self) -> anyhow::Result<HomeLock> {
        let began = Instant::now();
        loop {
            match self.try_lock()? {
                Some(taken) => return Ok(taken),
                None if began.elapsed() < ASKED_MAX => std::thread::sleep(RETRY),
                None => return Err(self.held().into()),
            }
        }
    }

    /// Takes the lock, or returns `None` if another process has it.
    fn try_lock(&self) -> anyhow::Result<Option<HomeLock>> {
        let path = self.lock_file();
        let fault = |e: &io::Error, tried: &str| DiskFault::new(e, tried, &path);
        let directory = home_lock::hold_directory(&self.data).map_err(|e| fault(&e, "open"))?;
        let Some(directory) = directory else {
            return Ok(None);
        };
        let mut file = open(&path).map_err(|e| fault(&e, "open"))?;
        if !home_lock::try_lock(&file).map_err(|e| fault(&e, "lock"))? {
            return Ok(None);
        }
        let since = Timestamp::now();
        sign(&mut file, &self.control_socket(), since).map_err(|e| fault(&e, "write"))?;
        let id = FileId::of_open(&directory).map_err(|e| fault(&e, "look at"))?;
        Ok(Some(HomeLock {
            file: Mutex::new(file),
            _directory: directory,
            id,
            since,
        }))
    }

    /// Returns the process that uses the home, or `None` if there is none.
    pub fn holder(&self) -> Option<HomeBusy> {
        let is_held =
            home_lock::is_directory_held(&self.data) || home_lock::is_held(&self.lock_file());
        is_held.then(|| self.held())
    }

    /// Returns the identity of the directory that the home's path leads to now.
    ///
    /// # Errors
    /// A disk error.
    pub fn id(&self) -> io::Result<FileId> {
        FileId::at(&self.data)
    }

    fn held(&self) -> HomeBusy {
        let mut text = String::new();
        // While the holder writes the file, its text is missing; the error then names no process.
        if let Ok(file) = atomic_file::open(&self.lock_file()) {
            let _ = file.take(TEXT_BYTES_MAX).read_to_string(&mut text);
        }
        let holder = serde_json::from_str::<Holder>(&text).ok();
        HomeBusy {
            home: self.data.clone(),
            pid: holder.as_ref().map(|holder| holder.pid),
            since: holder.map(|holder| holder.since),
        }
    }
}

impl HomeLock {
    /// Returns the identity of the locked directory.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Creates and locks the lock file again if somebody has removed it. Returns true if so. The home's path must lead
    /// to the locked directory.
    ///
    /// # Errors
    /// A disk error, or another process has locked a new file in its place.
    pub fn renew(&self, home: &Home) -> anyhow::Result<bool> {
        let path = home.lock_file();
        let mut ours = lock(&self.file);
        let is_ours = |there: FileId| FileId::of_open(&ours).is_ok_and(|held| held == there);
        if FileId::at(&path).is_ok_and(is_ours) {
            return Ok(false);
        }
        let fault = |e: &io::Error| DiskFault::new(e, "make the lock anew at", &path);
        let mut file = open(&path).map_err(|e| fault(&e))?;
        if !home_lock::try_lock(&file).map_err(|e| fault(&e))? {
            return Err(home.held().into());
        }
        sign(&mut file, &home.control_socket(), self.since).map_err(|e| fault(&e))?;
        *ours = file;
        Ok(true)
    }
}

/// Opens the lock file without truncating it, since the text may be another process's.
fn open(path: &Path) -> io::Result<File> {
    let file = home_lock::open(path)?;
    if file.metadata()?.len() == 0 {
        atomic_file::make_owners(&file)?;
    }
    Ok(file)
}

fn sign(file: &mut File, socket: &Path, since: Timestamp) -> io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        since,
        socket: Some(socket.to_owned()),
    };
    let mut text = serde_json::to_vec(&holder)?;
    text.push(b'\n');
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_has_the_home_and_gets_it_after() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let before = Timestamp::now();
        assert_eq!(home.holder(), None);
        let lock = home.lock().unwrap();
        // A lock belongs to the open file, so a second open file in this process acts like another process.
        let error = home.lock().unwrap_err();
        let held = error.downcast_ref::<HomeBusy>().unwrap();
        assert_eq!(held.pid, Some(std::process::id()));
        assert!(held.since.unwrap() >= before);
        let text = held.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        assert_eq!(home.holder().as_ref(), Some(held));
        drop(lock);
        assert_eq!(home.holder(), None);
        home.lock().unwrap();
    }

    #[test]
    fn a_successor_with_the_same_process_id_is_another_holder() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let lock = home.lock().unwrap();
        let held = home.holder().unwrap();
        // Nobody can remove it on Windows.
        let is_removed = std::fs::remove_file(home.lock_file()).is_ok();
        assert_eq!(lock.renew(&home).unwrap(), is_removed);
        assert_eq!(
            home.holder().as_ref(),
            Some(&held),
            "the same one, with a new file"
        );
        let unsigned = HomeBusy {
            pid: None,
            since: None,
            ..held.clone()
        };
        assert!(held.may_be(&held) && held.may_be(&unsigned));
        drop(lock);
        // A time stamp has nanoseconds, and the clock may be coarser.
        let next = loop {
            let _lock = home.lock().unwrap();
            let next = home.holder().unwrap();
            if next.since != held.since {
                break next;
            }
        };
        assert_eq!(next.pid, held.pid);
        assert!(!held.may_be(&next));
    }

    #[test]
    fn the_text_of_a_dead_holder_locks_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        std::fs::write(home.lock_file(), "x".repeat(5000)).unwrap();
        let _lock = home.lock().unwrap();
        let text = std::fs::read_to_string(home.lock_file()).unwrap();
        let holder: Holder = serde_json::from_str(&text).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn a_holder_that_has_not_signed_yet_is_no_error_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let _lock = home.lock().unwrap();
        std::fs::write(home.lock_file(), "").unwrap();
        let error = home.lock().unwrap_err();
        let held = error.downcast_ref::<HomeBusy>().unwrap();
        assert_eq!((held.pid, held.since), (None, None));
        assert!(held.to_string().contains("is in use; one host"), "{held}");
    }

    #[test]
    fn a_home_that_is_not_there_is_no_held_one() {
        let home = Home::at("/nowhere/at/all");
        let error = home.lock().unwrap_err();
        assert!(error.downcast_ref::<HomeBusy>().is_none());
        let lock_file = home.lock_file().display().to_string();
        assert!(error.to_string().contains(&lock_file), "{error}");
    }
}
