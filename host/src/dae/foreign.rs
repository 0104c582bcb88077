//! Foreign daemons as part of an ecosystem: found in the background or on request, listed beside its own daemons,
//! and never in their way.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Instant;

use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;

use super::{Dae, Fault, FaultKind, Inner, lock};
use crate::discover::ForeignDaemon;
use dae_store::durations;
use dae_store::report::{Credential, Scan, Status};
use dae_store::tasks;

/// The argument of `announce`: a credential of which only the port is read.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a credential, of which the port is read")]
pub(super) struct Announced {
    port: u16,
}

impl Dae {
    /// Looks for foreign daemons now, and returns all known ones.
    ///
    /// # Errors
    /// Fails if the system doesn't tell which sockets listen on this machine.
    pub async fn scan(&self) -> Result<Scan, Fault> {
        let inner = &self.inner;
        let begun = Instant::now();
        let tally = inner.foreign.scan(inner.own_processes()).await;
        let tally = tally.map_err(|error| {
            Fault::failed(format!(
                "the sockets of this machine can't be looked at: {error}"
            ))
        })?;
        inner.share_others_now();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Scan {
            daemons: inner.foreign_statuses(),
            refused: inner.foreign.refused(),
            sockets: count(tally.sockets),
            asked: count(tally.asked),
            hidden: count(tally.hidden),
            ms: durations::in_ms(begun.elapsed()),
        })
    }

    /// Handles a daemon that announces itself. Returns its credential with the name that it is listed under.
    pub(super) async fn announce(&self, announced: &Announced) -> Result<Credential, Fault> {
        let inner = &self.inner;
        let own = inner.own_processes();
        let listed = inner.foreign.announce(announced.port, own).await;
        inner.share_others_now();
        listed.map_err(Fault::failed)
    }
}

impl Inner {
    /// Looks for foreign daemons at intervals, until the task is aborted or the ecosystem is gone.
    pub(super) fn look_for_others(self: &Arc<Self>) -> JoinHandle<()> {
        let every = durations::ms(self.shared.config.scan_ms);
        let inner: Weak<Inner> = Arc::downgrade(self);
        let foreign = Arc::clone(&self.foreign);
        tasks::keep_alive(&Handle::current(), "scan", move || {
            let inner = Weak::clone(&inner);
            let own = move || inner.upgrade().map(|inner| inner.own_processes());
            Arc::clone(&foreign).run(every, own)
        })
    }

    /// Returns the processes that this host's daemons run in. What listens there is no foreign daemon.
    fn own_processes(&self) -> Vec<u32> {
        let daemons = lock(&self.daemons);
        let processes = daemons.values().filter_map(|one| one.pid());
        // Most daemons run in this process.
        let different: BTreeSet<u32> = processes.collect();
        different.into_iter().collect()
    }

    /// Reserves names, so that no foreign daemon is listed under a name of the registry.
    pub(super) fn reserve_names(&self, names: impl Iterator<Item = String>) {
        self.foreign.reserve(names.collect());
    }

    pub(super) fn foreign_statuses(&self) -> Vec<Status> {
        self.foreign.list().into_iter().map(status).collect()
    }

    pub(super) fn foreign_status(&self, name: &str) -> Option<Status> {
        self.foreign.find(name).map(status)
    }

    /// Publishes the believed foreign daemons to the name directory whenever they change, until the task is
    /// aborted.
    pub(super) fn share_others(self: &Arc<Self>) -> JoinHandle<()> {
        let inner = Arc::downgrade(self);
        let make = move || share_others(Weak::clone(&inner));
        tasks::keep_alive(&Handle::current(), "the share of foreign daemons", make)
    }

    /// Publishes them at once, before an answer that mentions them.
    fn share_others_now(&self) {
        let _turn = lock(&self.sharing);
        let all = self.foreign.list();
        let believed = all.into_iter().filter(|one| one.doubt.is_none());
        let shared = believed.map(|one| dae_runtime::peers::directory::ForeignAddress {
            credential: one.credential(),
            address: one.address,
        });
        self.shared.directory.set_foreign(shared);
    }

    /// Returns the credential of the foreign daemon that is listed under that name, or `None` if there is none.
    pub(super) fn find_foreign(&self, name: &str) -> Option<Result<Credential, Fault>> {
        let one = self.foreign.find(name)?;
        let text = |doubt| format!("{name} is an impostor: {doubt}");
        Some(match &one.doubt {
            None => Ok(one.credential()),
            Some(doubt) => Err(Fault::failed(text(doubt))),
        })
    }

    /// Returns why a change can't be made to that name, if it is a foreign daemon's.
    pub(super) fn foreign_fault(&self, name: &str) -> Option<Fault> {
        let one = self.foreign.find(name)?;
        Some(Fault {
            kind: FaultKind::Failed,
            text: format!(
                "{name} is a foreign daemon (pid {}), which this host doesn't run: its commands can be called, and nothing else",
                one.pid
            ),
        })
    }
}

async fn share_others(inner: Weak<Inner>) {
    let subscribed = inner.upgrade().map(|inner| inner.foreign.subscribe());
    let Some(mut changes) = subscribed else {
        return;
    };
    loop {
        let Some(inner) = inner.upgrade() else { return };
        inner.share_others_now();
        drop(inner);
        // A lagged receiver loses nothing: each round shares the whole list.
        if matches!(changes.recv().await, Err(RecvError::Closed)) {
            return;
        }
        // Many changes come at once when another host starts or ends.
        while !matches!(
            changes.try_recv(),
            Err(TryRecvError::Empty | TryRecvError::Closed)
        ) {}
    }
}

fn status(one: ForeignDaemon) -> Status {
    let state = match one.doubt {
        None => "foreign",
        Some(_) => "impostor",
    };
    Status {
        address: one.unusual_address(),
        name: one.name,
        plugin: one.own_name,
        version: one.version.unwrap_or_default(),
        mode: None,
        foreign: true,
        state: state.to_owned(),
        reason: one.doubt.unwrap_or_default(),
        pid: Some(one.pid),
        port: Some(one.address.port()),
        ..Status::default()
    }
}
