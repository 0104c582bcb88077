//! What lies in a home: what is installed, and what only comes and goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::Ecosystem;

/// Directories of a home whose files come and go as the host runs: no part of what is installed.
const PASSING: [&str; 3] = ["logs", "images", "run"];

impl Ecosystem {
    /// What is installed, byte by byte: every file of the home that does not come and go.
    ///
    /// # Panics
    /// When a file cannot be read.
    #[must_use]
    pub fn installed(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let lasting = |path: &PathBuf| {
            let inside = path.strip_prefix(self.home()).expect("a path of the home");
            let passes = inside
                .iter()
                .any(|part| PASSING.iter().any(|name| part == *name));
            !passes && path.extension().is_none_or(|extension| extension != "lock")
        };
        let read = |path: PathBuf| {
            fs::read(&path)
                .map(|bytes| (path, bytes))
                .expect("a file of the home")
        };
        files(&self.home())
            .into_iter()
            .filter(lasting)
            .map(read)
            .collect()
    }

    /// Every Unix socket of the home.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        entries(&self.home())
            .into_iter()
            .filter(|path| kind(path).is_some_and(|kind| kind.is_socket()))
            .collect()
    }
}

/// Everything below a directory, directories included; nothing if it is not there.
#[must_use]
pub fn entries(directory: &Path) -> Vec<PathBuf> {
    let here = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    here.flat_map(|path| [entries(&path), vec![path]].concat())
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    entries(directory)
        .into_iter()
        .filter(|path| kind(path).is_some_and(|kind| kind.is_file()))
        .collect()
}

fn kind(path: &Path) -> Option<fs::FileType> {
    fs::symlink_metadata(path)
        .ok()
        .map(|metadata| metadata.file_type())
}
