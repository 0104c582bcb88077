//! The resources a host holds: file descriptors, threads, child processes, temporary files.
//!
//! At the end of a test all daemons are uninstalled. The host must then hold no more than right after its first start:
//! the resources of daemons, guests and reloads have been released. Holding fewer is fine too.
//!
//! Not counted, with reasons:
//! - Threads of the host's two runtimes: an idle pool thread ends only after 10 s. Work that never ends on such a
//!   thread is therefore not detected here.
//! - A process in reserve: it stays for the next start.
//! - Logs: the 64 most recently written stay open. A removed log counts.
//! - Memory: the allocator keeps freed memory, and a library is never closed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::entries;
use crate::process;

/// The prefix of the host's temporary files.
const TEMPORARY_PREFIX: &str = ".new-";

/// The names of the threads of the host's runtimes: Dae's own, and the one for guests.
const RUNTIMES: [&str; 2] = ["tokio-rt-worker", "guests"];

/// Threads of which a host has one each. A thread sets its name once it runs, which may be after the first count.
const OWN_THREADS: [&str; 4] = ["dae-console", "relief", "spawner", "notify-rs inoti"];

/// The resources that a host holds for each process in reserve.
const OF_RESERVE: [(&str, usize); 4] = [
    ("child process", 1),
    ("descriptor of anon_inode:[pidfd]", 2),
    ("descriptor of pipe", 2),
    ("descriptor of socket", 1),
];

/// The file descriptors of the file watch. A host has one watch, which may start after the first count.
const OF_WATCH: [&str; 3] = [
    "descriptor of anon_inode:inotify",
    "descriptor of anon_inode:[eventpoll]",
    "descriptor of anon_inode:[eventfd]",
];

/// The number of resources of each kind that a process holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Possessions(BTreeMap<String, usize>);

impl Possessions {
    /// Counts the resources of a process. A process that has ended holds none.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        let kinds = [descriptors(pid), threads(pid), children(pid)].concat();
        for kind in kinds {
            *all.entry(kind).or_insert(0) += 1;
        }
        let in_reserve = process::reserve_of(pid).len();
        for (kind, count) in OF_RESERVE {
            let held = all.entry(kind.to_owned()).or_insert(0);
            *held = held.saturating_sub(count * in_reserve);
        }
        Possessions(all)
    }

    /// Returns the resources of which there are more than `before`, as one text for each kind.
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

    /// Returns whether no kind has more resources than `before`.
    #[must_use]
    pub fn are_back(&self, before: &Self) -> bool {
        self.beyond(before).is_empty()
    }
}

/// Returns the target of each file descriptor: its path, or its kind if it has no path.
fn descriptors(pid: u32) -> Vec<String> {
    let listed = fs::read_dir(format!("/proc/{pid}/fd"));
    let target = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let target = target.to_string_lossy();
        // A file inherited from the test's process may have been removed by the test that owns it.
        let target = match target.contains("/home/") {
            true => &*target,
            false => target.trim_end_matches(" (deleted)"),
        };
        if target.contains("/home/logs/") && target.ends_with(".log") {
            return None;
        }
        // A target like `socket:[4711]` has a unique number, so only the kind counts.
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

/// Returns the kernel's lines about a process's sockets, for a message.
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
