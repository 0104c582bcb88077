//! Reads the end of the log from its files, whether or not a host writes them.
//!
//! Files are read backwards in blocks, so the last screen of a large log costs one block. A file may be rotated during
//! the read. Each file is therefore opened before the next older one, and a file that appears again under its new name
//! is skipped. Lines that are not records, such as a cut-off line, are skipped too.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::file;
use super::{LogQuery, Record};
use crate::atomic_file;
use crate::atomic_file::DiskFault;
use crate::os::file_id::FileId;

/// The size of one read (bytes): some hundred lines.
const BLOCK_BYTES: u64 = 64 << 10;

/// The suffix of a current (not rotated) log file.
const LOG_SUFFIX: &str = ".log";

/// Returns the last `lines` records of one daemon or of all, from the files in `logs_dir`, oldest first. Missing files
/// count as empty.
///
/// # Errors
/// A disk error.
pub fn tail_files(
    logs_dir: &Path,
    daemon: Option<&str>,
    lines: usize,
) -> anyhow::Result<Vec<Record>> {
    read_files(logs_dir, &LogQuery::last(daemon, lines), usize::MAX)
}

/// Returns the last records that the query selects, from the files in `logs_dir`, oldest first. It returns fewer if they
/// take more than `bytes_max` bytes in the files. Missing files count as empty.
///
/// # Errors
/// A disk error.
pub fn read_files(
    logs_dir: &Path,
    query: &LogQuery,
    bytes_max: usize,
) -> anyhow::Result<Vec<Record>> {
    let latest = latest(logs_dir, query, bytes_max)?;
    let records = latest.kept.into_values().map(|(record, _)| record);
    Ok(records.collect())
}

fn latest<'q>(
    logs_dir: &Path,
    query: &'q LogQuery,
    bytes_max: usize,
) -> anyhow::Result<Latest<'q>> {
    let logs = match query.names.as_slice() {
        [] => all_logs(logs_dir)?,
        names => {
            let mut logs: Vec<PathBuf> = names
                .iter()
                .map(|name| file::path_of(logs_dir, name))
                .collect();
            // A name that is given twice.
            logs.sort();
            logs.dedup();
            logs
        }
    };
    let mut latest = Latest {
        query,
        bytes_max,
        kept: BTreeMap::new(),
        bytes: 0,
        read: 0,
    };
    for (number, log) in logs.iter().enumerate() {
        take_log(&mut latest, number, log)?;
    }
    Ok(latest)
}

/// The latest of the records read so far. Memory use depends on the requested limits, not on the number of logs.
struct Latest<'q> {
    query: &'q LogQuery,
    bytes_max: usize,
    /// The kept records with their lengths in the file (bytes), sorted by time, then by log and by position in the log.
    kept: BTreeMap<(Timestamp, usize, Reverse<usize>), (Record, usize)>,
    bytes: usize,
    /// The number of records read, kept or not.
    read: usize,
}

impl Latest<'_> {
    /// Takes the next older record of a log. Breaks if this record and all before it are older than the kept ones.
    fn take(
        &mut self,
        (log, age): (usize, usize),
        record: Record,
        bytes: usize,
    ) -> ControlFlow<()> {
        self.read += 1;
        let key = (record.time, log, Reverse(age));
        let is_full = self.kept.len() >= self.query.lines || self.bytes + bytes > self.bytes_max;
        let is_older = |(oldest, _): (&_, _)| key < *oldest;
        if is_full && self.kept.first_key_value().is_none_or(is_older) {
            return ControlFlow::Break(());
        }
        self.bytes += bytes;
        self.kept.insert(key, (record, bytes));
        while self.kept.len() > self.query.lines || self.bytes > self.bytes_max {
            let Some((_, (_, bytes))) = self.kept.pop_first() else {
                break;
            };
            self.bytes -= bytes;
        }
        ControlFlow::Continue(())
    }
}

fn all_logs(logs_dir: &Path) -> Result<Vec<PathBuf>, DiskFault> {
    let entries = match fs::read_dir(logs_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|e| DiskFault::new(&e, "read the logs in", logs_dir))?,
    };
    let is_log = |path: &PathBuf| path.as_os_str().to_string_lossy().ends_with(LOG_SUFFIX);
    let mut logs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_log)
        .collect();
    logs.sort();
    Ok(logs)
}

/// Takes the records of a log and its rotated files, newest first, until they are too old. It takes at most the
/// requested number of lines, whatever their times.
fn take_log(latest: &mut Latest<'_>, number: usize, present: &Path) -> Result<(), DiskFault> {
    let mut age = 0;
    each_line_from_last(present, |line| {
        let Ok(record) = serde_json::from_slice(line) else {
            return ControlFlow::Continue(());
        };
        if age == latest.query.lines || latest.query.is_before(&record) {
            return ControlFlow::Break(());
        }
        if !latest.query.selects(&record) {
            return ControlFlow::Continue(());
        }
        age += 1;
        latest.take((number, age), record, line.len())
    })
}

/// Calls `take` with each line of a log and its rotated files, last line first, until it breaks. Missing files count as
/// empty.
///
/// # Errors
/// A disk error.
pub(crate) fn each_line_from_last(
    present: &Path,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), DiskFault> {
    for (path, mut file) in open_all(present)? {
        let flow = each_from_last(&mut file, &mut take);
        let flow = flow.map_err(|e| DiskFault::new(&e, "read", &path))?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// Opens the existing files of a log, newest first.
fn open_all(present: &Path) -> Result<Vec<(PathBuf, File)>, DiskFault> {
    let mut opened: Vec<(PathBuf, File)> = Vec::new();
    for path in file::paths(present) {
        let file = match atomic_file::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|e| DiskFault::new(&e, "read", &path))?,
        };
        if !opened.iter().any(|(_, newer)| is_same(newer, &file)) {
            opened.push((path, file));
        }
    }
    Ok(opened)
}

fn is_same(one: &File, other: &File) -> bool {
    let id = |file: &File| FileId::of_open(file).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// Calls `take` with each line of a file, last line first, until it breaks.
fn each_from_last(
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut start = file.seek(SeekFrom::End(0))?;
    // The bytes before the first LF read so far: the end of a line that begins in the preceding block.
    let mut rest = Vec::new();
    while start > 0 {
        let block = start.min(BLOCK_BYTES);
        start -= block;
        let mut bytes = read_at(file, start, block)?;
        bytes.append(&mut rest);
        let first_line = match start {
            0 => 0,
            _ => bytes
                .iter()
                .position(|&b| b == b'\n')
                .map_or(bytes.len(), |at| at + 1),
        };
        let mut lines = bytes[first_line..].rsplit(|&b| b == b'\n');
        if lines.try_for_each(&mut take).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        bytes.truncate(first_line);
        rest = bytes;
    }
    Ok(ControlFlow::Continue(()))
}

fn read_at(file: &mut File, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(daemon: &str, second: usize, padding: usize) -> String {
        let (minute, second) = (second / 60, second % 60);
        let message = "x".repeat(padding);
        format!(
            r#"{{"time":"2026-01-02T03:{minute:02}:{second:02}Z","daemon":"{daemon}","level":"info","target":"t","message":"{message}"}}"#
        ) + "\n"
    }

    /// Returns lines of daemon A for these seconds, each with a message of `padding` characters.
    fn lines(seconds: std::ops::Range<usize>, padding: usize) -> String {
        seconds.map(|second| line("A", second, padding)).collect()
    }

    /// Returns the records' times in seconds since 03:00:00.
    fn seconds(records: &[Record]) -> Vec<usize> {
        let zero: jiff::Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let second = |record: &Record| record.time.duration_since(zero).as_secs() as usize;
        records.iter().map(second).collect()
    }

    fn tail(dir: &Path, lines: usize) -> Vec<usize> {
        seconds(&tail_files(dir, Some("A"), lines).unwrap())
    }

    #[test]
    fn the_end_is_found_over_files_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("A.log.2"), lines(0..3, 9)).unwrap();
        fs::write(dir.path().join("A.log.1"), lines(3..5, 9)).unwrap();
        fs::write(dir.path().join("A.log"), lines(5..7, 9)).unwrap();
        assert_eq!(tail(dir.path(), 1), [6]);
        assert_eq!(tail(dir.path(), 3), [4, 5, 6]);
        assert_eq!(tail(dir.path(), 6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tail(dir.path(), usize::MAX), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(tail(dir.path(), 0), Vec::<usize>::new());
    }

    /// Lines of about a block's length, so that they cross block borders in every way.
    #[test]
    fn lines_across_blocks_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let block = BLOCK_BYTES as usize;
        let overhead = line("A", 0, 0).len();
        let exact = block - overhead;
        for padding in [exact - 1, exact, exact + 1, exact / 2, block * 3, 100] {
            fs::write(dir.path().join("A.log"), lines(0..20, padding)).unwrap();
            assert_eq!(tail(dir.path(), 3), [17, 18, 19], "{padding}");
            assert_eq!(tail(dir.path(), 99).len(), 20, "{padding}");
        }
    }

    #[test]
    fn daemons_are_merged_by_time() {
        let dir = tempfile::tempdir().unwrap();
        for (daemon, times) in [("A", [1, 4]), ("B.log", [2, 3]), ("Dae", [0, 5])] {
            let text: String = times
                .iter()
                .map(|&second| line(daemon, second, 0))
                .collect();
            fs::write(file::path_of(dir.path(), daemon), text).unwrap();
        }
        let all = tail_files(dir.path(), None, 5).unwrap();
        assert_eq!(seconds(&all), [1, 2, 3, 4, 5]);
        let names: Vec<&str> = all.iter().map(|record| &*record.daemon).collect();
        assert_eq!(names, ["A", "B.log", "B.log", "A", "Dae"]);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{}\n\nno record\n{}{{\"time\":",
            line("A", 1, 0),
            line("A", 2, 0)
        );
        fs::write(dir.path().join("A.log"), text).unwrap();
        assert_eq!(tail(dir.path(), 2), [1, 2]);
    }

    #[test]
    fn no_file_is_no_record_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), 9), Vec::<usize>::new());
        assert!(
            tail_files(&dir.path().join("x"), None, 9)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("A.log")).unwrap();
        let messages = tail_files(dir.path(), Some("A"), 9)
            .unwrap_err()
            .to_string();
        assert!(messages.contains("A.log"), "{messages}");
    }

    #[test]
    fn many_logs_cost_no_more_than_what_is_asked_for() {
        const LOGS: usize = 50;
        let dir = tempfile::tempdir().unwrap();
        for log in 0..LOGS {
            let name = format!("L{log}");
            let text: String = (0..100).map(|second| line(&name, second, 0)).collect();
            fs::write(file::path_of(dir.path(), &name), text).unwrap();
        }
        let query = LogQuery::last(None, 200);
        let found = latest(dir.path(), &query, usize::MAX).unwrap();
        assert_eq!(found.kept.len(), 200);
        assert!(found.read < 100 * LOGS / 4, "read {}", found.read);
        let records = tail_files(dir.path(), None, 200).unwrap();
        assert_eq!(
            seconds(&records),
            [96, 97, 98, 99].map(|s| [s; LOGS]).concat()
        );
        let bytes_max = 10 * line("L1", 0, 0).len();
        let bounded = latest(dir.path(), &query, bytes_max).unwrap();
        assert!(bounded.bytes <= bytes_max && !bounded.kept.is_empty());
        assert!(
            bounded
                .kept
                .keys()
                .all(|(time, ..)| *time > records[0].time)
        );
    }
}
