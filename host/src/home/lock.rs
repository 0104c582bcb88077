//! The right to a home: a lock of the operating system, not a file with a process id.
//!
//! It ends with the process, however that ends, so that there is nothing stale to judge or remove. The file's text, who
//! holds it and since when, is only for people and stays behind; the lock alone counts. The file is never removed:
//! a second process could then lock a new one while the first still holds the old.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Home;
use crate::durable::DiskFault;

/// A lock file's text is far below this; what is longer isn't ours, and not worth reading.
const TEXT_BYTES_MAX: u64 = 4096;

/// The right to a home, until dropped.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// Another process has the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The home's data directory.
    pub home: PathBuf,
    /// The process that has it, if it has said so yet.
    pub pid: Option<u32>,
    /// Since when, if it has said so yet.
    pub since: Option<Timestamp>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the home {} is in use", self.home.display())?;
        if let Some(pid) = self.pid {
            write!(f, " by process {pid}")?;
        }
        if let Some(since) = self.since {
            write!(f, " since {since:.0}")?;
        }
        f.write_str("; one host at a time: end that one, or choose another home with --home")
    }
}

impl std::error::Error for Held {}

/// What the lock file says.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    since: Timestamp,
}

impl Home {
    /// Takes the home for this process. Its directories must be there ([`Home::create`]).
    ///
    /// # Errors
    /// [`Held`] if another one has it (find it with `downcast_ref`), else the disk's.
    pub fn lock(&self) -> anyhow::Result<HomeLock> {
        let path = self.lock_file();
        let fault = |e: &std::io::Error, tried: &str| DiskFault::new(e, tried, &path);
        let mut file = open(&path).map_err(|e| fault(&e, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held(&mut file).into()),
            Err(TryLockError::Error(e)) => return Err(fault(&e, "lock").into()),
        }
        sign(&mut file).map_err(|e| fault(&e, "write"))?;
        Ok(HomeLock { _file: file })
    }

    fn held(&self, file: &mut File) -> Held {
        let mut text = String::new();
        // A holder that is just signing leaves nothing to be read; then the message goes without it.
        let _ = file.take(TEXT_BYTES_MAX).read_to_string(&mut text);
        let holder = serde_json::from_str::<Holder>(&text).ok();
        Held {
            home: self.data.clone(),
            pid: holder.as_ref().map(|holder| holder.pid),
            since: holder.map(|holder| holder.since),
        }
    }
}

/// Without truncating: the text may be another's.
fn open(path: &std::path::Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn sign(file: &mut File) -> std::io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        since: Timestamp::now(),
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
        let lock = home.lock().unwrap();
        // A lock belongs to the open file, so that another one in the same process stands for another process.
        let error = home.lock().unwrap_err();
        let held = error.downcast_ref::<Held>().unwrap();
        assert_eq!(held.pid, Some(std::process::id()));
        assert!(held.since.unwrap() >= before);
        let text = held.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        drop(lock);
        home.lock().unwrap();
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
        let held = error.downcast_ref::<Held>().unwrap();
        assert_eq!((held.pid, held.since), (None, None));
        assert!(held.to_string().contains("is in use; one host"), "{held}");
    }

    #[test]
    fn a_home_that_is_not_there_is_no_held_one() {
        let error = Home::at("/nowhere/at/all").lock().unwrap_err();
        assert!(error.downcast_ref::<Held>().is_none());
        assert!(error.to_string().contains("/nowhere/at/all/lock"));
    }
}
