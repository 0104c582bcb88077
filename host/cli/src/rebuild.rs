//! Watches a crate's sources, which `dev` builds again when a file is saved.
//!
//! Events of the file system show when to scan the directory, and the scan finds the changes. If there are no events
//! (no inotify watch left, or a mount without them), polling replaces them. Editors write a file in several steps, and
//! a `git checkout` writes many files at once, so a build starts when nothing has changed for a moment. Changes during
//! a build cause another build. `notify-debouncer-full` waits for each file by itself, while a checkout is over when all
//! files are still.

mod decide;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

pub(super) use decide::Outcome;
use decide::{AfterBuild, Decider};
use tree::{Paths, Tree};

use dae_store::blocking;
use dae_store::printable;
use dae_store::tasks;

/// The time without changes after which a save is complete.
const STILL: Duration = Duration::from_millis(200);

/// The upper bound for that wait: constant changes come from a log in the same directory and not from an editor.
const STILL_MAX: Duration = Duration::from_secs(2);

/// The interval for scanning the sources even without events.
const POLL: Duration = Duration::from_secs(2);

/// The limit on the time spent scanning: a scan of a large directory takes at most one part in so many of the time.
const POLL_LOOKS_MAX: u32 = 20;

/// A crate's watched sources. Every change after their creation causes a build, even one before `on_change` is called.
pub(super) struct Sources {
    tree: Tree,
    decider: Decider,
    changes: Receiver<()>,
    /// A sender for the watcher's thread. Without a watcher it keeps the channel open.
    _changed: Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: Paths,
    look_took: Duration,
    is_quiet: bool,
}

/// The options for watching a crate.
pub(super) struct Watch<'a> {
    /// The crate's directory.
    pub(super) dir: &'a Path,
    /// The paths that hold no sources, nor anything below them.
    pub(super) left_out: Vec<PathBuf>,
    /// True if a build may write sources.
    pub(super) has_build_script: bool,
    /// True to print no remarks.
    pub(super) is_quiet: bool,
}

impl Sources {
    /// Watches a directory. Prints a remark if there are no events for it.
    pub(super) fn watch(watch: Watch<'_>) -> Self {
        let (changed, changes) = mpsc::channel();
        let to_thread = changed.clone();
        // Without a thread of its own the watcher would panic at its first use.
        let room = blocking::check_room(1).map_err(notify::Error::io);
        let watcher =
            room.and_then(|()| notify::recommended_watcher(move |event| tell(&to_thread, &event)));
        let mut sources = Sources {
            tree: Tree::of(watch.dir, watch.left_out),
            decider: Decider::new(watch.has_build_script),
            changes,
            _changed: changed,
            watcher: None,
            watched: Paths::new(),
            look_took: Duration::ZERO,
            is_quiet: watch.is_quiet,
        };
        let watching = watcher.and_then(|watcher| {
            sources.watcher = Some(watcher);
            sources.watch_directories()
        });
        if let Err(error) = watching {
            sources.poll_only(&error);
        }
        sources
    }

    /// Calls `build` after every change, until the process ends. The caller has just finished the first build.
    pub(super) fn on_change(
        mut self,
        mut build: impl FnMut() -> Outcome + Send + 'static,
    ) -> Result<()> {
        let begun = thread::Builder::new()
            .name("rebuild".to_owned())
            .spawn(move || {
                tasks::keep_thread_alive("the thread that builds", || {
                    let mut causes = self.after_build(&Paths::new(), Outcome::Compiled);
                    loop {
                        while causes.is_empty() {
                            causes = self.wait();
                        }
                        let outcome = build();
                        causes = self.after_build(&causes, outcome);
                    }
                });
            });
        begun
            .map(drop)
            .context("cannot start the thread that builds")
    }

    /// Waits for an event or for the poll. Returns the files that need a build.
    fn wait(&mut self) -> Paths {
        let poll = POLL.max(self.look_took.saturating_mul(POLL_LOOKS_MAX));
        let is_event = self.changes.recv_timeout(poll).is_ok();
        if is_event {
            until_still(&self.changes);
        }
        let mut changed = self.look();
        if !is_event && !changed.is_empty() {
            // The poll may have come in the middle of a save.
            until_still(&self.changes);
            changed.extend(self.look());
        }
        self.decider.outside(changed)
    }

    /// Returns the files that have changed since the last scan.
    fn look(&mut self) -> Paths {
        let began = Instant::now();
        let changed = self.tree.changes();
        self.look_took = began.elapsed();
        if let Err(error) = self.watch_directories() {
            self.poll_only(&error);
        }
        changed
    }

    /// Returns the files that need another build at once, after a build for `causes`.
    fn after_build(&mut self, causes: &Paths, outcome: Outcome) -> Paths {
        let changed = self.look();
        let AfterBuild { causes, generated } = self.decider.after(causes, outcome, changed);
        for path in generated {
            self.say(&format!(
                "{} changes in every build and is taken for generated; what a build makes of it makes no further build",
                path.display()
            ));
        }
        causes
    }

    /// Watches each directory by itself: excluded ones need no watches, whose number is limited.
    fn watch_directories(&mut self) -> notify::Result<()> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        let now = self.tree.directories();
        for gone in self.watched.difference(now) {
            // If the directory is gone, so is its watch.
            let _ = watcher.unwatch(gone);
        }
        for new in now.difference(&self.watched) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                // The directory has gone meanwhile; the next scan doesn't have it.
                Err(_) if !new.exists() => {}
                watched => watched?,
            }
        }
        self.watched.clone_from(now);
        Ok(())
    }

    fn poll_only(&mut self, error: &notify::Error) {
        self.watcher = None;
        self.say(&format!(
            "{} can't be watched ({error}); its files are looked at every {} s",
            self.tree.root().display(),
            POLL.as_secs()
        ));
    }

    /// Prints a remark on standard error, among cargo's own.
    fn say(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("dae-host: {}", printable::message(text));
        }
    }
}

fn tell(changed: &Sender<()>, event: &notify::Result<notify::Event>) {
    let is_read = matches!(event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
    if !is_read {
        // The receiver lives as long as the process.
        let _ = changed.send(());
    }
}

/// Waits until there has been no event for a moment, or until the upper bound has passed.
fn until_still(changes: &Receiver<()>) {
    let began = Instant::now();
    while began.elapsed() < STILL_MAX {
        match changes.recv_timeout(STILL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Without events nothing shows when the files are still.
            Err(RecvTimeoutError::Disconnected) => return thread::sleep(STILL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_without_events_are_polled() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("lib.rs");
        std::fs::write(&file, "one").expect("a file");
        let mut sources = Sources::watch(Watch {
            dir: dir.path(),
            left_out: Vec::new(),
            has_build_script: false,
            is_quiet: true,
        });
        sources.poll_only(&notify::Error::generic("no events here"));
        let (built, builds) = mpsc::channel();
        let build = move || {
            built.send(()).expect("the test waits");
            Outcome::Compiled
        };
        std::fs::write(&file, "two").expect("a file");
        sources.on_change(build).expect("a thread");
        let limit = Duration::from_secs(60);
        builds.recv_timeout(limit).expect("what changed before");
        std::fs::write(&file, "three").expect("a file");
        builds.recv_timeout(limit).expect("what changes now");
    }
}
