//! Files that change: the drop-in directory, and the files that daemons were installed from.
//!
//! A compiled plugin that lies in the drop-in directory runs, and one that goes from there is stopped; a file that a daemon
//! was installed from, once it has new content, takes over from the old. Events of the file system say when to look;
//! looking says what to do: each time everything is compared with what is known ([`crate::plan`]), so that a lost event
//! costs a moment and nothing else, and a slow poll makes up for it. At rest a poll looks at each file once, however many
//! daemons are of it: what is registered is read when it has changed, and a content is compared once for all of them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::task::JoinHandle;

use super::carry::NEW_FILE;
use super::changes::Changes;
use super::{Dae, FaultKind, lock};
use crate::manifest;
use crate::plan::{self, Action, Known, Registered, Seen};
use crate::registry::DAE_NAME;
use crate::report::InstallRequest;
use crate::spans;
use crate::threads;

/// A half-written file is looked at again so soon.
const RETRY: Duration = Duration::from_millis(500);

/// Watches until the task is aborted.
pub(super) fn watch(dae: &Dae) -> anyhow::Result<JoinHandle<()>> {
    let dir = dae.inner.home.drop_in_dir();
    std::fs::create_dir_all(&dir)?;
    let changes = Arc::new(Changes::around(&dir));
    let changed = Arc::clone(&changes);
    // Without a thread of its own the watcher would panic at its first use.
    let watcher = threads::check_room(1).map_err(notify::Error::io);
    let watcher =
        watcher.and_then(|()| notify::recommended_watcher(move |event| changed.hear(&event)));
    let watcher = watcher
        .inspect_err(|error| tracing::warn!(%error, "files can't be watched here; they are polled"))
        .ok();
    let watched = Watched {
        dae: dae.clone(),
        dir,
        known: Known::default(),
        watcher,
        watched: HashSet::new(),
        registered: Arc::default(),
        changes,
    };
    Ok(tokio::spawn(watched.run()))
}

/// Tells why nothing is looked at now; the next look does it.
fn put_off(why: &str) -> bool {
    tracing::warn!("files can't be looked at now, and will be at the next look: {why}");
    false
}

struct Watched {
    dae: Dae,
    dir: PathBuf,
    known: Known,
    watcher: Option<RecommendedWatcher>,
    /// Directories that the watcher has.
    watched: HashSet<PathBuf>,
    registered: Arc<Sources>,
    changes: Arc<Changes>,
}

/// What is registered, as of some change of the registry.
#[derive(Default)]
struct Sources {
    /// How many changes of the registry there had been; none that there ever is at first.
    changes: Option<u64>,
    all: Vec<Registered>,
    files: Vec<PathBuf>,
}

/// Whether a file has the content of a hash, as found in one look: many daemons may be of the two.
type Compared = HashMap<(PathBuf, String), bool>;

impl Watched {
    async fn run(mut self) {
        let changes = Arc::clone(&self.changes);
        let poll = spans::ms(self.dae.inner.shared.config.drop_in_poll_ms.max(100));
        loop {
            self.read_registry();
            let is_unfinished = self.look().await;
            let wait = if is_unfinished { RETRY } else { poll };
            tokio::select! {
                () = changes.whole.notified() => {}
                () = changes.other.notified() => changes.still().await,
                () = self.dae.inner.watch_anew.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A file is watched by its directory: whoever replaces it makes another file of the same name.
    fn watch_directories(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let dropped = self.registered.all.iter().filter(|one| one.is_drop_in);
        let sources = dropped.map(|one| &one.source).chain(&self.registered.files);
        let sources = sources.filter_map(|source| source.parent());
        let wanted: HashSet<PathBuf> = sources
            .map(Path::to_owned)
            .chain([self.dir.clone()])
            .collect();
        for gone in self.watched.difference(&wanted) {
            // Where the directory itself is gone, so is its watch.
            let _ = watcher.unwatch(gone);
        }
        let can_be_watched = |dir: &PathBuf| {
            self.watched.contains(dir) || watcher.watch(dir, RecursiveMode::NonRecursive).is_ok()
        };
        // What can't be watched is polled, and tried again at the next look.
        self.watched = wanted.into_iter().filter(can_be_watched).collect();
    }

    /// Makes it so. True where a file was not whole yet.
    async fn look(&mut self) -> bool {
        self.watch_directories();
        let (dir, registered) = (self.dir.clone(), Arc::clone(&self.registered));
        let look = move || Ok((plan::look(&dir)?, plan::look_at(&registered.files)));
        let seen = threads::run(look).await;
        let (dropped, sources) = match seen {
            Ok(Ok(seen)) => seen,
            Ok(Err::<_, std::io::Error>(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the drop-in directory can't be read");
                return false;
            }
            Err(why) => return put_off(&why),
        };
        let (mut is_unfinished, mut compared) = (false, Compared::new());
        // As of now: of two daemons of one file, the first that is dealt with makes it known.
        let is_unknown = |seen: &&Seen| !self.known.has(&seen.path);
        let unknown = dropped.iter().chain(&sources).filter(is_unknown);
        let unknown: HashSet<PathBuf> = unknown.map(|seen| seen.path.clone()).collect();
        for action in plan::plan(&dropped, &sources, &self.registered.all, &self.known) {
            match action {
                Action::Install(seen) => is_unfinished |= self.install(None, seen).await,
                Action::Reload(name, seen) => {
                    let is_new = unknown.contains(&seen.path);
                    if self
                        .is_unchanged(&name, (&seen.path, is_new), &mut compared)
                        .await
                    {
                        self.known.note(seen);
                    } else {
                        is_unfinished |= self.install(Some(name), seen).await;
                    }
                }
                Action::Uninstall(name, file) => self.uninstall(&name, &file).await,
            }
        }
        self.known.forget_all_but(&[dropped, sources].concat());
        is_unfinished
    }

    /// Reads it anew where it has changed since.
    fn read_registry(&mut self) {
        let registry = lock(&self.dae.inner.registry);
        let changes = Some(self.dae.inner.registry_changes.load(Ordering::Relaxed));
        if self.registered.changes == changes {
            return;
        }
        let home = &self.dae.inner.home.data;
        let of = |(name, entry): (&String, &crate::registry::Entry)| {
            Some(Registered {
                name: name.clone(),
                source: entry.source_in(home)?,
                is_drop_in: entry.drop_in,
            })
        };
        let all: Vec<Registered> = registry.daemons.iter().filter_map(of).collect();
        let files = plan::sources(&all);
        drop(registry);
        self.changes.attend_to(&files);
        self.registered = Arc::new(Sources {
            changes,
            all,
            files,
        });
    }

    /// True where the file was not whole yet.
    async fn install(&mut self, replaced: Option<String>, seen: Seen) -> bool {
        let path = seen.path.clone();
        let request = InstallRequest {
            name: replaced.clone(),
            file: path.clone(),
            replace: replaced.is_some(),
            drop_in: replaced.is_none() || path.starts_with(&self.dir),
            ..InstallRequest::default()
        };
        match self.dae.install_watched(request).await {
            Ok(installed) => {
                let (daemon, generation) = (&installed.name, installed.generation);
                match installed.waits {
                    true => {
                        tracing::info!(daemon, file = %path.display(), "a new file waits for the next start of the daemon, which is stopped");
                    }
                    false => {
                        tracing::info!(daemon, generation, file = %path.display(), "a new file runs");
                    }
                }
                self.known.note(seen);
                false
            }
            Err(fault)
                if fault.kind() == FaultKind::Incomplete && !self.known.is_tired_of(&seen) =>
            {
                true
            }
            Err(fault) => {
                let name = manifest::read(&path).map(|manifest| manifest.name);
                if fault.kind() == FaultKind::Incomplete {
                    let name = replaced.as_deref().unwrap_or(DAE_NAME);
                    self.dae.inner.note_refusal(name, NEW_FILE, &fault);
                }
                tracing::error!(file = %path.display(), "a new file does not run: {fault}");
                match (fault.kind(), name) {
                    (FaultKind::NameTaken, Ok(name)) => self.known.note_waiting(seen, name),
                    _ => self.known.note(seen),
                }
                false
            }
        }
    }

    /// Whether it has the content that runs. After a restart of the host every file is new to us; then one that a person or
    /// a probation has rolled back from is no change either.
    async fn is_unchanged(
        &self,
        name: &str,
        (path, is_new): (&Path, bool),
        compared: &mut Compared,
    ) -> bool {
        let Some(entry) = lock(&self.dae.inner.registry).daemons.get(name).cloned() else {
            // It was uninstalled since, and stays so.
            return true;
        };
        let left_behind = entry
            .previous
            .into_iter()
            .chain(entry.newer)
            .chain(entry.quarantined.into_keys());
        let unchanged = [entry.hash]
            .into_iter()
            .chain(left_behind.filter(|_| is_new));
        for hash in unchanged {
            let key = (path.to_owned(), hash);
            let is_same = match compared.get(&key) {
                Some(is_same) => *is_same,
                None => self.is_same(&key).await,
            };
            compared.insert(key, is_same);
            if is_same {
                return true;
            }
        }
        false
    }

    /// On a thread that may block, since both files are read.
    async fn is_same(&self, (path, hash): &(PathBuf, String)) -> bool {
        let store = Arc::clone(&self.dae.inner.shared.store);
        let (path, hash) = (path.clone(), hash.clone());
        let compare = threads::run(move || store.is_same(&hash, &path));
        compare.await.unwrap_or(false)
    }

    async fn uninstall(&mut self, name: &str, file: &Path) {
        match self.dae.uninstall_gone(name, file).await {
            Ok(_) => {}
            Err(fault) => tracing::error!(
                daemon = name,
                "a drop-in that has gone was not uninstalled: {fault}"
            ),
        }
    }
}
