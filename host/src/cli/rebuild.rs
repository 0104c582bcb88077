//! A crate's sources, watched: what `dev` builds again when a person saves a file.
//!
//! Editors write a file in several steps, and a `git checkout` many files at once; a build begins when all has been still
//! for a moment, and what changes during a build makes another one. What the build itself writes is not looked at.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::threads;

/// Nothing has changed for so long: the person, or the editor, is done.
const STILL: Duration = Duration::from_millis(200);

/// Sources that are watched. What is saved from now on makes a build, even before it is said which one.
pub(super) struct Sources {
    changes: Receiver<()>,
    // It watches as long as it is there.
    watcher: RecommendedWatcher,
}

impl Sources {
    /// Watches what is below `dir`, but for what is below `target`.
    pub(super) fn watch(dir: &Path, target: PathBuf) -> Result<Self> {
        let (changed, changes) = mpsc::channel();
        let root = dir.to_owned();
        let is_source = move |path: &PathBuf| {
            let inside = path.strip_prefix(&root).unwrap_or(path);
            !path.starts_with(&target) && !is_passing(inside)
        };
        // Without a thread of its own the watcher would panic at its first use.
        threads::check_room(1).context("cannot watch the sources")?;
        let mut watcher =
            notify::recommended_watcher(move |event| tell(&changed, &is_source, event))
                .context("cannot watch the sources")?;
        watcher
            .watch(dir, RecursiveMode::Recursive)
            .with_context(|| format!("cannot watch {}", dir.display()))?;
        Ok(Sources { changes, watcher })
    }

    /// Calls `build` whenever something has changed, until the process ends.
    pub(super) fn on_change(self, mut build: impl FnMut() + Send + 'static) -> Result<()> {
        let begun = thread::Builder::new()
            .name("rebuild".to_owned())
            .spawn(move || {
                let Sources { changes, watcher } = self;
                let _watcher = watcher;
                while wait(&changes) {
                    build();
                }
            });
        begun
            .map(drop)
            .context("cannot start the thread that builds")
    }
}

fn tell(
    changed: &Sender<()>,
    is_source: &impl Fn(&PathBuf) -> bool,
    event: notify::Result<notify::Event>,
) {
    let Ok(event) = event else { return };
    let is_change = !matches!(event.kind, EventKind::Access(_));
    if is_change && event.paths.iter().any(is_source) {
        // The receiver goes with the process.
        let _ = changed.send(());
    }
}

/// Version control's own files, and what editors write beside the file that is meant.
fn is_passing(path: &Path) -> bool {
    let is_hidden =
        |part: std::path::Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
    let is_backup = path.as_os_str().as_encoded_bytes().ends_with(b"~");
    is_backup || path.components().any(is_hidden)
}

/// Waits for a change, and then until there has been none for a moment; false where there will be no more.
fn wait(changes: &Receiver<()>) -> bool {
    if changes.recv().is_err() {
        return false;
    }
    loop {
        match changes.recv_timeout(STILL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}
