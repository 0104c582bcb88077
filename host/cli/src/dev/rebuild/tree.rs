//! A crate's directory as it is now, and the changes in it since the last scan.
//!
//! A file has changed if its content has: a build script that writes the same content again changes nothing. Content is
//! compared when the file's metadata differs; for large files the metadata decides. Hidden files, editors' backups and
//! the paths that the caller excludes are skipped. Files that the caller names are scanned wherever they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dae_runtime::os::file_stamp::FileStamp;
use dae_store::atomic_file;

/// The largest file whose content is compared (bytes). Sources are smaller; data beside them may not be.
const COMPARED_BYTES_MAX: u64 = 4 << 20;

/// The paths of files or directories.
pub(in crate::dev) type Paths = BTreeSet<PathBuf>;

/// The files and directories of a crate at the last scan.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    left_out: Vec<PathBuf>,
    /// Further files, wherever they are. They need not exist.
    also: Paths,
    files: BTreeMap<PathBuf, File>,
    directories: Paths,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    stamp: FileStamp,
    content: Option<blake3::Hash>,
}

impl Tree {
    /// Scans the tree below `root`, without the paths in `left_out` and what is below them, and the files `also`.
    pub(super) fn of(root: &Path, left_out: Vec<PathBuf>, also: Paths) -> Self {
        let mut tree = Tree {
            root: root.to_owned(),
            left_out,
            also,
            files: BTreeMap::new(),
            directories: Paths::new(),
        };
        tree.changes();
        tree
    }

    /// Returns the directory at the top.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the files of the last scan.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    /// Replaces the further files. Returns those that were not scanned before and that have changed since a time.
    pub(super) fn also(&mut self, also: Paths, since: SystemTime) -> Paths {
        let mut changed = Paths::new();
        self.also = also;
        for path in self.also.clone() {
            if !self.files.contains_key(&path)
                && let Some(file) = self.further(&path)
            {
                let saved = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
                if saved.is_ok_and(|saved| saved > since) {
                    changed.insert(path.clone());
                }
                self.files.insert(path, file);
            }
        }
        let parents = self.also.iter().filter_map(|path| path.parent());
        let there = parents.filter(|parent| parent.is_dir());
        self.directories.extend(there.map(Path::to_owned));
        changed
    }

    /// Returns the directories of the last scan, with those of the further files.
    pub(super) fn directories(&self) -> &Paths {
        &self.directories
    }

    /// Scans again. Returns the files that are new, have other content, or have gone since the last scan.
    pub(super) fn changes(&mut self) -> Paths {
        let mut now = BTreeMap::new();
        let mut directories = Paths::new();
        let mut waiting = vec![self.root.clone()];
        while let Some(directory) = waiting.pop() {
            // A directory that can't be read, or has gone meanwhile, has no files.
            let entries = std::fs::read_dir(&directory).into_iter().flatten();
            for path in entries.flatten().map(|entry| entry.path()) {
                if self.is_left_out(&path) {
                    continue;
                }
                // A link is not followed: one to a parent directory would lead round in circles.
                match std::fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => waiting.push(path),
                    Ok(metadata) if metadata.is_file() => {
                        let file = self.file(&path, &metadata);
                        now.insert(path, file);
                    }
                    _ => {}
                }
            }
            directories.insert(directory);
        }
        for path in &self.also {
            if !now.contains_key(path)
                && let Some(file) = self.further(path)
            {
                now.insert(path.clone(), file);
            }
        }
        let parents = self.also.iter().filter_map(|path| path.parent());
        let there = parents.filter(|parent| parent.is_dir());
        directories.extend(there.map(Path::to_owned));
        let before = std::mem::replace(&mut self.files, now);
        self.directories = directories;
        self.differences(&before)
    }

    /// Reads one of the further files, if it is there. A link to one is followed.
    fn further(&self, path: &Path) -> Option<File> {
        let metadata = std::fs::metadata(path).ok()?;
        metadata.is_file().then(|| self.file(path, &metadata))
    }

    fn is_left_out(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let is_passing = name.starts_with(b".") || name.ends_with(b"~");
        is_passing || self.left_out.iter().any(|out| path.starts_with(out))
    }

    fn file(&self, path: &Path, metadata: &Metadata) -> File {
        let stamp = FileStamp::of(metadata);
        if let Some(known) = self.files.get(path).filter(|known| known.stamp == stamp) {
            return known.clone();
        }
        let is_compared = stamp.bytes() <= COMPARED_BYTES_MAX;
        let bytes = is_compared.then(|| atomic_file::read(path).ok()).flatten();
        File {
            stamp,
            content: bytes.map(|bytes| blake3::hash(&bytes)),
        }
    }

    fn differences(&self, before: &BTreeMap<PathBuf, File>) -> Paths {
        let is_same = |one: &File, other: &File| match (one.content, other.content) {
            (Some(one), Some(other)) => one == other,
            _ => one.stamp == other.stamp,
        };
        let is_changed = |(path, file): &(&PathBuf, &File)| {
            before
                .get(*path)
                .is_none_or(|before| !is_same(before, file))
        };
        let changed = self.files.iter().filter(is_changed).map(|(path, _)| path);
        let gone = before.keys().filter(|path| !self.files.contains_key(*path));
        changed.chain(gone).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_changes_is_content() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for directory in ["src", "target", "home", ".git"] {
            fs::create_dir(root.join(directory)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("src/lib.rs", "one");
        let left_out = vec![root.join("target"), root.join("home")];
        let mut tree = Tree::of(root, left_out, Paths::new());
        assert_eq!(tree.directories().len(), 2);
        let mut changes = || {
            let changes = tree.changes();
            let name = |path: &PathBuf| {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                name.replace(std::path::MAIN_SEPARATOR, "/")
            };
            changes.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(changes(), [""; 0]);
        write("src/lib.rs", "one");
        assert_eq!(changes(), [""; 0], "the same content");
        for passing in [
            "target/x",
            "home/log",
            ".git/index",
            "src/.lib.rs.swp",
            "src/lib.rs~",
        ] {
            write(passing, "x");
        }
        assert_eq!(changes(), [""; 0]);
        write("src/lib.rs", "two");
        write("src/more.rs", "");
        assert_eq!(changes(), ["src/lib.rs", "src/more.rs"]);
        fs::remove_file(root.join("src/more.rs")).unwrap();
        assert_eq!(changes(), ["src/more.rs"]);
    }

    #[test]
    fn a_link_to_a_parent_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::of(dir.path(), Vec::new(), Paths::new());
        let link = dir.path().join("round");
        // Where there is no such program, as on Windows, there is no link either.
        let mut ln = std::process::Command::new("ln");
        if ln.arg("-s").args([dir.path(), &link]).status().is_err() {
            return;
        }
        assert!(link.is_symlink());
        assert_eq!(tree.changes(), Paths::new());
    }

    #[test]
    fn further_files_are_scanned_wherever_they_are() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let also = [
            dir.path().join(".cargo.toml"),
            elsewhere.path().join("lib.rs"),
        ];
        let mut tree = Tree::of(dir.path(), Vec::new(), Paths::from(also.clone()));
        assert_eq!(tree.directories().len(), 2);
        for path in also {
            fs::write(&path, "x").unwrap();
            assert_eq!(tree.changes(), Paths::from([path]));
        }
    }
}
