//! Records in the registry what supervisors did by themselves.
//!
//! A supervisor doesn't wait for the registry: it sends a notice and goes on. By the time the notice is read, the
//! owner may have changed the daemon, or another daemon may have the name. So a notice is recorded in the turn of
//! its name, and only if it still holds.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::Inner;
use crate::supervise::{DaemonSpec, Notice};
use dae_store::event::DaeEventKind;
use dae_store::registry::Entry;
use dae_store::tasks;

/// Records notices until the ecosystem is gone.
pub(super) fn take_note(inner: &Arc<Inner>, notices: UnboundedReceiver<Notice>) -> JoinHandle<()> {
    let inner = Arc::downgrade(inner);
    // Shared, so that the receiver outlives a task that panics.
    let notices = Arc::new(Mutex::new(notices));
    let make = move || record_all(Weak::clone(&inner), Arc::clone(&notices));
    tasks::keep_alive(&Handle::current(), "the record of rollbacks", make)
}

async fn record_all(inner: Weak<Inner>, notices: Arc<Mutex<UnboundedReceiver<Notice>>>) {
    let mut notices = notices.lock().await;
    while let Some(notice) = notices.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.record_rollback(notice).await;
    }
}

impl Inner {
    async fn record_rollback(&self, notice: Notice) {
        let Notice::RolledBack {
            bad,
            good,
            reason,
            gate,
        } = notice;
        // Wait for the install of the failed file to record its result first. Otherwise it would overwrite this
        // record.
        let _turn = self.running.turn(&good.name).await;
        let Some(daemon) = self.daemon(&good.name) else {
            return;
        };
        let runs = daemon.glance().spec;
        if !Arc::ptr_eq(&daemon.gate, &gate) || runs.artefact.hash == bad {
            // Another daemon has the name now, or the owner has installed that file again.
            return;
        }
        let saved = self.change_registry(|registry| {
            if let Some(entry) = registry.daemons.get_mut(&good.name) {
                entry.quarantine(&bad, &reason, &good.artefact.hash);
                note_good(entry, &good);
            }
        });
        match saved.await {
            Ok(()) => {
                let quarantined = DaeEventKind::Quarantined {
                    hash: bad.clone(),
                    reason: reason.clone(),
                };
                self.shared.events.send(&good.name, None, quarantined);
            }
            Err(error) => tracing::error!(
                daemon = good.name,
                error = format!("{error:#}"),
                "its rollback could not be recorded"
            ),
        }
    }
}

/// Notes the code that runs again, if the entry names it.
fn note_good(entry: &mut Entry, good: &DaemonSpec) {
    if entry.hash == good.artefact.hash {
        entry.version.clone_from(&good.artefact.manifest.version);
        entry.plugin.clone_from(&good.artefact.manifest.name);
        entry.config.clone_from(&good.config);
        entry.mode = good.mode;
        entry.set_aside = None;
    }
}
