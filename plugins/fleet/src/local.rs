//! The daemons of this host, as the other hosts see them.
//!
//! Others can call the daemons that this host runs, but for Dae and the fleet itself. Foreign daemons and those of other hosts
//! are not passed on, so no call goes round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_nats::Subscriber;
use dae_plugin_api::prelude::*;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::incoming::{self, Incoming};
use crate::{Shared, ended, lock, until_ending};

/// The name of the host's own daemon. Each host has one, so it is not announced.
const DAE: &str = "Dae";

/// The table of the daemons that others can call.
pub(crate) struct LocalDaemons {
    /// The name of the fleet itself.
    own: String,
    table: Mutex<Table>,
    /// Notified of each change.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Table {
    daemons: BTreeMap<String, Credential>,
    /// Counts the changes.
    version: u64,
}

impl LocalDaemons {
    pub(crate) fn new(own: String) -> Self {
        LocalDaemons {
            own,
            table: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Returns the name of the fleet itself.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.table).daemons.len()
    }

    pub(crate) fn version(&self) -> u64 {
        lock(&self.table).version
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        lock(&self.table).daemons.contains_key(name)
    }

    /// Returns the version of the table, the number of daemons, and at most `count` of them from the one of number `from`.
    pub(crate) fn page(&self, from: usize, count: usize) -> (u64, usize, Vec<Credential>) {
        let table = lock(&self.table);
        let page = table.daemons.values().skip(from).take(count).cloned();
        (table.version, table.daemons.len(), page.collect())
    }

    pub(crate) fn all(&self) -> Vec<Credential> {
        lock(&self.table).daemons.values().cloned().collect()
    }

    fn is_announced(&self, credential: &Credential) -> bool {
        !credential.foreign && credential.name != DAE && credential.name != self.own
    }

    /// Takes up the daemons that are there.
    pub(crate) fn put_all(&self, all: Vec<Credential>) {
        for credential in all.into_iter().filter(|one| self.is_announced(one)) {
            self.put(credential);
        }
    }

    /// Forgets the daemons that are not among `all`. Returns their names.
    fn retain(&self, all: &[Credential]) -> Vec<String> {
        let there: BTreeSet<&String> = all.iter().map(|one| &one.name).collect();
        let known = self.all().into_iter().map(|one| one.name);
        let gone: Vec<String> = known.filter(|name| !there.contains(name)).collect();
        for name in &gone {
            self.remove(name);
        }
        gone
    }

    /// Takes up a daemon. Returns whether it is a new one.
    fn put(&self, credential: Credential) -> bool {
        let mut table = lock(&self.table);
        let name = credential.name.clone();
        let before = table.daemons.insert(name, credential.clone());
        if before.as_ref() != Some(&credential) {
            table.version += 1;
            self.changed.notify_waiters();
        }
        before.is_none()
    }

    /// Forgets a daemon. Returns whether it was there.
    fn remove(&self, name: &str) -> bool {
        let mut table = lock(&self.table);
        let was_there = table.daemons.remove(name).is_some();
        if was_there {
            table.version += 1;
            self.changed.notify_waiters();
        }
        was_there
    }
}

/// The tasks that serve the calls of daemons, by daemon.
struct Servings {
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    tasks: BTreeMap<String, Serving>,
}

/// The task that serves the calls of a daemon. It ends when this is dropped, after the calls that are there already.
struct Serving {
    task: JoinHandle<()>,
    _over: oneshot::Sender<()>,
}

impl Servings {
    /// Begins to serve the calls of a daemon, on this subscription or on a new one.
    fn begin(&mut self, daemon: String, calls: Option<Subscriber>) {
        let (over, is_over) = oneshot::channel();
        let (shared, incoming) = (Arc::clone(&self.shared), Arc::clone(&self.incoming));
        let serving = incoming::serve_daemon(shared, incoming, (daemon.clone(), calls), is_over);
        let task = tokio::spawn(serving);
        self.tasks.insert(daemon, Serving { task, _over: over });
    }

    /// Takes up the change of a daemon.
    fn take(&mut self, change: Change) {
        let credential = change.credential;
        let local = &self.shared.local;
        if !local.is_announced(&credential) {
            return;
        }
        let name = credential.name.clone();
        if change.kind == ChangeKind::Gone {
            local.remove(&name);
            self.tasks.remove(&name);
        } else if local.put(credential) {
            self.begin(name, None);
        }
    }
}

/// Follows the daemons of this host, and serves the calls to each of them.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
    opened: BTreeMap<String, Subscriber>,
) -> Result<()> {
    let mut changes = shared.eco.watch()?;
    let mut servings = Servings {
        shared: Arc::clone(&shared),
        incoming,
        tasks: BTreeMap::new(),
    };
    for (name, calls) in opened {
        servings.begin(name, Some(calls));
    }
    for gone in shared.local.retain(&shared.eco.list().await?) {
        servings.tasks.remove(&gone);
    }
    while let Some(change) = until_ending(&shared, changes.next()).await {
        servings.take(change);
    }
    for serving in servings.tasks.into_values() {
        // It fails only if the task has.
        let _ = serving.task.await;
    }
    ended(&shared, "too many changes of daemons waited to be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(text: &str) -> Credential {
        json::from_str(text).unwrap()
    }

    #[test]
    fn only_what_this_host_runs_is_announced_and_each_change_counts() {
        let local = LocalDaemons::new("Fleet".to_owned());
        let own = credential(r#"{"name":"A","pid":1,"port":2}"#);
        assert!(local.is_announced(&own));
        for other in [
            r#"{"name":"Dae","pid":1,"port":2}"#,
            r#"{"name":"Fleet","pid":1,"port":2}"#,
            r#"{"name":"B","pid":1,"port":2,"foreign":true}"#,
        ] {
            assert!(!local.is_announced(&credential(other)), "{other}");
        }
        assert!(local.put(own.clone()));
        assert!(!local.put(own));
        assert_eq!(local.version(), 1, "nothing has changed the second time");
        assert!(local.remove("A") && !local.remove("A"));
        assert_eq!((local.version(), local.count()), (2, 0));
    }
}
