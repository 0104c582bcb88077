//! A crate's sources, watched: what `dev` builds again when a person saves a file.
//!
//! Events of the file system say when to look, and looking says what has changed; where there are no events (no inotify left,
//! a mount that tells of none), a poll makes up for them. Editors write a file in several steps, and a `git checkout` many
//! files at once; a build begins when all has been still for a moment. What changes during a build makes another one.

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

/// Nothing has changed for so long: the person, or the editor, is done.
const STILL: Duration = Duration::from_millis(200);

/// But no longer than this: what is never still is no editor, a log in the same directory.
const STILL_MAX: Duration = Duration::from_secs(2);

/// The sources are looked at so often in any case.
const POLL: Duration = Duration::from_secs(2);

/// A look at a large directory takes a while: at most one part in so many of the time is spent on looks.
const POLL_LOOKS_MAX: u32 = 20;

/// Sources that are watched. What is saved from now on makes a build, even before it is said which one.
pub(super) struct Sources {
    tree: Tree,
    decider: Decider,
    changes: Receiver<()>,
    /// For the watcher's thread; without a watcher it keeps the channel open.
    _changed: Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: Paths,
    look_took: Duration,
    is_quiet: bool,
}

/// What is watched, and how.
pub(super) struct Watch<'a> {
    /// The crate's directory.
    pub(super) dir: &'a Path,
    /// What is below these paths is no source.
    pub(super) left_out: Vec<PathBuf>,
    /// A build may write sources.
    pub(super) has_build_script: bool,
    /// No remarks.
    pub(super) is_quiet: bool,
}

impl Sources {
    /// Watches a directory. Says once where there are no events.
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

    /// Calls `build` whenever something has changed, until the process ends. The first build has just ended.
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

    /// Waits for an event or for the poll; the files for which something is to be built.
    fn wait(&mut self) -> Paths {
        let poll = POLL.max(self.look_took.saturating_mul(POLL_LOOKS_MAX));
        let is_event = self.changes.recv_timeout(poll).is_ok();
        if is_event {
            until_still(&self.changes);
        }
        let mut changed = self.look();
        if !is_event && !changed.is_empty() {
            // The poll may have come in the middle of it.
            until_still(&self.changes);
            changed.extend(self.look());
        }
        self.decider.outside(changed)
    }

    /// What has changed since the last look.
    fn look(&mut self) -> Paths {
        let began = Instant::now();
        let changed = self.tree.changes();
        self.look_took = began.elapsed();
        if let Err(error) = self.watch_directories() {
            self.poll_only(&error);
        }
        changed
    }

    /// The files for which to build at once after a build for `causes`.
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

    /// Each directory by itself: what is left out needs no watches, and there may be few.
    fn watch_directories(&mut self) -> notify::Result<()> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        let now = self.tree.directories();
        for gone in self.watched.difference(now) {
            // Where the directory itself is gone, so is its watch.
            let _ = watcher.unwatch(gone);
        }
        for new in now.difference(&self.watched) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                // It has gone meanwhile; the next look doesn't have it.
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

    /// A remark for the person, on standard error among cargo's own.
    fn say(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("dae-host: {}", printable::message(text));
        }
    }
}

fn tell(changed: &Sender<()>, event: &notify::Result<notify::Event>) {
    let is_read = matches!(event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
    if !is_read {
        // The receiver goes with the process.
        let _ = changed.send(());
    }
}

/// Waits until there has been no event for a moment, or for the longest that is waited.
fn until_still(changes: &Receiver<()>) {
    let began = Instant::now();
    while began.elapsed() < STILL_MAX {
        match changes.recv_timeout(STILL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Without events nothing says when it is still.
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
