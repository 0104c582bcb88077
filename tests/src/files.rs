//! The files of a home: those of installed daemons, and those that come and go.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::Ecosystem;

/// Directories of a home whose files come and go while the host runs. They are not part of an installation.
const PASSING: [&str; 3] = ["logs", "images", "run"];

impl Ecosystem {
    /// Returns the content of every file of the home that does not come and go, by path.
    ///
    /// # Panics
    /// Panics if a file cannot be read.
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

    /// Returns every Unix socket of the home.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        entries(&self.home())
            .into_iter()
            .filter(|path| kind(path).is_some_and(|kind| kind.is_socket()))
            .collect()
    }
}

/// Returns everything below a directory, subdirectories included, or nothing if the directory does not exist.
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
