//! Decides which actions changed files require: a pure function of the existing files, the registered daemons and
//! earlier attempts. Only [`look`] and [`look_at`] access the disk.

mod absent;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use absent::{AbsenceNews, Absent};

use crate::os::file_name::{IGNORES_CASE, file_key};
use crate::os::stamp::{FileMarks, WriteAccess};

/// The number of attempts before an incomplete file counts as broken: some seconds of a linker's work.
const TRIES_MAX: u32 = 20;

/// A daemon and the file that it was installed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredFile {
    /// The daemon's name.
    pub name: String,
    /// The path of its file.
    pub source: PathBuf,
    /// True if the file lies in the drop-in directory, so that the daemon is uninstalled when the file is removed.
    pub is_drop_in: bool,
}

/// A file that may be a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The stamp, which changes with the content.
    pub stamp: Stamp,
}

/// File system data about a file, which changes if the content or the right to run it may have changed.
///
/// Tools that preserve times (`cp -p`, `rsync -t`, `tar`) set the modification time. Nothing can set the inode's change
/// time, which also covers a new mode or owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    marks: FileMarks,
    /// The write access of the directories that contain the name and, for a symbolic link, its target. It affects
    /// whether the file may be run.
    directories: [WriteAccess; 2],
}

/// The files that were already tried, so that a file that can't be installed is reported only once.
#[derive(Debug, Default)]
pub struct TriedFiles {
    done: HashMap<PathBuf, Stamp>,
    /// The files of `done` that were refused. Any change of one is a new try.
    refused: HashSet<PathBuf>,
    /// The files whose daemon name is taken, with that name.
    waiting: HashMap<PathBuf, String>,
    tries: HashMap<PathBuf, u32>,
}

/// An action that a changed file requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Install a file in the drop-in directory.
    Install(CandidateFile),
    /// Reload a daemon whose file has changed.
    Reload(String, CandidateFile),
}

impl TriedFiles {
    /// Records that the file was handled. It is left alone until it changes.
    pub fn note(&mut self, seen: CandidateFile) {
        self.tries.remove(&seen.path);
        self.waiting.remove(&seen.path);
        self.refused.remove(&seen.path);
        self.done.insert(seen.path, seen.stamp);
    }

    /// Records that the file was refused. It is left alone until it changes.
    pub fn note_refused(&mut self, seen: CandidateFile) {
        let path = seen.path.clone();
        self.note(seen);
        self.refused.insert(path);
    }

    /// Records that the file was handled. It is left alone until it changes or no other daemon has that name.
    pub fn note_waiting(&mut self, seen: CandidateFile, name: String) {
        let path = seen.path.clone();
        self.note(seen);
        self.waiting.insert(path, name);
    }

    /// Returns whether a file requires an action: it has changed, or the name it waits for is free. The name of a
    /// daemon whose own file is missing counts as free.
    fn is_news(
        &self,
        seen: &CandidateFile,
        registered: &[RegisteredFile],
        absent: &Absent,
    ) -> bool {
        let has_its_files = |one: &RegisteredFile, name: &str| {
            file_key(&one.name, IGNORES_CASE) == file_key(name, IGNORES_CASE)
        };
        let is_taken = |name: &String| {
            let mut registered = registered.iter();
            registered.any(|one| has_its_files(one, name) && !absent.has(&one.name))
        };
        let waits_in_vain = self.waiting.get(&seen.path).is_none_or(is_taken);
        self.done.get(&seen.path) != Some(&seen.stamp) || !waits_in_vain
    }

    /// Returns whether that file was written again since it was handled, or was refused. Its length, its modification time
    /// or its inode shows that it was written. A new mode, owner or hard link does not, although it changes the stamp as
    /// well. A refused file may need only a new mode, so for it any change counts.
    #[must_use]
    pub fn is_rewritten(&self, seen: &CandidateFile) -> bool {
        let written = |stamp: &Stamp| (stamp.bytes, stamp.modified, stamp.marks.inode);
        let before = self.done.get(&seen.path);
        before.is_some_and(|before| written(before) != written(&seen.stamp))
            || self.refused.contains(&seen.path)
    }

    /// Counts another attempt to read an incomplete file. Returns true once the maximum is reached.
    pub fn is_tired_of(&mut self, seen: &CandidateFile) -> bool {
        let tries = self.tries.entry(seen.path.clone()).or_default();
        *tries += 1;
        *tries >= TRIES_MAX
    }

    /// Forgets missing files, so that they count as new when they return. Daemons' files are kept: when one returns, it
    /// is compared with its earlier stamp.
    pub fn forget_all_but(&mut self, seen: &[CandidateFile], registered: &[RegisteredFile]) {
        let there = seen.iter().map(|seen| seen.path.as_os_str());
        let of_daemons = registered.iter().map(|one| one.source.as_os_str());
        let there: HashSet<&OsStr> = there.chain(of_daemons).collect();
        let is_there = |path: &PathBuf| there.contains(path.as_os_str());
        self.done.retain(|path, _| is_there(path));
        self.refused.retain(is_there);
        self.tries.retain(|path, _| is_there(path));
        self.waiting.retain(|path, _| is_there(path));
    }
}

/// Returns the files in the drop-in directory that may be plugins.
///
/// # Errors
/// The directory can't be read.
pub fn look(dir: &Path) -> io::Result<Vec<CandidateFile>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if is_candidate(&path) {
            all.extend(seen_at(&path));
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// Returns the source files of daemons that are not drop-ins. A file that several daemons share appears once.
#[must_use]
pub fn sources(registered: &[RegisteredFile]) -> Vec<PathBuf> {
    let sources = registered.iter().filter(|one| !one.is_drop_in);
    // Sorted as bytes, since comparing paths by components is slow.
    let sources: BTreeSet<&OsStr> = sources.map(|one| one.source.as_os_str()).collect();
    sources.into_iter().map(PathBuf::from).collect()
}

/// Returns those of the source files that still exist.
#[must_use]
pub fn look_at(sources: &[PathBuf]) -> Vec<CandidateFile> {
    let seen = sources.iter().filter_map(|source| seen_at(source));
    seen.collect()
}

/// Returns the file at `path` with its stamp, or `None` if there is no file (any more).
fn seen_at(path: &Path) -> Option<CandidateFile> {
    let metadata = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|named| named.is_symlink());
    let behind = match is_link {
        true => path
            .canonicalize()
            .ok()
            .map(|real| WriteAccess::of_parent(&real)),
        false => None,
    };
    let stamp = Stamp {
        bytes: metadata.len(),
        modified: metadata.modified().ok(),
        marks: FileMarks::of(path, &metadata),
        directories: [WriteAccess::of_parent(path), behind.unwrap_or_default()],
    };
    Some(CandidateFile {
        path: path.to_owned(),
        stamp,
    })
}

/// Returns whether the file has a library's name and isn't hidden; copying programs use hidden temporary files.
fn is_candidate(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_library = path
        .extension()
        .is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION);
    is_library && !is_hidden
}

/// Returns the drop-ins whose file is missing.
pub fn gone<'a>(
    dropped: &[CandidateFile],
    registered: &'a [RegisteredFile],
) -> impl Iterator<Item = &'a RegisteredFile> + use<'a> {
    let there: HashSet<PathBuf> = dropped.iter().map(|seen| seen.path.clone()).collect();
    let is_gone = move |one: &&RegisteredFile| one.is_drop_in && !there.contains(&one.source);
    registered.iter().filter(is_gone)
}

/// Returns the actions that the existing files require.
#[must_use]
pub fn plan(
    dropped: &[CandidateFile],
    sources: &[CandidateFile],
    registered: &[RegisteredFile],
    (known, absent): (&TriedFiles, &Absent),
) -> Vec<Action> {
    let is_new = |seen: &&CandidateFile| known.is_news(seen, registered, absent);
    let mut actions: Vec<Action> = Vec::new();
    let new_drops: Vec<&CandidateFile> = dropped.iter().filter(is_new).collect();
    let new_sources: Vec<&CandidateFile> = sources.iter().filter(is_new).collect();
    if new_drops.is_empty() && new_sources.is_empty() {
        return actions;
    }
    let daemons = by_source(registered);
    let daemons_of =
        |seen: &CandidateFile| daemons.get(seen.path.as_os_str()).into_iter().flatten();
    for seen in new_drops {
        match daemons_of(seen).find(|one| one.is_drop_in) {
            Some(one) => actions.push(Action::Reload(one.name.clone(), seen.clone())),
            None => actions.push(Action::Install(seen.clone())),
        }
    }
    for seen in new_sources {
        // Several daemons may run the same file.
        let of_it = daemons_of(seen).filter(|one| !one.is_drop_in);
        actions.extend(of_it.map(|one| Action::Reload(one.name.clone(), seen.clone())));
    }
    actions.dedup();
    actions
}

fn by_source(registered: &[RegisteredFile]) -> HashMap<&OsStr, Vec<&RegisteredFile>> {
    let mut by_source: HashMap<&OsStr, Vec<&RegisteredFile>> = HashMap::new();
    for one in registered {
        by_source
            .entry(one.source.as_os_str())
            .or_default()
            .push(one);
    }
    by_source
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, bytes: u64) -> CandidateFile {
        let stamp = Stamp {
            bytes,
            marks: FileMarks {
                inode: 1,
                ..FileMarks::default()
            },
            ..Stamp::default()
        };
        CandidateFile {
            path: path.into(),
            stamp,
        }
    }

    fn registered(name: &str, source: &str, is_drop_in: bool) -> RegisteredFile {
        RegisteredFile {
            name: name.to_owned(),
            source: source.into(),
            is_drop_in,
        }
    }

    #[test]
    fn a_file_that_many_daemons_are_of_is_seen_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of_it = |name: &str| RegisteredFile {
            name: name.to_owned(),
            source: file.path().to_owned(),
            is_drop_in: false,
        };
        let sources = sources(&[of_it("A"), of_it("B"), of_it("C")]);
        assert_eq!(look_at(&sources).len(), 1);
    }

    #[test]
    fn a_new_mode_is_no_writing_unless_the_file_was_refused() {
        let mut known = TriedFiles::default();
        let of_mode = |mode: u32| {
            let mut seen = seen("a.so", 1);
            seen.stamp.marks.changed = (mode.into(), 0);
            seen
        };
        assert!(!known.is_rewritten(&of_mode(1)), "it was never handled");
        known.note(of_mode(1));
        assert!(!known.is_rewritten(&of_mode(2)));
        assert!(known.is_rewritten(&seen("a.so", 2)));
        known.note_refused(of_mode(1));
        assert!(known.is_rewritten(&of_mode(2)));
        known.note(of_mode(2));
        assert!(!known.is_rewritten(&of_mode(3)));
    }

    #[test]
    fn new_files_are_installed_once_changed_ones_reload_and_gone_ones_are_told() {
        let (mut known, absent) = (TriedFiles::default(), Absent::default());
        let of_a = [registered("A", "a.so", true)];
        let now = [seen("b.so", 1)];
        assert_eq!(gone(&now, &of_a).collect::<Vec<_>>(), [&of_a[0]]);
        let install = [Action::Install(seen("b.so", 1))];
        assert_eq!(plan(&now, &[], &of_a, (&known, &absent)), install);
        known.note(seen("b.so", 1));
        let of_b = [registered("B", "b.so", true)];
        assert_eq!(gone(&now, &of_b).count(), 0);
        assert_eq!(plan(&now, &[], &of_b, (&known, &absent)), []);
        let changed = [seen("b.so", 2)];
        let reload = [Action::Reload("B".to_owned(), seen("b.so", 2))];
        assert_eq!(plan(&changed, &[], &of_b, (&known, &absent)), reload);
        known.forget_all_but(&[], &of_b);
        assert_eq!(plan(&now, &[], &of_b, (&known, &absent)), [], "it was away");
        known.forget_all_but(&[], &[]);
        let again = [Action::Reload("B".to_owned(), seen("b.so", 1))];
        assert_eq!(plan(&now, &[], &of_b, (&known, &absent)), again);
    }

    #[test]
    fn a_file_whose_name_was_taken_is_tried_again_when_the_name_is_free() {
        let (mut known, mut absent) = (TriedFiles::default(), Absent::default());
        let both = [seen("a.so", 1), seen("b.so", 1)];
        let of_a = [registered("A", "a.so", true)];
        known.note(seen("a.so", 1));
        known.note_waiting(seen("b.so", 1), "A".to_owned());
        assert_eq!(plan(&both, &[], &of_a, (&known, &absent)), []);
        let install = [Action::Install(seen("b.so", 1))];
        assert_eq!(plan(&both, &[], &[], (&known, &absent)), install);
        absent.update(of_a.iter(), std::time::Duration::ZERO);
        assert_eq!(
            plan(&both[1..], &[], &of_a, (&known, &absent)),
            install,
            "the file of the name is away"
        );
        known.note(seen("b.so", 1));
        assert_eq!(plan(&both, &[], &[], (&known, &absent)), []);
    }

    #[test]
    fn a_changed_source_reloads_each_daemon_of_it_and_a_gone_one_none() {
        let both = [
            registered("A", "x.so", false),
            registered("B", "x.so", false),
        ];
        let (known, absent) = (TriedFiles::default(), Absent::default());
        let now = [seen("x.so", 2)];
        let reloads = [
            Action::Reload("A".to_owned(), seen("x.so", 2)),
            Action::Reload("B".to_owned(), seen("x.so", 2)),
        ];
        assert_eq!(plan(&[], &now, &both, (&known, &absent)), reloads);
        assert_eq!(plan(&[], &[], &both, (&known, &absent)), []);
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
        let mut known = TriedFiles::default();
        let tries = (1..100).find(|_| known.is_tired_of(&seen("a.so", 1)));
        assert_eq!(tries, Some(TRIES_MAX));
    }
}
