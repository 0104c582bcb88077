//! The one door to the log: a record goes to its daemon's file, to the console, and to whoever follows.
//!
//! Files are written on the spot: that is a copy into the system's cache, and what is written can be read at once. Only
//! those that were written last stay open, so that ten thousand daemons that are silent hold no descriptor for it.
//! Should the disk be full, the record is still shown and followed; the trouble is told once, and its end too.
//! Absent on purpose: levels are filtered where records are made, and sizes limited where strangers make them.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Map;
use tokio::sync::broadcast;

use super::Record;
use super::console::{Console, ConsoleThread};
use super::file;
use super::open::OpenFiles;
use super::tail::tail_within;
use crate::atomic_file::DiskFault;
use crate::registry::DAE_NAME;

/// Records that a follower may be behind before it misses some (and is told so by its `recv`).
const FOLLOWER_RECORDS_MAX: usize = 1024;

/// The log of a home. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Journal(Arc<JournalShared>);

#[derive(Debug)]
struct JournalShared {
    logs_dir: PathBuf,
    files: Mutex<OpenFiles>,
    /// Records that could not be kept since the last one that could.
    lost: AtomicU64,
    console: ConsoleThread,
    /// Whether the console gets what is only for those who look for a fault.
    shows_debug: AtomicBool,
    /// Whether the console gets warnings and errors alone.
    is_quiet: AtomicBool,
    followers: broadcast::Sender<Arc<Record>>,
}

impl Journal {
    /// The journal that keeps its files in `logs_dir`. None is touched before there is something to write.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn open(logs_dir: impl Into<PathBuf>, console: Console) -> anyhow::Result<Self> {
        let console = ConsoleThread::start(console, io::stderr())
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

    /// Keeps, shows and hands on a record. Never fails.
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

    /// Closes the file of a daemon that has left: a log that is removed must not keep its room on the disk.
    pub fn close(&self, daemon: &str) {
        let path = file::path_of(&self.0.logs_dir, daemon);
        locked(&self.0.files).close(&path);
    }

    /// From now on the console shows `debug` and `trace` too; the files have them in any case.
    pub fn show_debug(&self) {
        self.0.shows_debug.store(true, Ordering::Relaxed);
    }

    /// From now on the console shows warnings and errors alone; the files have the rest.
    pub fn show_no_info(&self) {
        self.0.is_quiet.store(true, Ordering::Relaxed);
    }

    /// The last `lines` records of one daemon, or of all together, oldest first; fewer where they have more than `bytes_max`
    /// bytes in the files. It blocks the thread.
    ///
    /// # Errors
    /// The disk's.
    pub fn tail(
        &self,
        daemon: Option<&str>,
        lines: usize,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<Record>> {
        tail_within(&self.0.logs_dir, daemon, (lines, bytes_max))
    }

    /// Every record written from now on. One who falls behind gets `Lagged` with their number, and goes on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Record>> {
        self.0.followers.subscribe()
    }

    /// Waits until the console shows all that was written, for at most `limit`: to be called before the process ends.
    /// It blocks the thread.
    pub fn flush(&self, limit: Duration) {
        self.0.console.flush(limit);
    }

    fn keep(&self, daemon: &str, json: &[u8]) -> Result<(), DiskFault> {
        let path = file::path_of(&self.0.logs_dir, daemon);
        let file = locked(&self.0.files).get(&path);
        locked(&file)
            .append(json)
            .map_err(|e| DiskFault::new(&e, "write the log", &path))
    }

    fn hand_on(&self, record: Record) {
        // An error means that nobody follows.
        let _ = self.0.followers.send(Arc::new(record));
    }

    /// Tells of the first record that could not be kept, and of the first one that could again.
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

    /// What the files can't be trusted with.
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
    // A record is strings, numbers and JSON, none of which fails; were it to, an empty line is passed over by readers.
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A panic while a lock was held leaves a file or a map that is still good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;
    use tokio::sync::broadcast::error::TryRecvError;

    const LIMIT: Duration = Duration::from_secs(10);

    fn record(daemon: &str, message: &str) -> Record {
        Record {
            time: Timestamp::now(),
            daemon: daemon.to_owned(),
            generation: Some(1),
            level: "info".to_owned(),
            target: "t".to_owned(),
            message: message.to_owned(),
            fields: Map::new(),
        }
    }

    fn journal() -> (TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Console::Off).unwrap();
        (dir, journal)
    }

    fn messages(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| &*record.message).collect()
    }

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

    #[test]
    fn a_journal_that_writes_nothing_leaves_no_trace() {
        let (dir, journal) = journal();
        assert!(journal.tail(None, 9, usize::MAX).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// `/dev/full` is a disk without room.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once_and_its_end_too() {
        let (dir, journal) = journal();
        let path = dir.path().join("A.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut follower = journal.subscribe();
        journal.write(record("A", "one"));
        journal.write(record("A", "two"));
        fs::remove_file(&path).unwrap();
        journal.write(record("A", "three"));
        let mut told = Vec::new();
        while let Ok(record) = follower.try_recv() {
            told.push(record.message.clone());
        }
        assert!(
            told[1].contains("A.log") && told[1].contains("disk is full"),
            "{told:?}"
        );
        assert_eq!(told[4], "the log is kept again; 2 records were not");
        assert_eq!((told.len(), &*told[2], &*told[3]), (5, "two", "three"));
        let tail = journal.tail(Some("A"), 9, usize::MAX).unwrap();
        assert_eq!(messages(&tail), ["three"]);
        journal.flush(LIMIT);
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
