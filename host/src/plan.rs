//! What is to be done about the drop-in directory: a pure function of what lies there, what is registered, and what was
//! tried before. [`look`] alone sees the disk.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How often a file that isn't whole is tried before it is called broken: some seconds of a linker's work.
const TRIES_MAX: u32 = 20;

/// A file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub path: PathBuf,
    /// What changes when its content does.
    pub stamp: Stamp,
}

/// Length and time of a file's last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// What was tried before, so that a file that can't be installed is told once.
#[derive(Debug, Default)]
pub struct Known {
    done: HashMap<PathBuf, Stamp>,
    tries: HashMap<PathBuf, u32>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Install the file, or replace the daemon that is installed from it.
    Install(Seen),
    /// The daemon's file has gone.
    Uninstall(String),
}

impl Known {
    /// The file was dealt with, well or badly, and is left alone until it changes.
    pub fn note(&mut self, seen: Seen) {
        self.tries.remove(&seen.path);
        self.done.insert(seen.path, seen.stamp);
    }

    /// Counts one more try of a file that isn't whole; true when it has been tried often enough.
    pub fn is_tired_of(&mut self, seen: &Seen) -> bool {
        let tries = self.tries.entry(seen.path.clone()).or_default();
        *tries += 1;
        *tries >= TRIES_MAX
    }

    /// Files that have gone are new when they come back.
    pub fn forget_all_but(&mut self, seen: &[Seen]) {
        let is_there = |path: &PathBuf| seen.iter().any(|seen| seen.path == *path);
        self.done.retain(|path, _| is_there(path));
        self.tries.retain(|path, _| is_there(path));
    }
}

/// The files that may be plugins.
///
/// # Errors
/// The directory can't be read.
pub fn look(dir: &Path) -> io::Result<Vec<Seen>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // One that goes away while we look has gone.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if is_candidate(&path) && metadata.is_file() {
            let stamp = Stamp {
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
                inode: metadata.ino(),
            };
            all.push(Seen { path, stamp });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// A library by its name, and not the hidden temporary file of something that copies.
fn is_candidate(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_library = path
        .extension()
        .is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION);
    is_library && !is_hidden
}

/// What is to be done: removals first, so that a file that was renamed finds its name free.
#[must_use]
pub fn plan(seen: &[Seen], registered: &[(String, PathBuf)], known: &Known) -> Vec<Action> {
    let is_there = |source: &PathBuf| seen.iter().any(|seen| seen.path == *source);
    let gone = registered.iter().filter(|(_, source)| !is_there(source));
    let gone = gone.map(|(name, _)| Action::Uninstall(name.clone()));
    let new = seen
        .iter()
        .filter(|seen| known.done.get(&seen.path) != Some(&seen.stamp));
    gone.chain(new.cloned().map(Action::Install)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, bytes: u64) -> Seen {
        let stamp = Stamp {
            bytes,
            modified: None,
            inode: 1,
        };
        Seen {
            path: path.into(),
            stamp,
        }
    }

    #[test]
    fn new_and_changed_files_are_installed_once_and_gone_ones_are_not_there() {
        let mut known = Known::default();
        let registered = [("A".to_owned(), PathBuf::from("a.so"))];
        let now = [seen("b.so", 1)];
        let both = [
            Action::Uninstall("A".to_owned()),
            Action::Install(seen("b.so", 1)),
        ];
        assert_eq!(plan(&now, &registered, &known), both);
        known.note(seen("b.so", 1));
        let registered = [("B".to_owned(), PathBuf::from("b.so"))];
        assert_eq!(plan(&now, &registered, &known), []);
        let changed = [seen("b.so", 2)];
        assert_eq!(
            plan(&changed, &registered, &known),
            [Action::Install(seen("b.so", 2))]
        );
        known.forget_all_but(&[]);
        assert_eq!(
            plan(&now, &registered, &known),
            [Action::Install(seen("b.so", 1))]
        );
    }

    #[test]
    fn temporary_and_other_files_are_no_candidates() {
        let library = format!("libx.{}", std::env::consts::DLL_EXTENSION);
        assert!(is_candidate(Path::new(&library)));
        for other in [".libx.so", "x.txt", "libx.so.tmp", "x"] {
            assert!(!is_candidate(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_file_that_is_never_whole_is_given_up_on() {
        let mut known = Known::default();
        let tries = (1..100).find(|_| known.is_tired_of(&seen("a.so", 1)));
        assert_eq!(tries, Some(TRIES_MAX));
    }
}
