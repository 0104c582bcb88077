//! The watch over files: the drop-in directory, and the files that daemons were installed from.
//!
//! A compiled plugin in the drop-in directory runs. If its file goes away, the daemon runs on for a grace period
//! and is then uninstalled ([`reconcile::Absent`]). If a file that a daemon was installed from has new content, it
//! replaces the old one. Events of the file system say only when to look. Each look compares everything with what
//! is known ([`dae_store::reconcile`]) and decides what to do. So a lost event only causes a delay, and a slow poll
//! makes up for it. When nothing changes, a poll looks at each file once, however many daemons use it. The registry
//! is read only if it has changed, and a content is compared once for all daemons.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::carry::ChangeKind;
use super::changes::Changes;
use super::{Dae, Fault, FaultKind};
use dae_store::blocking;
use dae_store::durations;
use dae_store::manifest;
use dae_store::reconcile::{
    self, AbsenceNews, Absent, Action, CandidateFile, RegisteredFile, TriedFiles,
};
use dae_store::registry::{DAE_NAME, FILES_IGNORE_CASE, Registry};
use dae_store::report::InstallRequest;
use dae_store::tasks;

/// The delay before the next look at a half-written file.
const RETRY: Duration = Duration::from_millis(500);

/// Watches until the task is aborted.
pub(super) fn watch(dae: &Dae) -> JoinHandle<()> {
    let dae = dae.clone();
    let make = move || FileWatch::by(&dae).run();
    tasks::keep_alive(&Handle::current(), "the watch over files", make)
}

/// Logs why files can't be looked at now. The next look does it. Returns false: there is no reason to look again
/// soon.
fn put_off(why: &str) -> bool {
    tracing::warn!("files can't be looked at now, and will be at the next look: {why}");
    false
}

struct FileWatch {
    dae: Dae,
    dir: PathBuf,
    known: TriedFiles,
    /// The drop-ins whose file is away.
    absent: Absent,
    watcher: Option<RecommendedWatcher>,
    /// The directories that the watcher watches.
    watched: HashSet<PathBuf>,
    registered: Arc<Sources>,
    changes: Arc<Changes>,
}

/// The files of the registry, as of one of its changes.
#[derive(Default)]
struct Sources {
    /// The number of the registry's changes at the time of reading. `None` before the first reading.
    changes: Option<u64>,
    all: Vec<RegisteredFile>,
    files: Vec<PathBuf>,
}

/// A cache for one look: true if a file has the content of a hash. Many daemons may share both.
type Compared = HashMap<(PathBuf, String), bool>;

impl FileWatch {
    fn by(dae: &Dae) -> Self {
        let dir = dae.inner.home.drop_in_dir();
        let changes = Arc::new(Changes::around(&dir));
        let changed = Arc::clone(&changes);
        // The watcher would panic at its first use if it could not have a thread of its own.
        let watcher = blocking::check_threads(1).map_err(notify::Error::io);
        let hear = move |event| tasks::caught("the watch over files", || changed.hear(&event));
        let watcher = watcher.and_then(|()| notify::recommended_watcher(hear));
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files can't be watched here; they are polled"),
            )
            .ok();
        let grace = durations::ms(dae.inner.shared.config().drop_in_gone_ms);
        FileWatch {
            dae: dae.clone(),
            dir,
            known: TriedFiles::default(),
            absent: Absent::for_at_most(grace),
            watcher,
            watched: HashSet::new(),
            registered: Arc::default(),
            changes,
        }
    }

    async fn run(mut self) {
        let changes = Arc::clone(&self.changes);
        loop {
            let poll = self.dae.inner.shared.config().drop_in_poll_ms;
            let poll = durations::ms(poll.max(100));
            self.read_registry();
            let is_unfinished = self.look().await;
            let wait = if is_unfinished { RETRY } else { poll };
            let wait = wait.min(self.until_next_end());
            tokio::select! {
                () = changes.whole.notified() => {}
                () = changes.other.notified() => changes.still().await,
                () = self.dae.inner.watch_anew.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Watches the directories of the files, because replacing a file creates another one of the same name.
    async fn watch_directories(&mut self) {
        let dropped = self.registered.all.iter().filter(|one| one.is_drop_in);
        let sources = dropped.map(|one| &one.source).chain(&self.registered.files);
        let sources = sources.filter_map(|source| source.parent());
        let wanted: HashSet<PathBuf> = sources
            .map(Path::to_owned)
            .chain([self.dir.clone()])
            .collect();
        if self.watcher.is_none() || wanted == self.watched {
            return;
        }
        let watcher = self.watcher.take();
        let watched = std::mem::take(&mut self.watched);
        // If this panics, files are polled from now on.
        let changed = blocking::run_or_here(move || change_watched(watcher, watched, wanted));
        if let Ok((watcher, watched)) = changed.await {
            (self.watcher, self.watched) = (watcher, watched);
        }
    }

    /// Looks at all files once and acts on the changes. Returns true if a file was not complete yet.
    async fn look(&mut self) -> bool {
        tasks::fault_point("watch");
        self.watch_directories().await;
        let (dropped, sources) = match self.see().await {
            Ok(seen) => seen,
            Err(is_unfinished) => return is_unfinished,
        };
        self.note_absent(&dropped);
        let (mut is_unfinished, mut compared) = (false, Compared::new());
        // Computed before any action: if two daemons share a file, handling the first one makes the file known.
        let is_rewritten = |seen: &&CandidateFile| {
            self.known.is_rewritten(seen) || self.absent.has_file(&seen.path)
        };
        let rewritten = dropped.iter().chain(&sources).filter(is_rewritten);
        let rewritten: HashSet<PathBuf> = rewritten.map(|seen| seen.path.clone()).collect();
        let registered = Arc::clone(&self.registered);
        let tried = (&self.known, &self.absent);
        for action in reconcile::plan(&dropped, &sources, &registered.all, tried) {
            match action {
                Action::Install(seen) => is_unfinished |= self.install_dropped(seen).await,
                Action::Reload(name, seen) => {
                    let is_rewritten = rewritten.contains(&seen.path);
                    if self
                        .is_unchanged(&name, (&seen.path, is_rewritten), &mut compared)
                        .await
                    {
                        self.known.note(seen);
                    } else {
                        is_unfinished |= self.install(Some(name), seen).await;
                    }
                }
            }
        }
        self.uninstall_gone().await;
        let seen = [dropped, sources].concat();
        self.known.forget_all_but(&seen, &registered.all);
        is_unfinished
    }

    /// Returns the files of the drop-in directory, and those that daemons were installed from. If they can't be
    /// read, the error says whether to look again soon.
    async fn see(&self) -> Result<(Vec<CandidateFile>, Vec<CandidateFile>), bool> {
        let (dir, registered) = (self.dir.clone(), Arc::clone(&self.registered));
        let look = move || {
            Ok((
                reconcile::look(&dir)?,
                reconcile::look_at(&registered.files),
            ))
        };
        match blocking::run(look).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err::<_, std::io::Error>(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the drop-in directory can't be read");
                Err(false)
            }
            Err(why) => Err(put_off(&why)),
        }
    }

    /// Finds out which drop-in files have gone or are back, and logs it at once.
    fn note_absent(&mut self, dropped: &[CandidateFile]) {
        let registered = Arc::clone(&self.registered);
        let now = self.dae.inner.shared.since.elapsed();
        let gone = reconcile::gone(dropped, &registered.all);
        let news = self.absent.update(gone, now);
        self.show_absent();
        for one in news {
            match one {
                AbsenceNews::Gone(daemon, file) => {
                    let grace_ms = self.dae.inner.shared.config().drop_in_gone_ms;
                    tracing::warn!(daemon, file = %file.display(), "its file has gone from the drop-in directory; it is uninstalled in {grace_ms} ms unless the file is back");
                }
                AbsenceNews::Back(daemon) => {
                    tracing::info!(daemon, "its file is there; it is not uninstalled");
                }
            }
        }
    }

    fn show_absent(&self) {
        self.dae.inner.catalogue.note_absent(self.absent.ends());
    }

    fn until_next_end(&self) -> Duration {
        let now = self.dae.inner.shared.since.elapsed();
        let end = self.absent.next_end();
        end.map_or(Duration::MAX, |end| end.saturating_sub(now))
    }

    /// Uninstalls the drop-ins whose file has been away for too long.
    async fn uninstall_gone(&mut self) {
        let now = self.dae.inner.shared.since.elapsed();
        for (daemon, file) in self.absent.over(now) {
            self.absent.forget(&daemon);
            self.show_absent();
            if let Err(fault) = self.dae.uninstall_gone(&daemon, &file).await {
                tracing::error!(
                    daemon,
                    "a drop-in that has gone was not uninstalled: {fault}"
                );
            }
        }
    }

    /// Handles a new file of the drop-in directory. If it has the content or the name of a drop-in whose file is
    /// away, it takes the place of that file. Returns true if the file was not complete yet.
    async fn install_dropped(&mut self, seen: CandidateFile) -> bool {
        let ends = self.absent.ends();
        for daemon in ends.keys() {
            if !self.has_content_of(daemon, &seen.path).await {
                continue;
            }
            match self.dae.rename_source(daemon, &seen.path).await {
                Ok(()) => {
                    tracing::info!(daemon, file = %seen.path.display(), "its file was renamed; it runs on");
                    self.known.note(seen);
                }
                Err(fault) => tracing::error!(daemon, "its new file was not recorded: {fault}"),
            }
            self.absent.forget(daemon);
            self.show_absent();
            return false;
        }
        let replaced = match ends.is_empty() {
            true => None,
            false => own_name(&seen.path).await,
        };
        let replaced = replaced.filter(|name| ends.contains_key(name));
        if let Some(daemon) = &replaced {
            self.absent.forget(daemon);
            self.show_absent();
        }
        self.install(replaced, seen).await
    }

    /// Returns whether the file has the content that the daemon's file had when it was there.
    async fn has_content_of(&self, daemon: &str, file: &Path) -> bool {
        let Some(entry) = self.dae.inner.catalogue.entry(daemon) else {
            return false;
        };
        let hash = entry.source_hash.unwrap_or(entry.hash);
        self.is_same(&(file.to_owned(), hash)).await
    }

    /// Reads the registry again if it has changed.
    fn read_registry(&mut self) {
        let home = &self.dae.inner.home.data;
        let watches_sources = self.dae.inner.watches_sources;
        let of = |(name, entry): (&String, &dae_store::registry::Entry)| {
            (watches_sources || entry.drop_in).then_some(())?;
            Some(RegisteredFile {
                name: name.clone(),
                source: entry.source_in(home)?,
                is_drop_in: entry.drop_in,
            })
        };
        let catalogue = &self.dae.inner.catalogue;
        let read = catalogue.read_changed(self.registered.changes, |registry| {
            registry.daemons.iter().filter_map(of).collect()
        });
        let Some((changes, all)) = read else { return };
        let all: Vec<RegisteredFile> = all;
        let files = reconcile::sources(&all);
        self.changes.attend_to(&files);
        self.registered = Arc::new(Sources {
            changes: Some(changes),
            all,
            files,
        });
    }

    /// Notes a refusal for a file that stays half-written.
    fn note_broken(&self, replaced: Option<&str>, fault: &Fault) {
        if fault.kind() == FaultKind::Incomplete {
            let name = replaced.unwrap_or(DAE_NAME);
            self.dae
                .inner
                .note_refusal(name, ChangeKind::NewFile, fault);
        }
    }

    /// Installs a file. Returns true if the file was not complete yet.
    async fn install(&mut self, replaced: Option<String>, seen: CandidateFile) -> bool {
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
                self.note_broken(replaced.as_deref(), &fault);
                tracing::error!(file = %path.display(), "a new file does not run: {fault}");
                match self.taken_name(&fault, &path).await {
                    Some(name) => self.known.note_waiting(seen, name),
                    None => self.known.note_refused(seen),
                }
                false
            }
        }
    }

    /// Returns the plugin's own name if a daemon that has it, or its files, is the reason of a refusal.
    async fn taken_name(&self, fault: &Fault, file: &Path) -> Option<String> {
        let shares = |name: &str| {
            let shares = |registry: &Registry| {
                let other = registry.sharing_files(name, FILES_IGNORE_CASE);
                other.is_some_and(|other| other != DAE_NAME)
            };
            self.dae.inner.catalogue.read(shares)
        };
        match fault.kind() {
            FaultKind::NameTaken => own_name(file).await,
            FaultKind::Failed if FILES_IGNORE_CASE => {
                own_name(file).await.filter(|name| shares(name))
            }
            _ => None,
        }
    }

    /// Returns whether the file has the content that runs. Unless the file was written again since it was handled, a
    /// content that was rolled back, by its owner or within its rollback window, is no change either. So neither a
    /// restart of the host nor a new mode of the file undoes a rollback.
    async fn is_unchanged(
        &self,
        name: &str,
        (path, is_rewritten): (&Path, bool),
        compared: &mut Compared,
    ) -> bool {
        let Some(entry) = self.dae.inner.catalogue.entry(name) else {
            // It was uninstalled since then, and stays so.
            return true;
        };
        let left_behind = entry
            .previous
            .into_iter()
            .chain(entry.newer)
            .chain(entry.quarantined.into_keys());
        let unchanged = [entry.hash]
            .into_iter()
            .chain(left_behind.filter(|_| !is_rewritten));
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

    async fn is_same(&self, (path, hash): &(PathBuf, String)) -> bool {
        let staging = &self.dae.inner.staging;
        staging.is_same(hash.clone(), path.clone()).await
    }
}

/// Makes the watcher watch the directories `wanted` instead of those `watched`. Returns those that it watches now: one
/// that can't be watched is polled, and tried again at the next look.
fn change_watched(
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    wanted: HashSet<PathBuf>,
) -> (Option<RecommendedWatcher>, HashSet<PathBuf>) {
    let Some(mut watcher) = watcher else {
        return (None, watched);
    };
    for gone in watched.difference(&wanted) {
        // If the directory itself is gone, so is its watch.
        let _ = watcher.unwatch(gone);
    }
    let mut can_be_watched = |dir: &PathBuf| {
        watched.contains(dir) || watcher.watch(dir, RecursiveMode::NonRecursive).is_ok()
    };
    let now = wanted.into_iter().filter(&mut can_be_watched).collect();
    (Some(watcher), now)
}

/// Returns the plugin's own name that a file's manifest has.
async fn own_name(file: &Path) -> Option<String> {
    let file = file.to_owned();
    let read = blocking::run(move || manifest::read(&file)).await;
    read.ok()?.ok().map(|manifest| manifest.name)
}
