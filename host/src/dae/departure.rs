//! Uninstalls daemons and offers the ways back: the states that are kept for a week, and what starts from them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::change::abandoned;
use super::{Dae, Fault, Inner, rollback};
use crate::supervise::{DaemonDisk, StartFrom};
use dae_store::archive::RemovedItem;
use dae_store::blocking;
use dae_store::event::DaeEventKind;
use dae_store::registry::Entry;
use dae_store::report::{RollbackRequest, UninstallRequest, Uninstalled};
use dae_store::snapshots::KeptState;
use dae_store::tasks;
use dae_store::uninstall;

/// The interval between two sweeps of the archive. So the week's retention is exact to the hour.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// The occasion of an uninstall: a request, or a drop-in file that has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UninstallOccasion {
    Requested,
    FileGone,
}

/// A daemon that has ended and whose entry is removed, and what its uninstall still needs.
struct LeftDaemon {
    request: UninstallRequest,
    entry: Option<Entry>,
    occasion: UninstallOccasion,
    /// The id of the note that it leaves.
    noted: Option<String>,
}

impl Dae {
    /// Stops a daemon and forgets it, its stored file included. Its state and log are kept for a week.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, or the registry can't be written. The daemon is still there then.
    pub async fn uninstall(&self, name: &str) -> Result<Uninstalled, Fault> {
        let request = UninstallRequest {
            name: name.to_owned(),
            purge: false,
        };
        self.uninstall_with(request).await
    }

    /// Does the same as [`Dae::uninstall`], with all options. `purge` removes the state and log at once, also those
    /// of a daemon that was uninstalled before.
    ///
    /// # Errors
    /// As for [`Dae::uninstall`].
    pub async fn uninstall_with(&self, request: UninstallRequest) -> Result<Uninstalled, Fault> {
        self.carry_through(|dae, begin| async move {
            let _turn = dae.inner.running.turn(&request.name).await;
            if !begin.begin() {
                return Err(abandoned(&request.name));
            }
            dae.inner
                .uninstall(&request, UninstallOccasion::Requested)
                .await
        })
        .await
    }

    /// Records the new name of a drop-in's file.
    ///
    /// # Errors
    /// Fails if the registry can't be written.
    pub(super) async fn rename_source(&self, name: &str, file: &Path) -> Result<(), Fault> {
        let _turn = self.inner.running.turn(name).await;
        let home = &self.inner.home.data;
        let renamed = self.inner.change_registry(|registry| {
            if let Some(entry) = registry.daemons.get_mut(name) {
                entry.set_source(home, file);
            }
        });
        renamed
            .await
            .map_err(|error| Fault::failed(format!("{error:#}")))
    }

    /// Uninstalls a drop-in whose file has gone. Returns `None` if the file is there again.
    pub(super) async fn uninstall_gone(
        &self,
        name: &str,
        file: &Path,
    ) -> Result<Option<Uninstalled>, Fault> {
        let _turn = self.inner.running.turn(name).await;
        let entry = self.inner.catalogue.entry(name);
        let source = entry.and_then(|entry| entry.source_in(&self.inner.home.data));
        let look = {
            let file = file.to_owned();
            self.inner.on_disk(move |_| file.is_file())
        };
        let is_back = look.await? && file.starts_with(self.inner.home.drop_in_dir());
        if source.as_deref() != Some(file) || is_back {
            return Ok(None);
        }
        let request = UninstallRequest {
            name: name.to_owned(),
            purge: false,
        };
        let uninstalled = self
            .inner
            .uninstall(&request, UninstallOccasion::FileGone)
            .await;
        uninstalled.map(Some)
    }
}

impl Inner {
    async fn uninstall(
        self: &Arc<Self>,
        request: &UninstallRequest,
        occasion: UninstallOccasion,
    ) -> Result<Uninstalled, Fault> {
        let name = request.name.as_str();
        let daemon = self.daemon(name);
        if daemon.is_none() && self.catalogue.why_lost(name).is_none() {
            return self.purge_past(request).await;
        }
        let entry = self.catalogue.entry(name);
        let noted = self.remove_entry(request, entry.as_ref()).await?;
        self.catalogue.forget(name);
        self.running.remove(name);
        if let Some(daemon) = daemon
            && let Err(text) = daemon.end().await
        {
            tracing::warn!(daemon = name, "{text}");
        }
        let left = LeftDaemon {
            request: request.clone(),
            entry,
            occasion,
            noted,
        };
        let uninstalled = self.on_disk(move |inner| inner.put_away(left)).await?;
        let text = uninstalled.to_string();
        tracing::info!(daemon = name, "{text}");
        let events = &self.shared.events;
        events.send(name, None, DaeEventKind::Uninstalled);
        self.tidy().await;
        Ok(uninstalled)
    }

    /// Removes a daemon's entry from the registry. Returns the id of the note that it leaves in the archive, in case the
    /// host ends before the uninstall does.
    async fn remove_entry(
        self: &Arc<Self>,
        request: &UninstallRequest,
        entry: Option<&Entry>,
    ) -> Result<Option<String>, Fault> {
        let (noting, entry) = (request.clone(), entry.cloned());
        let note = move |inner: &Inner| {
            uninstall::note_leaving(&inner.shared.disk.archive, &noting, entry.as_ref())
        };
        let noted = self.on_disk(note).await?;
        let removed = self.change_registry(|registry| {
            registry.daemons.remove(&request.name);
        });
        let Err(error) = removed.await else {
            return Ok(noted);
        };
        let request = request.clone();
        let undo =
            move |inner: &Inner| uninstall::take_back(&inner.shared.disk.archive, &request, noted);
        self.on_disk(undo).await?;
        Err(Fault::failed(format!("{error:#}")))
    }

    /// Archives or removes what a daemon has left, which the registry doesn't name any more. Blocks.
    fn put_away(&self, left: LeftDaemon) -> Uninstalled {
        let DaemonDisk { states, archive } = &self.shared.disk;
        let file = self.dropped_file(left.entry.as_ref());
        let mut uninstalled = uninstall::leave(archive, states, &left.request, left.entry);
        self.shared.journal.close(&left.request.name);
        if left.request.purge
            && let Err(error) = self.shared.events.forget(&left.request.name)
        {
            uninstalled.note = format!("its events could not be removed: {error:#}");
        }
        if uninstalled.note.is_empty() {
            uninstall::take_back(archive, &left.request, left.noted);
        }
        if let (Some(file), UninstallOccasion::Requested) = (file, left.occasion) {
            uninstall::move_aside(&file, &mut uninstalled);
        }
        uninstalled
    }

    /// Removes what is kept of an uninstalled daemon, if the request says so.
    async fn purge_past(
        self: &Arc<Self>,
        request: &UninstallRequest,
    ) -> Result<Uninstalled, Fault> {
        let name = request.name.as_str();
        let (purges, daemon) = (request.purge, name.to_owned());
        let purged = self.on_disk(move |inner| {
            let purge = || {
                let has_any = inner.shared.disk.archive.purge(&daemon)?;
                Ok::<_, anyhow::Error>(inner.shared.events.forget(&daemon)? || has_any)
            };
            let purged = purges.then(purge);
            inner.shared.journal.close(&daemon);
            purged
        });
        match purged.await? {
            Some(Ok(true)) => Ok(Uninstalled::purged(name)),
            Some(Err(error)) => Err(Fault::failed(format!("{name}: {error:#}"))),
            _ => Err(self.unknown(name)),
        }
    }

    fn dropped_file(&self, entry: Option<&Entry>) -> Option<PathBuf> {
        let dropped = entry.filter(|entry| entry.drop_in)?;
        dropped.source_in(&self.home.data)
    }

    /// Reads an archived state: the newest one (`last`), or the one with the id `which`.
    pub(super) async fn archived(
        self: &Arc<Self>,
        name: &str,
        which: String,
    ) -> Result<KeptState, Fault> {
        let name = name.to_owned();
        let state = self.on_disk(move |inner| inner.shared.disk.archive.state(&name, &which));
        let state = state.await?;
        state.map_err(|error| Fault::failed(format!("{error:#}")))
    }

    /// Returns what a rollback goes back to: the code, and what it starts from. If the last change set a state
    /// aside, returns the code that left that state, with the state.
    pub(super) async fn way_back(
        self: &Arc<Self>,
        request: &RollbackRequest,
    ) -> Result<(String, StartFrom), Fault> {
        let name = request.name.as_str();
        let entry = self.entry(name)?;
        let is_plain = request.to.is_none() && !request.fresh;
        let previous = entry.previous.first();
        let aside = entry.set_aside.as_ref().filter(|_| is_plain);
        let aside = aside.filter(|aside| aside.hash == entry.hash || previous == Some(&aside.hash));
        if let Some(aside) = aside
            && let Ok(state) = self.archived(name, aside.state.clone()).await
        {
            return Ok((aside.hash.clone(), StartFrom::State(Box::new(state))));
        }
        let target = rollback::target(&entry, request.to.as_deref());
        let target = target.map_err(|text| Fault::failed(format!("{name}: {text}")))?;
        let from = match request.fresh {
            true => StartFrom::Nothing,
            false => StartFrom::Kept,
        };
        Ok((target, from))
    }

    /// Completes the uninstalls that a killed host had begun. The state of a daemon that is not in the registry is
    /// archived like that of any other. Blocks.
    pub(super) fn finish_uninstalls(&self) {
        let DaemonDisk { states, archive } = &self.shared.disk;
        let mut names = states.names().unwrap_or_default();
        let installed: HashSet<String> = self.catalogue.names();
        names.retain(|name| !installed.contains(name));
        for name in names {
            let noted = archive.last_uninstall(&name);
            let noted = noted.filter(|departure| departure.state.is_none());
            let entry = noted.and_then(|departure| departure.entry);
            match archive.leave(states, &name, entry) {
                Ok(_) => tracing::info!(
                    daemon = name,
                    "its uninstall was cut short by the host's end, and is made now"
                ),
                Err(error) => tracing::warn!(
                    daemon = name,
                    error = format!("{error:#}"),
                    "its uninstall was cut short by the host's end, and its state could not be moved"
                ),
            }
        }
    }

    /// Removes what has been kept for long enough, now and every hour.
    pub(super) fn sweep_past(self: &Arc<Self>) -> JoinHandle<()> {
        let inner = Arc::downgrade(self);
        let make = move || {
            let inner = Weak::clone(&inner);
            async move {
                while let Some(inner) = inner.upgrade() {
                    // If no thread is available, or it panics, the next round does it.
                    if let Err(why) = blocking::run(move || inner.sweep_past_now()).await {
                        tracing::warn!("what has left is not tidied now: {why}");
                    }
                    tokio::time::sleep(SWEEP_EVERY).await;
                }
            }
        };
        tasks::keep_alive(&Handle::current(), "the sweep of what has left", make)
    }

    pub(super) fn sweep_past_now(&self) {
        let installed: HashSet<String> = self.catalogue.names();
        match self.shared.disk.archive.sweep(&installed, Timestamp::now()) {
            Ok(removed) => {
                for RemovedItem { daemon, what, why } in removed {
                    self.shared.journal.close(&daemon);
                    tracing::info!(daemon, why, "its {what}, kept since it left, is removed");
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "what has left could not be tidied");
            }
        }
    }
}
