//! The open log files: a limited number of the most recently used ones.
//!
//! With ten thousand daemons, file descriptors are scarce, and most daemons log nothing. A file is therefore opened on
//! the first write, and the least recently used file is closed to make room for it. A file in use is never closed:
//! there must be at most one open file per path, or one writer would continue in a file that another has rotated.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::file::LogFile;

/// The highest number of files that stay open. More daemons than this seldom log at the same time, and reopening a file
/// costs six system calls.
const OPEN_MAX: usize = 64;

/// The open log files by path.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    by_path: HashMap<PathBuf, LastUse>,
    /// The number of calls of [`OpenFiles::get`].
    uses: u64,
}

#[derive(Debug)]
struct LastUse {
    file: Arc<Mutex<LogFile>>,
    /// The number of the call that last returned this file.
    last: u64,
}

impl OpenFiles {
    /// Returns the file at `path`, which opens on the first write.
    pub(super) fn get(&mut self, path: &Path) -> Arc<Mutex<LogFile>> {
        self.uses += 1;
        let last = self.uses;
        if let Some(used) = self.by_path.get_mut(path) {
            used.last = last;
            return Arc::clone(&used.file);
        }
        while self.by_path.len() >= OPEN_MAX && self.close_one() {}
        let file = Arc::new(Mutex::new(LogFile::new(path.to_path_buf())));
        let used = LastUse {
            file: Arc::clone(&file),
            last,
        };
        self.by_path.insert(path.to_path_buf(), used);
        file
    }

    /// Closes the file at `path`, unless it is in use. The next write opens it again.
    pub(super) fn close(&mut self, path: &Path) {
        let is_idle = |used: &LastUse| Arc::strong_count(&used.file) == 1;
        if self.by_path.get(path).is_some_and(is_idle) {
            self.by_path.remove(path);
        }
    }

    /// Closes the least recently used file. Returns false if all files are in use; the limit is then exceeded for a
    /// while.
    fn close_one(&mut self) -> bool {
        let idle = self
            .by_path
            .iter()
            .filter(|(_, used)| Arc::strong_count(&used.file) == 1);
        let oldest = idle.min_by_key(|(_, used)| used.last);
        let oldest = oldest.map(|(path, _)| path.clone());
        oldest.is_some_and(|path| self.by_path.remove(&path).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_written_last_stay_open_and_none_that_is_in_use_is_closed() {
        let mut files = OpenFiles::default();
        let path = |number: usize| PathBuf::from(number.to_string());
        let in_use = files.get(&path(0));
        for number in 1..OPEN_MAX {
            drop(files.get(&path(number)));
        }
        drop(files.get(&path(1)));
        drop(files.get(&path(OPEN_MAX)));
        assert_eq!(files.by_path.len(), OPEN_MAX);
        assert!(Arc::ptr_eq(&in_use, &files.get(&path(0))));
        assert!(files.by_path.contains_key(&path(1)), "it was used again");
        assert!(!files.by_path.contains_key(&path(2)), "left alone longest");
    }

    #[test]
    fn there_is_room_for_one_more_while_all_are_written_to() {
        let mut files = OpenFiles::default();
        let path = |number: usize| PathBuf::from(number.to_string());
        let held: Vec<_> = (0..=OPEN_MAX)
            .map(|number| files.get(&path(number)))
            .collect();
        assert_eq!(files.by_path.len(), OPEN_MAX + 1);
        drop(held);
        drop(files.get(&path(OPEN_MAX + 1)));
        assert_eq!(files.by_path.len(), OPEN_MAX);
    }
}
