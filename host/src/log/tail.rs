//! The end of the log, read from its files, whether or not a host writes them.
//!
//! Files are read backwards in blocks, so that the last screen of a large log costs a block. A file may be set aside
//! while it is read: each is opened before the next older one, and one that is met again under its new name is passed
//! over. What isn't a record, such as a line that was cut short, is passed over too.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::Record;
use super::file;
use crate::durable::DiskFault;

/// What is read at a time: some hundred lines.
const BLOCK_BYTES: u64 = 64 << 10;

/// What the name of a log that isn't set aside ends with.
const LOG_SUFFIX: &str = ".log";

/// The last `lines` records of one daemon, or of all together, from the files in `logs_dir`, oldest first.
/// What was never written is empty.
///
/// # Errors
/// The disk's.
pub fn tail_files(
    logs_dir: &Path,
    daemon: Option<&str>,
    lines: usize,
) -> anyhow::Result<Vec<Record>> {
    let logs = match daemon {
        Some(daemon) => vec![file::path_of(logs_dir, daemon)],
        None => all_logs(logs_dir)?,
    };
    let mut records = Vec::new();
    for log in logs {
        records.extend(tail_of_log(&log, lines)?);
    }
    // Stable: what one daemon wrote in one instant stays in its order.
    records.sort_by_key(|record| record.time);
    records.drain(..records.len().saturating_sub(lines));
    Ok(records)
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

/// The last `lines` records of a log and of those set aside, oldest first.
fn tail_of_log(present: &Path, lines: usize) -> Result<VecDeque<Record>, DiskFault> {
    let mut records = VecDeque::new();
    for (path, mut file) in open_all(present)? {
        let wanted = lines - records.len();
        if wanted == 0 {
            break;
        }
        let older =
            last_records(&mut file, wanted).map_err(|e| DiskFault::new(&e, "read", &path))?;
        older
            .into_iter()
            .for_each(|record| records.push_front(record));
    }
    Ok(records)
}

/// The files of a log that there are, newest first.
fn open_all(present: &Path) -> Result<Vec<(PathBuf, File)>, DiskFault> {
    let mut opened: Vec<(PathBuf, File)> = Vec::new();
    for path in file::paths(present) {
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|e| DiskFault::new(&e, "read", &path))?,
        };
        if !opened.iter().any(|(_, newer)| is_same(newer, &file)) {
            opened.push((path, file));
        }
    }
    Ok(opened)
}

#[cfg(unix)]
fn is_same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// Windows renames no open file.
#[cfg(not(unix))]
fn is_same(_one: &File, _other: &File) -> bool {
    false
}

/// The last `wanted` records of a file, newest first.
fn last_records(file: &mut File, wanted: usize) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut start = file.seek(SeekFrom::End(0))?;
    // What stands before the first LF of what was read: the end of a line that begins in the block before.
    let mut rest = Vec::new();
    while start > 0 && records.len() < wanted {
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
        let lines = bytes[first_line..].rsplit(|&b| b == b'\n');
        let parsed = lines.filter_map(|line| serde_json::from_slice(line).ok());
        records.extend(parsed.take(wanted - records.len()));
        bytes.truncate(first_line);
        rest = bytes;
    }
    Ok(records)
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

    /// `seconds` as lines of daemon A, each `padding` long.
    fn lines(seconds: std::ops::Range<usize>, padding: usize) -> String {
        seconds.map(|second| line("A", second, padding)).collect()
    }

    /// Minutes and seconds of the records, as seconds.
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

    /// Lines around the length of a block, so that each way of lying across its border comes up.
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
        let told = tail_files(dir.path(), Some("A"), 9)
            .unwrap_err()
            .to_string();
        assert!(told.contains("A.log"), "{told}");
    }
}
