//! Foreign daemons as part of an ecosystem: found in the background or on request, listed beside its own daemons,
//! and never in their way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;

use super::{Dae, Fault, FaultKind, Inner, lock};
use crate::discover::{Discovery, ForeignChange, ForeignDaemon};
use crate::supervise::SupervisorShared;
use dae_runtime::peers::directory::{Directory, ForeignAddress};
use dae_store::config::Config;
use dae_store::durations;
use dae_store::event::DaeEventKind;
use dae_store::registry::DAE_NAME;
use dae_store::report::{Credential, Scan, Status};
use dae_store::tasks;

/// The argument of `announce`: a credential of which only the port is read.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a credential, of which the port is read")]
pub(super) struct Announced {
    port: u16,
}

/// The foreign daemons of an ecosystem, and their place in its name directory.
#[derive(Debug)]
pub(super) struct ForeignSet {
    discovery: Arc<Discovery>,
    directory: Arc<Directory>,
    /// Held while the list is read and published, and while names are read and reserved, so that what is published or
    /// reserved last is the latest.
    publishing: Mutex<()>,
}

impl Dae {
    /// Looks for foreign daemons now, and returns all known ones.
    ///
    /// # Errors
    /// Fails if the system doesn't tell which sockets listen on this machine.
    pub async fn scan(&self) -> Result<Scan, Fault> {
        let running = &self.inner.running;
        let begun = Instant::now();
        let tally = running.foreign.discovery.scan(running.processes()).await;
        let tally = tally.map_err(|error| {
            Fault::failed(format!(
                "the sockets of this machine can't be looked at: {error}"
            ))
        })?;
        running.foreign.publish();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Scan {
            daemons: running.foreign.statuses(),
            refused: running.foreign.discovery.refused(),
            sockets: count(tally.sockets),
            asked: count(tally.probed),
            hidden: count(tally.hidden),
            ms: durations::in_ms(begun.elapsed()),
        })
    }

    /// Handles a daemon that announces itself. Returns its credential with the name that it is listed under.
    pub(super) async fn announce(&self, announced: &Announced) -> Result<Credential, Fault> {
        let running = &self.inner.running;
        let (discovery, own) = (&running.foreign.discovery, running.processes());
        let listed = discovery.announce(announced.port, own).await;
        running.foreign.publish();
        listed.map_err(Fault::failed)
    }
}

impl ForeignSet {
    /// Creates an empty set, which publishes to `directory`.
    pub(super) fn new(config: &Config, directory: Arc<Directory>) -> Self {
        ForeignSet {
            discovery: Discovery::new(config),
            directory,
            publishing: Mutex::default(),
        }
    }

    /// Reserves the present names of this host's daemons, so that no foreign daemon is listed under one of them.
    pub(super) fn reserve(&self, names: impl FnOnce() -> BTreeSet<String>) {
        let _latest = lock(&self.publishing);
        self.discovery.reserve(names());
    }

    /// Publishes the believed foreign daemons to the name directory at once, before an answer that mentions them.
    fn publish(&self) {
        let _latest = lock(&self.publishing);
        let all = self.discovery.list();
        let believed = all.into_iter().filter(|one| one.doubt.is_none());
        let addresses = believed.map(|one| ForeignAddress {
            credential: one.credential(),
            address: one.address,
        });
        self.directory.set_foreign(addresses);
    }

    pub(super) fn statuses(&self) -> Vec<Status> {
        self.discovery.list().into_iter().map(status).collect()
    }

    pub(super) fn status(&self, name: &str) -> Option<Status> {
        self.discovery.find(name).map(status)
    }

    /// Returns the credential of the foreign daemon that is listed under that name, or `None` if there is none.
    pub(super) fn find(&self, name: &str) -> Option<Result<Credential, Fault>> {
        let one = self.discovery.find(name)?;
        let text = |doubt| format!("{name} is an impostor: {doubt}");
        Some(match &one.doubt {
            None => Ok(one.credential()),
            Some(doubt) => Err(Fault::failed(text(doubt))),
        })
    }

    /// Returns why a change can't be made to that name, if it is a foreign daemon's.
    pub(super) fn fault(&self, name: &str) -> Option<Fault> {
        let one = self.discovery.find(name)?;
        Some(Fault {
            kind: FaultKind::Failed,
            text: format!(
                "{name} is a foreign daemon (pid {}), which this host doesn't run: its commands can be called, and nothing else",
                one.pid
            ),
        })
    }
}

impl Inner {
    /// Looks for foreign daemons at intervals, until the task is aborted or the ecosystem is gone.
    pub(super) fn look_for_foreign(self: &Arc<Self>) -> JoinHandle<()> {
        let every = durations::ms(self.shared.config().scan_ms);
        let inner: Weak<Inner> = Arc::downgrade(self);
        let discovery = Arc::clone(&self.running.foreign.discovery);
        tasks::keep_alive(&Handle::current(), "scan", move || {
            let inner = Weak::clone(&inner);
            let own = move || inner.upgrade().map(|inner| inner.running.processes());
            Arc::clone(&discovery).run(every, own)
        })
    }

    /// Publishes the believed foreign daemons to the name directory whenever they change, until the task is
    /// aborted.
    pub(super) fn publish_foreign(self: &Arc<Self>) -> JoinHandle<()> {
        let inner = Arc::downgrade(self);
        let make = move || publish_foreign(Weak::clone(&inner));
        tasks::keep_alive(&Handle::current(), "the share of foreign daemons", make)
    }
}

async fn publish_foreign(inner: Weak<Inner>) {
    let subscribed = inner
        .upgrade()
        .map(|inner| inner.running.foreign.discovery.subscribe());
    let Some(mut changes) = subscribed else {
        return;
    };
    // Changes, or the number of those that this receiver was too late for.
    let mut batch: Vec<Result<ForeignChange, u64>> = Vec::new();
    loop {
        let Some(inner) = inner.upgrade() else { return };
        // Each round publishes the whole list. The events follow: their readers may call the daemons at once.
        inner.running.foreign.publish();
        for change in batch.drain(..) {
            send_event(&inner.shared, change);
        }
        drop(inner);
        batch.push(match changes.recv().await {
            Ok(change) => Ok(change),
            Err(RecvError::Lagged(count)) => Err(count),
            Err(RecvError::Closed) => return,
        });
        // Many changes come at once when another host starts or ends.
        loop {
            batch.push(match changes.try_recv() {
                Ok(change) => Ok(change),
                Err(TryRecvError::Lagged(count)) => Err(count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            });
        }
    }
}

/// Sends the event of a change among the foreign daemons, or of changes that were missed.
fn send_event(shared: &SupervisorShared, change: Result<ForeignChange, u64>) {
    let credential = |one: &ForeignDaemon| Box::new(one.credential());
    let change = match change {
        Ok(change) => change,
        Err(count) => {
            let missed = DaeEventKind::Missed { count };
            return shared.events.send(DAE_NAME, None, missed);
        }
    };
    let (one, kind) = match change {
        ForeignChange::Appeared(one) => {
            let credential = credential(&one);
            (one, DaeEventKind::ForeignAppeared { credential })
        }
        ForeignChange::Changed { was, now } => {
            let credential = credential(&now);
            (now, DaeEventKind::ForeignChanged { credential, was })
        }
        ForeignChange::Gone(one) => (one, DaeEventKind::ForeignGone),
    };
    shared.events.send(&one.name, one.generation, kind);
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
