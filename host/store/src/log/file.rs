//! One daemon's log on the disk: lines are appended to a file, which is rotated when it is full.
//!
//! `N.log` is the current file, `N.log.1` the previous one, and so on; the oldest is overwritten. (The crate considered
//! for this panics if its directory is gone, and reports nothing if the file can't be opened.) Nothing is synced: a log
//! isn't worth the time.
//!
//! After an error the file is closed and the next line reopens it, so that logging resumes as soon as a full disk has
//! space. A line that was cut off by a full disk or the end of a process is terminated first, so that it doesn't damage
//! the next line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::os::advice::is_in_use;
use crate::os::disk;
use crate::os::file_name;
use crate::os::log_file::{can_be_renamed, is_at};
use crate::os::private;

/// The size at which a file is rotated (bytes). It holds some hours of a talkative daemon, and any editor can open it.
const FILE_BYTES_MAX: u64 = 10 << 20;

/// The part of a file's size by which the file grows before a rotation that has failed is tried again.
const GROWTH_PART: u64 = 16;

/// The number of files per daemon, including the current one.
const FILES_MAX: u32 = 5;

/// Returns the path of a daemon's current log file.
pub(super) fn path_of(logs_dir: &Path, daemon: &str) -> PathBuf {
    logs_dir.join(format!("{}.log", file_stem(daemon)))
}

/// Returns the name of the daemon that a log file belongs to, or `None` if the file is not a log.
pub(super) fn daemon_of(file_name: &str) -> Option<&str> {
    let (present, age) = match file_name.rsplit_once(".log") {
        Some((stem, age)) => (stem, age),
        None => return None,
    };
    let is_age = |age: &str| {
        age.parse()
            .is_ok_and(|age: u32| (1..FILES_MAX).contains(&age))
    };
    let is_log = age.is_empty() || age.strip_prefix('.').is_some_and(is_age);
    (is_log && !present.is_empty()).then_some(present)
}

/// Returns a file stem for a daemon's name. Names of this host's daemons stay unchanged; unsuitable characters in other
/// names are replaced.
fn file_stem(daemon: &str) -> String {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good = |c| if is_good(c) { c } else { '_' };
    let limit = crate::registry::DAEMON_NAME_BYTES_MAX;
    let stem: String = daemon.chars().take(limit).map(good).collect();
    match file_name::check(&stem) {
        Ok(()) => stem,
        // Such as a device's name, under which somebody has tried to install a daemon.
        Err(_) => format!("_{stem}"),
    }
}

/// Returns the paths of the current file and the rotated ones, newest first. Some may not exist.
pub(crate) fn paths(present: &Path) -> impl Iterator<Item = PathBuf> {
    (0..FILES_MAX).map(|age| aged(present, age))
}

fn aged(present: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return present.to_path_buf();
    }
    let mut name = present.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// The log file of one daemon, or the file of the events.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file_bytes_max: u64,
    /// The size at which the file is rotated. It is more than `file_bytes_max` after a rotation that somebody has
    /// prevented, so that not every line tries again.
    rotated_at: u64,
    open: Option<OpenLog>,
    /// True once somebody has moved or removed the file that was written to, until [`LogFile::take_displaced`].
    is_displaced: bool,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Creates the log file's handle without touching the disk.
    pub(crate) fn new(path: PathBuf) -> Self {
        LogFile {
            path,
            file_bytes_max: FILE_BYTES_MAX,
            rotated_at: FILE_BYTES_MAX,
            open: None,
            is_displaced: false,
        }
    }

    /// Creates the handle of a log file that is rotated at that size (bytes).
    #[cfg(test)]
    pub(crate) fn of_size(path: PathBuf, file_bytes_max: u64) -> Self {
        LogFile {
            file_bytes_max,
            rotated_at: file_bytes_max,
            ..LogFile::new(path)
        }
    }

    /// Appends a line that ends with LF.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.try_append(line);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let len = line.len() as u64;
        let bytes = self.opened()?.bytes;
        if bytes + len > self.rotated_at {
            self.rotated_at = match self.set_aside()? {
                true => self.file_bytes_max,
                false => bytes + self.file_bytes_max / GROWTH_PART,
            };
        }
        let open = self.opened()?;
        open.file.write_all(line)?;
        open.bytes += len;
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut OpenLog> {
        // Somebody may have moved or removed the file; nobody would read what is written to it.
        let open = match self.open.take() {
            Some(open) if is_at(&open.file, &self.path) => open,
            before => {
                self.is_displaced |= before.is_some();
                OpenLog::at(&self.path)?
            }
        };
        Ok(self.open.insert(open))
    }

    /// Returns whether somebody has moved or removed the file since the last call, so that its lines are elsewhere.
    pub(crate) fn take_displaced(&mut self) -> bool {
        std::mem::take(&mut self.is_displaced)
    }

    /// Rotates the files. An empty current file stays, since then a single line exceeds the limit. All stay as long as
    /// the system keeps one of them from being renamed, since its reader has it open: the current file then grows, and
    /// this returns false.
    fn set_aside(&mut self) -> io::Result<bool> {
        if self.opened()?.bytes == 0 {
            return Ok(true);
        }
        self.open = None;
        if !paths(&self.path).all(|path| can_be_renamed(&path)) {
            return Ok(false);
        }
        for age in (1..FILES_MAX).rev() {
            match fs::rename(aged(&self.path, age - 1), aged(&self.path, age)) {
                Err(e) if is_in_use(&e) => return Ok(false),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(true)
    }
}

impl OpenLog {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        private::set_owners_mode(&mut options);
        // A pipe in the file's place takes no more than its reader reads.
        disk::never_wait(&mut options);
        let mut file = options.open(path)?;
        end_line(&mut file)?;
        let metadata = file.metadata()?;
        let bytes = metadata.len();
        // A pipe or device that a person has put in the file's place keeps its mode.
        if bytes == 0 && metadata.is_file() {
            private::make_owners(&file)?;
        }
        Ok(OpenLog { file, bytes })
    }
}

fn end_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    match last {
        [b'\n'] => Ok(()),
        _ => file.write_all(b"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_file(dir: &Path, file_bytes_max: u64) -> LogFile {
        LogFile::of_size(path_of(dir, "A"), file_bytes_max)
    }

    fn text(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_file(dir.path(), 10);
        for line in 0..12 {
            log.append(format!("{line:03}\n").as_bytes()).unwrap();
        }
        assert_eq!(text(dir.path(), "A.log"), "010\n011\n");
        assert_eq!(text(dir.path(), "A.log.1"), "008\n009\n");
        assert_eq!(text(dir.path(), "A.log.4"), "002\n003\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_line_longer_than_a_file_has_one_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_file(dir.path(), 4);
        for line in ["a long one\n", "b\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(text(dir.path(), "A.log"), "b\n");
        assert_eq!(text(dir.path(), "A.log.1"), "a long one\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_start_goes_on_where_the_old_one_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("A.log"), "whole\nhal").unwrap();
        log_file(dir.path(), 99).append(b"new\n").unwrap();
        assert_eq!(text(dir.path(), "A.log"), "whole\nhal\nnew\n");
        log_file(dir.path(), 99).append(b"newer\n").unwrap();
        assert_eq!(text(dir.path(), "A.log"), "whole\nhal\nnew\nnewer\n");
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let mut log = log_file(&logs, 99);
        log.append(b"a\n").unwrap_err();
        fs::create_dir(&logs).unwrap();
        log.append(b"b\n").unwrap();
        assert_eq!(text(&logs, "A.log"), "b\n");
    }

    #[test]
    fn a_files_name_tells_whose_log_it_is() {
        for (name, daemon) in [
            ("A.log", Some("A")),
            ("A.log.4", Some("A")),
            ("A.log.log.1", Some("A.log")),
            ("A.log.5", None),
            ("A.log.x", None),
            ("A.txt", None),
            (".log", None),
        ] {
            assert_eq!(daemon_of(name), daemon, "{name}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let path = path_of(Path::new("logs"), "../a/b\0é");
        assert_eq!(path, Path::new("logs/.._a_b__.log"));
    }
}
