//! What a host holds of its machine: descriptors, threads, child processes, temporary files.
//!
//! At the end of an ecosystem all its daemons are uninstalled, and the host must hold no more than it did right after
//! its first start: what a daemon, its guests or a change of it has taken is given back. Fewer is right too.
//!
//! Not counted, each with its reason:
//! - Threads of the host's two runtimes: an idle thread of their pools ends only after 10 s. Work that never ends on
//!   such a thread is therefore not seen here.
//! - Logs: the 64 that were written last stay open. One that was removed counts.
//! - Memory: an allocator keeps what was freed, and a library is never closed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::entries;
use crate::process;

/// What the temporary files of the host begin with.
const TEMPORARY_PREFIX: &str = ".new-";

/// Threads of the host's runtimes, by their names: Dae's own, and the one for guests.
const RUNTIMES: [&str; 2] = ["tokio-rt-worker", "guests"];

/// A host has one of each. A thread names itself once it runs, which may be later than the first look at it.
const OWN_THREADS: [&str; 4] = ["dae-console", "relief", "spawner", "notify-rs inoti"];

/// The descriptors of the file watch. A host has one watch, which may begin later than the first look at it.
const OF_WATCH: [&str; 3] = [
    "descriptor of anon_inode:inotify",
    "descriptor of anon_inode:[eventpoll]",
    "descriptor of anon_inode:[eventfd]",
];

/// What a process holds: for each kind, how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Possessions(BTreeMap<String, usize>);

impl Possessions {
    /// Counts what a process holds now. Of one that has ended, nothing.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let mut all = BTreeMap::new();
        let kinds = [descriptors(pid), threads(pid), children(pid)].concat();
        for kind in kinds {
            *all.entry(kind).or_insert(0) += 1;
        }
        Possessions(all)
    }

    /// Returns what there is more of than there was `before`, one text for each kind.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let watched = before.0.contains_key(OF_WATCH[0]);
        let more = self.0.iter().filter_map(|(kind, count)| {
            let is_own = OWN_THREADS.iter().any(|name| *kind == thread(name));
            let is_of_watch = !watched && OF_WATCH.contains(&kind.as_str());
            let had = before.0.get(kind).copied().unwrap_or(0) + usize::from(is_of_watch);
            let had = had.max(usize::from(is_own));
            (*count > had).then(|| format!("{kind}: {count}, {had} before"))
        });
        more.collect()
    }

    /// Whether there is no more of anything than there was `before`.
    #[must_use]
    pub fn are_back(&self, before: &Self) -> bool {
        self.beyond(before).is_empty()
    }
}

/// What each descriptor leads to: a path, or the kind of what has none.
fn descriptors(pid: u32) -> Vec<String> {
    let listed = fs::read_dir(format!("/proc/{pid}/fd"));
    let target = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let target = target.to_string_lossy();
        // What was inherited from a test's process may be removed meanwhile by the test whose it is.
        let target = match target.contains("/home/") {
            true => &*target,
            false => target.trim_end_matches(" (deleted)"),
        };
        if target.contains("/home/logs/") && target.ends_with(".log") {
            return None;
        }
        // `socket:[4711]`: its number is its own.
        let kind = target.split_once(":[").map_or(target, |(kind, _)| kind);
        let is_named = kind == "anon_inode";
        Some(format!(
            "descriptor of {}",
            if is_named { target } else { kind }
        ))
    };
    let listed = listed.into_iter().flatten().filter_map(Result::ok);
    listed.filter_map(target).collect()
}

fn threads(pid: u32) -> Vec<String> {
    let listed = fs::read_dir(format!("/proc/{pid}/task"));
    let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm")).ok();
    let names = listed
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(name);
    names
        .map(|name| name.trim_end().to_owned())
        .filter(|name| !RUNTIMES.contains(&name.as_str()))
        .map(|name| thread(&name))
        .collect()
}

fn thread(name: &str) -> String {
    format!("thread {name}")
}

fn children(pid: u32) -> Vec<String> {
    let children = process::children(pid).into_iter();
    children.map(|_| "child process".to_owned()).collect()
}

/// Returns the temporary files of the host below a directory.
#[must_use]
pub fn temporary_files(directory: &Path) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(TEMPORARY_PREFIX)
    };
    let all = entries(directory).into_iter();
    all.filter(is_temporary).collect()
}

/// Returns what the kernel tells of a process's sockets, one a line, for a message.
#[must_use]
pub fn sockets(pid: u32) -> String {
    let open = process::descriptors(pid);
    let inodes: Vec<&str> = open
        .values()
        .filter_map(|path| path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']'))
        .collect();
    let tables = ["tcp", "tcp6", "unix"].map(|name| {
        let table = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        let is_of_it = |line: &&str| line.split_whitespace().any(|word| inodes.contains(&word));
        let lines = table
            .lines()
            .filter(is_of_it)
            .map(|line| format!("{name}: {}", line.trim()));
        lines.collect::<Vec<_>>().join("\n  ")
    });
    tables.join("\n  ")
}
