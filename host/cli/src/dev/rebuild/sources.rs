//! A crate's sources, and the changes in them that need a build.
//!
//! Events of the file system show when to scan, and the scan finds the changes. The events that count are the ends of a
//! save: a file that was closed after writing, renamed or removed. If there are no events (no inotify watch left, or a
//! mount without them), polling replaces them. No debouncer stands in between: it would make every build wait.
//!
//! After a build that has succeeded, the sources are the files that it has read, and the manifests. Until then, and
//! while a build has failed, every other file below the crate may be one.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use dae_runtime::os::file_stamp::REPORTS_CLOSING;
use dae_store::blocking;
use dae_store::printable;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Event;
use super::decide::{AfterBuild, Decider};
use super::tree::{Paths, Tree};
use crate::dev::build::Outcome;

/// The interval for scanning the sources even without events.
const POLL: Duration = Duration::from_secs(2);

/// The limit on the time spent scanning: a scan of a large directory takes at most one part in so many of the time.
const POLL_LOOKS_MAX: u32 = 20;

/// The file that cargo writes into a crate in a build. Only its changes outside a build come from somebody else.
const LOCK_FILE: &str = "Cargo.lock";

/// A crate's watched sources. Every change after their creation causes a build.
pub(in crate::dev) struct Sources {
    tree: Tree,
    decider: Decider,
    /// The files that always count.
    manifests: Paths,
    /// True if a build script may read any file of the crate.
    has_build_script: bool,
    /// The files that the last successful build has read; `None` if that is not known.
    read: Option<Paths>,
    /// The files that were there at that build and that it has not read.
    unread: Paths,
    has_failed: bool,
    /// The sources that have changed in the running build.
    in_build: Paths,
    /// The other files that have changed in it. The build may show that they are sources.
    skipped: Paths,
    /// The time at which the running build began.
    build_began: SystemTime,
    watcher: Option<RecommendedWatcher>,
    watched: Paths,
    look_took: Duration,
    is_quiet: bool,
}

/// The options for watching a crate.
pub(in crate::dev) struct Watch<'a> {
    /// The crate's directory.
    pub(in crate::dev) dir: &'a Path,
    /// The paths that hold no sources, nor anything below them.
    pub(in crate::dev) left_out: Vec<PathBuf>,
    /// The files that a build depends on, wherever they are. They need not exist.
    pub(in crate::dev) manifests: Paths,
    /// True if a build may write sources.
    pub(in crate::dev) has_build_script: bool,
    /// True to print no remarks.
    pub(in crate::dev) is_quiet: bool,
}

impl Sources {
    /// Watches a crate, and sends an event when a file may have changed. Prints a remark if there are no events for it.
    pub(in crate::dev) fn watch(watch: Watch<'_>, events: Sender<Event>) -> Self {
        // Without a thread of its own the watcher would panic at its first use.
        let room = blocking::check_threads(1).map_err(notify::Error::io);
        let watcher =
            room.and_then(|()| notify::recommended_watcher(move |event| tell(&events, &event)));
        let mut sources = Sources {
            tree: Tree::of(watch.dir, watch.left_out, watch.manifests.clone()),
            decider: Decider::new(watch.has_build_script),
            manifests: watch.manifests,
            has_build_script: watch.has_build_script,
            read: None,
            unread: Paths::new(),
            has_failed: false,
            in_build: Paths::new(),
            skipped: Paths::new(),
            build_began: SystemTime::now(),
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

    /// Returns the time after which to look without an event.
    pub(super) fn poll(&self) -> Duration {
        POLL.max(self.look_took.saturating_mul(POLL_LOOKS_MAX))
    }

    /// Returns the files that have changed and need a build. No build runs.
    pub(super) fn changes_outside_a_build(&mut self) -> Paths {
        let changed = self.look();
        self.decider.outside(changed)
    }

    /// Notes that a build begins.
    pub(in crate::dev) fn on_build(&mut self) {
        self.skipped.clear();
        self.build_began = SystemTime::now();
    }

    /// Returns the files that have changed while a build runs, and that make that build worthless.
    pub(super) fn changes_in_a_build(&mut self) -> Paths {
        let mut changed = self.look();
        changed.retain(|path| !path.ends_with(LOCK_FILE));
        self.in_build.extend(changed.iter().cloned());
        let is_by_hand = |path: &&PathBuf| !self.decider.may_be_generated(path);
        changed.iter().filter(is_by_hand).cloned().collect()
    }

    /// Begins another build in place of one that was cut short. Returns the files that have changed in that one.
    pub(super) fn start_over(&mut self) -> Paths {
        std::mem::take(&mut self.in_build)
    }

    /// Returns the files that need another build at once, after a build for `causes`.
    pub(in crate::dev) fn after_build(&mut self, causes: &Paths, outcome: Outcome) -> Paths {
        let mut changed = self.look();
        changed.append(&mut self.in_build);
        changed.retain(|path| !path.ends_with(LOCK_FILE));
        let AfterBuild { causes, generated } = self.decider.after(causes, outcome, changed);
        for path in generated {
            self.say(&format!(
                "{} changes in every build and is taken for generated; what a build makes of it makes no further build",
                path.display()
            ));
        }
        causes
    }

    /// Notes the files that a successful build has read, if they are known, and whether the crate has a build script.
    pub(in crate::dev) fn learn(&mut self, read: Option<Paths>, has_build_script: bool) {
        (self.has_failed, self.has_build_script) = (false, has_build_script);
        let Some(read) = read else {
            self.read = None;
            return;
        };
        let there = self.tree.files();
        self.unread = there
            .filter(|path| !read.contains(*path))
            .cloned()
            .collect();
        // Files outside the crate are watched from here on, and so are the manifests of their crates.
        self.manifests
            .extend(read.iter().filter_map(|file| manifest_above(file)));
        let also = read.union(&self.manifests).cloned().collect();
        let mut missed = self.tree.also(also, self.build_began);
        self.in_build.append(&mut missed);
        let became_sources = self.skipped.iter().filter(|path| read.contains(*path));
        self.in_build.extend(became_sources.cloned());
        self.read = Some(read);
        if let Err(error) = self.watch_directories() {
            self.poll_only(&error);
        }
    }

    /// Notes a build that has failed: the missing part may be a file that is still to be written.
    pub(in crate::dev) fn on_failure(&mut self) {
        self.has_failed = true;
        // The build may have failed in a module that no build has read before.
        let is_module = |path: &PathBuf| path.extension().is_some_and(|name| name == "rs");
        self.unread.retain(|path| !is_module(path));
        let skipped = std::mem::take(&mut self.skipped);
        let may_be_sources = skipped.into_iter().filter(|path| self.is_source(path));
        let may_be_sources: Paths = may_be_sources.collect();
        self.in_build.extend(may_be_sources);
    }

    /// Returns the sources that have changed since the last scan.
    fn look(&mut self) -> Paths {
        let began = Instant::now();
        let mut changed = self.tree.changes();
        self.look_took = began.elapsed();
        if let Err(error) = self.watch_directories() {
            self.poll_only(&error);
        }
        let others = changed.iter().filter(|path| !self.is_source(path));
        let others: Paths = others.cloned().collect();
        changed.retain(|path| !others.contains(path));
        self.skipped.extend(others);
        changed
    }

    fn is_source(&self, path: &PathBuf) -> bool {
        let Some(read) = &self.read else {
            return true;
        };
        self.has_build_script
            || read.contains(path)
            || self.manifests.contains(path)
            || (self.has_failed && !self.unread.contains(path))
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

/// Returns the manifest of the crate that a file belongs to.
fn manifest_above(file: &Path) -> Option<PathBuf> {
    let mut manifests = file.ancestors().skip(1).map(|dir| dir.join("Cargo.toml"));
    manifests.find(|manifest| manifest.is_file())
}

/// Passes an event on if it may be the end of a save. The first write of several is none: the file is not whole yet.
fn tell(events: &Sender<Event>, event: &notify::Result<notify::Event>) {
    let is_end_of_a_save = match event {
        Ok(event) => match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            EventKind::Modify(ModifyKind::Data(_)) => !REPORTS_CLOSING,
            _ => true,
        },
        // Events may have been lost.
        Err(_) => true,
    };
    if is_end_of_a_save {
        // The receiver lives as long as the process.
        let _ = events.send(Event::Changed(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;

    /// A crate whose last build has read `src/lib.rs` alone.
    struct Scene {
        // Drops first: some systems remove no directory that is watched.
        sources: Sources,
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("src")).unwrap();
            for name in ["src/lib.rs", "src/part.rs", "README.md"] {
                fs::write(dir.path().join(name), "one").unwrap();
            }
            let watch = Watch {
                dir: dir.path(),
                left_out: Vec::new(),
                manifests: Paths::new(),
                has_build_script: false,
                is_quiet: true,
            };
            let (sender, _events) = mpsc::channel();
            let sources = Sources::watch(watch, sender);
            let mut scene = Scene { dir, sources };
            scene.learn(&["src/lib.rs"]);
            scene
        }

        fn paths(&self, names: &[&str]) -> Paths {
            names
                .iter()
                .map(|name| self.dir.path().join(name))
                .collect()
        }

        fn write(&self, name: &str) {
            fs::write(self.dir.path().join(name), "two").unwrap();
        }

        fn learn(&mut self, read: &[&str]) {
            let read = self.paths(read);
            self.sources.learn(Some(read), false);
        }

        fn after_build(&mut self) -> Paths {
            self.sources.after_build(&Paths::new(), Outcome::Compiled)
        }
    }

    #[test]
    fn what_no_build_reads_makes_no_build() {
        let mut scene = Scene::new();
        for name in ["README.md", "src/part.rs", "src/new.rs"] {
            scene.write(name);
        }
        assert_eq!(scene.sources.changes_outside_a_build(), Paths::new());
        scene.write("src/lib.rs");
        let changed = scene.sources.changes_outside_a_build();
        assert_eq!(changed, scene.paths(&["src/lib.rs"]));
    }

    #[test]
    fn after_a_failure_every_module_and_every_new_file_counts() {
        let mut scene = Scene::new();
        scene.sources.on_failure();
        for name in ["README.md", "src/part.rs", "src/data.json"] {
            scene.write(name);
        }
        let changed = scene.sources.changes_outside_a_build();
        assert_eq!(changed, scene.paths(&["src/part.rs", "src/data.json"]));
    }

    #[test]
    fn a_file_that_a_build_turns_out_to_need_is_not_lost() {
        for has_failed in [true, false] {
            let mut scene = Scene::new();
            scene.sources.on_build();
            scene.write("src/part.rs");
            // The build may not need it, so it goes on.
            assert_eq!(scene.sources.changes_in_a_build(), Paths::new());
            match has_failed {
                true => scene.sources.on_failure(),
                false => scene.learn(&["src/lib.rs", "src/part.rs"]),
            }
            assert_eq!(scene.after_build(), scene.paths(&["src/part.rs"]));
        }
    }

    #[test]
    fn a_file_elsewhere_that_was_saved_in_the_build_that_first_read_it_is_not_lost() {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut scene = Scene::new();
        let [before, meanwhile] = ["before.rs", "meanwhile.rs"].map(|name| {
            let path = elsewhere.path().join(name);
            fs::write(&path, "one").unwrap();
            path
        });
        scene.sources.on_build();
        for (path, is_late) in [(&before, false), (&meanwhile, true)] {
            let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
            let saved = if is_late { now + minute } else { now - minute };
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(saved).unwrap();
        }
        let read = Paths::from([before, meanwhile.clone()]);
        scene.sources.learn(Some(read), false);
        assert_eq!(scene.after_build(), Paths::from([meanwhile]));
    }

    #[test]
    fn a_lock_file_that_a_build_writes_makes_none() {
        let mut scene = Scene::new();
        scene.learn(&["src/lib.rs", "Cargo.lock"]);
        scene.sources.on_build();
        scene.write("Cargo.lock");
        assert_eq!(scene.sources.changes_in_a_build(), Paths::new());
        assert_eq!(scene.after_build(), Paths::new());
    }
}
