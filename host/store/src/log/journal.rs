//! The journal: every record passes through it to the daemon's log file, the console and the followers.
//!
//! Files are written immediately: a write only copies into the system's cache, and the record can be read at once. Only
//! the most recently used files stay open, so that ten thousand silent daemons need no descriptors. If the disk is
//! full, records still reach the console and the followers; the journal reports the beginning and the end of the
//! failure once each. Out of scope: the producers filter levels, and untrusted records are cut to size where they
//! arrive.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Map;
use tokio::sync::broadcast;

use super::console::{Console, ConsoleThread};
use super::file;
use super::open::OpenFiles;
use super::tail::read_files;
use super::{LogQuery, Record};
use crate::atomic_file::DiskFault;
use crate::lock::lock;
use crate::os::journald::JournaldSocket;
use crate::os::private;
use crate::registry::DAE_NAME;

/// The number of records a follower may lag behind before it misses some. Its `recv` then returns an error.
const FOLLOWER_RECORDS_MAX: usize = 1024;

/// The log of a home. Clones share the same journal.
#[derive(Debug, Clone)]
pub struct Journal(Arc<JournalShared>);

#[derive(Debug)]
struct JournalShared {
    logs_dir: PathBuf,
    files: Mutex<OpenFiles>,
    /// The number of records that could not be written since the last successful write.
    lost: AtomicU64,
    console: ConsoleThread,
    /// True if the console shows `debug` and `trace`.
    shows_debug: AtomicBool,
    /// True if the console shows only warnings and errors.
    is_quiet: AtomicBool,
    followers: broadcast::Sender<Arc<Record>>,
}

impl Journal {
    /// Creates the journal whose files are in `logs_dir`. It touches no file before the first write.
    ///
    /// # Errors
    /// The system has no thread left, or [`Console::Journald`] is chosen and no journal listens.
    pub fn open(logs_dir: impl Into<PathBuf>, console: Console) -> anyhow::Result<Self> {
        let sink: Box<dyn io::Write + Send> = match console {
            Console::Journald => Box::new(
                JournaldSocket::connect().context("cannot connect to the journal of systemd")?,
            ),
            _ => Box::new(io::stderr()),
        };
        let console = ConsoleThread::start(console, sink)
            .context("cannot start the thread that shows the log")?;
        Ok(Journal::over(logs_dir.into(), console))
    }

    fn over(logs_dir: PathBuf, console: ConsoleThread) -> Self {
        Journal(Arc::new(JournalShared {
            logs_dir,
            files: Mutex::default(),
            lost: AtomicU64::new(0),
            console,
            shows_debug: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            followers: broadcast::channel(FOLLOWER_RECORDS_MAX).0,
        }))
    }

    /// Writes a record to its file, the console and the followers. Never fails.
    pub fn write(&self, record: Record) {
        let json = json_line(&record);
        let kept = self.keep(&record.daemon, &json);
        let is_shown = match record.level.as_str() {
            "debug" | "trace" => self.0.shows_debug.load(Ordering::Relaxed),
            "info" => !self.0.is_quiet.load(Ordering::Relaxed),
            _ => true,
        };
        if is_shown {
            self.0.console.show(&record, &json);
        }
        self.hand_on(record);
        self.tell_of(kept);
    }

    /// Closes the log file of a daemon that is gone. A removed file that stays open would still take disk space.
    pub fn close(&self, daemon: &str) {
        let path = file::path_of(&self.0.logs_dir, daemon);
        lock(&self.0.files).close(&path);
    }

    /// Makes the console show `debug` and `trace` too. The files contain them in any case.
    pub fn show_debug(&self) {
        self.0.shows_debug.store(true, Ordering::Relaxed);
    }

    /// Makes the console show only warnings and errors. The files contain the other levels too.
    pub fn show_no_info(&self) {
        self.0.is_quiet.store(true, Ordering::Relaxed);
    }

    /// Returns the last `lines` records of one daemon or of all, oldest first. It returns fewer if they take more than
    /// `bytes_max` bytes in the files. Blocks the thread.
    ///
    /// # Errors
    /// A disk error.
    pub fn tail(
        &self,
        daemon: Option<&str>,
        lines: usize,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<Record>> {
        self.read(&LogQuery::last(daemon, lines), bytes_max)
    }

    /// Returns the last records that the query selects, oldest first. It returns fewer if they take more than `bytes_max`
    /// bytes in the files. Blocks the thread.
    ///
    /// # Errors
    /// A disk error.
    pub fn read(&self, query: &LogQuery, bytes_max: usize) -> anyhow::Result<Vec<Record>> {
        read_files(&self.0.logs_dir, query, bytes_max)
    }

    /// Returns a receiver of every record written after this call. A receiver that falls behind gets `Lagged` with the
    /// number of missed records, and then continues.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Record>> {
        self.0.followers.subscribe()
    }

    /// Waits until the console has shown all records, for at most `limit`. To be called before the process exits.
    /// Blocks the thread.
    pub fn flush(&self, limit: Duration) {
        self.0.console.flush(limit);
    }

    fn keep(&self, daemon: &str, json: &[u8]) -> Result<(), DiskFault> {
        let path = file::path_of(&self.0.logs_dir, daemon);
        let file = lock(&self.0.files).get(&path);
        let mut file = lock(&file);
        let kept = match file.append(json) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = private::make_owners_directory(&self.0.logs_dir);
                made.and_then(|()| file.append(json)).inspect(|()| {
                    let text = "the directory of the logs was moved or removed; it is made anew, without the earlier records";
                    self.insist("warn", text.to_owned());
                })
            }
            kept => kept,
        };
        kept.map_err(|e| DiskFault::new(&e, "write the log", &path))
    }

    fn hand_on(&self, record: Record) {
        // An error means that there are no followers.
        let _ = self.0.followers.send(Arc::new(record));
    }

    /// Reports the first record that could not be written, and the first successful write after that.
    fn tell_of(&self, kept: Result<(), DiskFault>) {
        let lost = &self.0.lost;
        match kept {
            Err(fault) if lost.fetch_add(1, Ordering::Relaxed) == 0 => {
                let message = format!("{fault}; until then the log is shown and not kept");
                self.insist("error", message);
            }
            Ok(()) if lost.load(Ordering::Relaxed) > 0 => {
                let lost = lost.swap(0, Ordering::Relaxed);
                let message = format!("the log is kept again; {lost} records were not");
                self.insist("warn", message);
            }
            _ => {}
        }
    }

    /// Shows a record that must not depend on the files.
    fn insist(&self, level: &str, message: String) {
        let record = Record {
            time: Timestamp::now(),
            daemon: DAE_NAME.to_owned(),
            generation: None,
            level: level.to_owned(),
            target: module_path!().to_owned(),
            message,
            fields: Map::new(),
        };
        self.0.console.insist(&record, &json_line(&record));
        self.hand_on(record);
    }
}

fn json_line(record: &Record) -> Vec<u8> {
    // A record consists of strings, numbers and JSON, so serialising it can't fail. Readers would skip an empty line.
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::sample::{journal, messages, record};
    use std::fs;
    use tokio::sync::broadcast::error::TryRecvError;

    #[test]
    fn what_is_written_is_there_at_once_for_readers_and_followers() {
        let (dir, journal) = journal();
        journal.write(record("A", "before"));
        let mut follower = journal.subscribe();
        let sent = record("A", "two\nlines");
        journal.clone().write(sent.clone());
        journal.write(record("B", "other"));
        assert_eq!(*follower.try_recv().unwrap(), sent);
        let tail = journal.tail(Some("A"), 9, usize::MAX).unwrap();
        assert_eq!(messages(&tail), ["before", "two\nlines"]);
        assert_eq!(journal.tail(None, 1, usize::MAX).unwrap()[0].daemon, "B");
        let text = fs::read_to_string(dir.path().join("A.log")).unwrap();
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn many_threads_write_whole_lines() {
        let (_dir, journal) = journal();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    (0..50).for_each(|n| journal.write(record("A", &format!("{thread} {n}"))));
                });
            }
        });
        assert_eq!(journal.tail(Some("A"), 999, usize::MAX).unwrap().len(), 200);
    }

    /// On Windows, nobody can move a directory with an open file in it.
    #[cfg(all(test, unix))]
    #[test]
    fn a_directory_that_somebody_moves_is_made_anew_and_that_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let journal = Journal::open(&logs, Console::Off).unwrap();
        journal.write(record("A", "before"));
        let mut follower = journal.subscribe();
        fs::rename(&logs, dir.path().join("moved")).unwrap();
        journal.write(record("A", "behind"));
        journal.write(record("A", "last"));
        let tail = journal.tail(Some("A"), 9, usize::MAX).unwrap();
        assert_eq!(messages(&tail), ["behind", "last"]);
        let mut told = Vec::new();
        while let Ok(record) = follower.try_recv() {
            told.push(record.message.clone());
        }
        assert!(told[0].contains("moved or removed"), "{told:?}");
        assert_eq!(told[1..], ["behind", "last"]);
    }

    #[test]
    fn a_journal_that_writes_nothing_leaves_no_trace() {
        let (dir, journal) = journal();
        assert!(journal.tail(None, 9, usize::MAX).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_follower_that_falls_behind_is_told_and_goes_on() {
        let (_dir, journal) = journal();
        let mut follower = journal.subscribe();
        for n in 0..=FOLLOWER_RECORDS_MAX {
            journal.hand_on(record("A", &n.to_string()));
        }
        assert_eq!(follower.try_recv(), Err(TryRecvError::Lagged(1)));
        assert_eq!(follower.try_recv().unwrap().message, "1");
    }
}
