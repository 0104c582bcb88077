//! The drop-in directory: a compiled plugin that lies there runs, and one that goes from there is stopped.
//!
//! Events of the file system say when to look; looking says what to do: each time the whole directory is compared with
//! what is known ([`crate::plan`]), so that a lost event costs a moment and nothing else, and a slow poll makes up for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Dae, FaultKind, lock};
use crate::plan::{self, Action, Known, Seen};
use crate::report::InstallRequest;

/// A file is acted on when it has been left alone for so long: a linker writes in many small steps.
const STILL: Duration = Duration::from_millis(150);
/// A half-written file is looked at again so soon.
const RETRY: Duration = Duration::from_millis(500);

/// Watches the directory until the task is aborted.
pub(super) fn watch(dae: &Dae) -> anyhow::Result<JoinHandle<()>> {
    let dir = dae.inner.home.drop_in_dir();
    std::fs::create_dir_all(&dir)?;
    let (changed, changes) = mpsc::channel(1);
    let watcher = watcher_of(&dir, changed);
    if let Err(error) = &watcher {
        tracing::warn!(dir = %dir.display(), %error, "the drop-in directory can't be watched; it is polled");
    }
    let watched = Watched {
        dae: dae.clone(),
        dir,
        known: Known::default(),
    };
    let watcher = watcher.ok();
    Ok(tokio::spawn(async move {
        let _watcher = watcher;
        watched.run(changes).await;
    }))
}

fn watcher_of(dir: &Path, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_read = event.is_ok_and(
            |event| matches!(event.kind, EventKind::Access(access) if !is_written(access)),
        );
        if !is_read {
            // One that waits already says the same.
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_written(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    access == AccessKind::Close(AccessMode::Write)
}

struct Watched {
    dae: Dae,
    dir: PathBuf,
    known: Known,
}

impl Watched {
    async fn run(mut self, mut changes: mpsc::Receiver<()>) {
        let poll = Duration::from_millis(self.dae.inner.shared.config.drop_in_poll_ms.max(100));
        loop {
            let is_unfinished = self.look().await;
            let wait = if is_unfinished { RETRY } else { poll };
            // Either way there is a reason to look.
            if tokio::time::timeout(wait, changes.recv()).await.is_ok() {
                self.wait_until_still(&mut changes).await;
            }
        }
    }

    async fn wait_until_still(&self, changes: &mut mpsc::Receiver<()>) {
        while let Ok(Some(())) = tokio::time::timeout(STILL, changes.recv()).await {}
    }

    /// Makes it so. True where a file was not whole yet.
    async fn look(&mut self) -> bool {
        let dir = self.dir.clone();
        let seen = match tokio::task::spawn_blocking(move || plan::look(&dir)).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the drop-in directory can't be read");
                return false;
            }
            Err(_) => return false,
        };
        let registered = self.registered();
        let mut is_unfinished = false;
        for action in plan::plan(&seen, &registered, &self.known) {
            match action {
                Action::Install(seen) => is_unfinished |= self.install(seen).await,
                Action::Uninstall(name) => self.uninstall(&name).await,
            }
        }
        self.known.forget_all_but(&seen);
        is_unfinished
    }

    fn registered(&self) -> Vec<(String, PathBuf)> {
        let registry = lock(&self.dae.inner.registry);
        let drop_ins = registry.daemons.iter().filter(|(_, entry)| entry.drop_in);
        drop_ins
            .filter_map(|(name, entry)| Some((name.clone(), entry.source.clone()?)))
            .collect()
    }

    /// True where the file was not whole yet.
    async fn install(&mut self, seen: Seen) -> bool {
        let path = seen.path.clone();
        let replaced = self
            .registered()
            .into_iter()
            .find(|(_, source)| *source == path)
            .map(|(name, _)| name);
        let request = InstallRequest {
            name: replaced.clone(),
            file: path.clone(),
            replace: replaced.is_some(),
            drop_in: true,
            ..InstallRequest::default()
        };
        if replaced
            .as_ref()
            .is_some_and(|name| self.is_unchanged(name, &path))
        {
            self.known.note(seen);
            return false;
        }
        match self.dae.install_with(request).await {
            Ok(installed) => {
                tracing::info!(daemon = installed.name, file = %path.display(), "a drop-in runs");
                self.known.note(seen);
                false
            }
            Err(fault)
                if fault.kind() == FaultKind::Incomplete && !self.known.is_tired_of(&seen) =>
            {
                true
            }
            Err(fault) => {
                tracing::error!(file = %path.display(), "a drop-in was not installed: {fault}");
                self.known.note(seen);
                false
            }
        }
    }

    /// After a restart of the host every file is new to us, but not to the registry.
    fn is_unchanged(&self, name: &str, path: &Path) -> bool {
        let hash = lock(&self.dae.inner.registry)
            .daemons
            .get(name)
            .map(|entry| entry.hash.clone());
        let store = Arc::clone(&self.dae.inner.shared.store);
        hash.is_some_and(|hash| store.is_same(&hash, path))
    }

    async fn uninstall(&mut self, name: &str) {
        match self.dae.uninstall(name).await {
            Ok(()) => tracing::info!(
                daemon = name,
                "its file has gone from the drop-in directory; it was uninstalled"
            ),
            Err(fault) => tracing::error!(
                daemon = name,
                "a drop-in that has gone was not uninstalled: {fault}"
            ),
        }
    }
}
