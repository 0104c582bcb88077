//! The running set: the supervised daemons, the turns in which they are changed, and the foreign daemons beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedMutexGuard;

use super::foreign::ForeignSet;
use super::lock;
use crate::supervise::Daemon;
use dae_store::registry::{FILES_IGNORE_CASE, file_key};

/// The daemons of an ecosystem, by the names they run under.
#[derive(Debug)]
pub(super) struct RunningSet {
    own: Mutex<OwnDaemons>,
    /// The daemons of this machine that this host doesn't run.
    pub(super) foreign: ForeignSet,
}

#[derive(Debug, Default)]
struct OwnDaemons {
    daemons: BTreeMap<String, Arc<Daemon>>,
    /// One lock for each name that is or was changed. See [`RunningSet::turn`].
    turns: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

impl RunningSet {
    /// Creates a set without daemons of its own.
    pub(super) fn beside(foreign: ForeignSet) -> Self {
        RunningSet {
            own: Mutex::default(),
            foreign,
        }
    }

    /// Waits for the turn to change that name. Its holder may wait for anything else. Names whose daemons would share
    /// files have one turn, so that only one of them gets installed.
    pub(super) async fn turn(&self, name: &str) -> OwnedMutexGuard<()> {
        let key = file_key(name, FILES_IGNORE_CASE).into_owned();
        let turn = Arc::clone(lock(&self.own).turns.entry(key).or_default());
        turn.lock_owned().await
    }

    pub(super) fn daemon(&self, name: &str) -> Option<Arc<Daemon>> {
        lock(&self.own).daemons.get(name).cloned()
    }

    /// Returns all daemons in the order of their names.
    pub(super) fn daemons(&self) -> Vec<Arc<Daemon>> {
        lock(&self.own).daemons.values().cloned().collect()
    }

    /// Returns all daemons by name.
    pub(super) fn by_name(&self) -> BTreeMap<String, Arc<Daemon>> {
        lock(&self.own).daemons.clone()
    }

    pub(super) fn insert(&self, name: &str, daemon: &Arc<Daemon>) {
        lock(&self.own)
            .daemons
            .insert(name.to_owned(), Arc::clone(daemon));
    }

    pub(super) fn remove(&self, name: &str) {
        lock(&self.own).daemons.remove(name);
    }

    pub(super) fn clear(&self) {
        lock(&self.own).daemons.clear();
    }

    /// Returns the name of a daemon that `name` may be a misspelling of.
    pub(super) fn nearest(&self, name: &str) -> Option<String> {
        let own = lock(&self.own);
        let names = own.daemons.keys().map(String::as_str);
        dae_common_tcp::nearest(name, names).map(str::to_owned)
    }

    /// Returns the processes that this host's daemons run in. What listens there is no foreign daemon.
    pub(super) fn processes(&self) -> Vec<u32> {
        let daemons = self.daemons();
        let processes = daemons.iter().filter_map(|one| one.pid());
        // Most daemons run in this process.
        let different: BTreeSet<u32> = processes.collect();
        different.into_iter().collect()
    }
}
