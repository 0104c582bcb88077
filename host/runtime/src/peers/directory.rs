//! The name directory: the daemons of this host by their gates, foreign ones by their addresses, and those of other
//! hosts by the bridges that provide them ([`provided`]).
//!
//! All lookups by name use this one table, so that a name means the same to a daemon, to a person and to Dae. A foreign
//! name never hides an installed one, and one of another host hides neither. Code that waits for a name or watches all
//! of them is notified of each change.

pub mod provided;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;

use crate::connection::event_queue::EventQueue;
use crate::connection::topics::Topics;
use crate::peers::call_graph::CallGraph;
use crate::session::gate::Gate;
use dae_store::lock::lock;
use dae_store::registry::DAE_NAME;
use dae_store::report::Credential;
use provided::{ProvidedDaemon, ProvidedDaemons, ProvidedName};

/// A daemon that this host did not load.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignAddress {
    /// The credential that it reports, under the name that it has here.
    pub credential: Credential,
    /// The address that it listens on.
    pub address: SocketAddr,
}

/// The address of a daemon.
#[derive(Debug, Clone)]
pub enum Address {
    /// In this host.
    Here(Arc<Gate>),
    /// On this machine.
    There(ForeignAddress),
    /// On another host.
    Elsewhere(RemoteAddress),
    /// On several other hosts, under these names.
    Several(Vec<String>),
}

/// The address of a daemon of another host.
#[derive(Debug, Clone)]
pub struct RemoteAddress {
    /// The name by which its bridge knows it: with its host, or without if the bridge chooses the host.
    pub name: String,
    /// The gate of the bridge.
    pub bridge: Arc<Gate>,
}

/// The name directory.
#[derive(Debug)]
pub struct Directory {
    /// Topics for events among all daemons.
    pub topics: Topics,
    /// The counts of the calls between daemons.
    pub call_graph: CallGraph,
    own: Mutex<BTreeMap<String, LocalDaemon>>,
    foreign: Mutex<BTreeMap<String, ForeignAddress>>,
    provided: Mutex<ProvidedDaemons>,
    changed: watch::Sender<()>,
    watched: Mutex<LastAnnounced>,
}

/// A source of a daemon's credential.
pub trait CredentialSource: std::fmt::Debug + Send + Sync {
    /// Returns the credential of its instance; `None` while there is none.
    fn credential(&self) -> Option<Credential>;
}

/// A daemon of this host.
#[derive(Debug, Clone)]
struct LocalDaemon {
    gate: Arc<Gate>,
    who: Arc<dyn CredentialSource>,
}

/// The credentials that the watchers have been sent last, and their event queues.
#[derive(Debug, Default)]
struct LastAnnounced {
    event_queues: Vec<Weak<EventQueue>>,
    known: BTreeMap<String, Credential>,
}

impl Default for Directory {
    fn default() -> Self {
        Directory {
            topics: Topics::default(),
            call_graph: CallGraph::default(),
            own: Mutex::default(),
            foreign: Mutex::default(),
            provided: Mutex::default(),
            changed: watch::Sender::new(()),
            watched: Mutex::default(),
        }
    }
}

impl Directory {
    /// Adds a daemon of this host when it is installed.
    pub fn enter(&self, gate: &Arc<Gate>, who: Arc<dyn CredentialSource>) {
        let own = LocalDaemon {
            gate: Arc::clone(gate),
            who,
        };
        lock(&self.own).insert(gate.name.clone(), own);
        self.tell(&gate.name);
    }

    /// Removes a daemon that is uninstalled.
    pub fn leave(&self, gate: &Arc<Gate>) {
        let mut own = lock(&self.own);
        // A daemon of the same name that was installed meanwhile stays.
        if own
            .get(&gate.name)
            .is_some_and(|own| Arc::ptr_eq(&own.gate, gate))
        {
            own.remove(&gate.name);
            self.call_graph.forget(&gate.name);
        }
        drop(own);
        self.withdraw_all(gate);
        self.tell(&gate.name);
    }

    /// Adds a daemon of another host, or changes it. `credential` has the name without the host. Returns the full name.
    ///
    /// # Errors
    /// The credential breaks a rule, there are too many daemons, or another bridge provides one of that name.
    pub fn provide(&self, credential: Credential, bridge: &Arc<Gate>) -> Result<String, String> {
        let full = lock(&self.provided).put(credential, bridge)?;
        self.tell(&full);
        Ok(full)
    }

    /// Removes the daemon of that full name, if this bridge provides it. Returns whether it did.
    pub fn withdraw(&self, full: &str, bridge: &Arc<Gate>) -> bool {
        let is_removed = lock(&self.provided).remove(full, bridge);
        if is_removed {
            self.tell(full);
        }
        is_removed
    }

    /// Removes all daemons that a bridge provides.
    pub fn withdraw_all(&self, bridge: &Arc<Gate>) {
        let removed = lock(&self.provided).remove_all(bridge);
        if !removed.is_empty() {
            self.tell_all(&removed);
        }
    }

    /// Returns the daemons of other hosts.
    #[must_use]
    pub fn provided(&self) -> Vec<ProvidedDaemon> {
        lock(&self.provided).all().cloned().collect()
    }

    /// Returns the daemon of another host that a name stands for.
    #[must_use]
    pub fn provided_by_name(&self, name: &str) -> Option<ProvidedDaemon> {
        match lock(&self.provided).find(name)? {
            ProvidedName::One(one) | ProvidedName::Any(one) => Some(one),
            ProvidedName::Several(_) => None,
        }
    }

    /// Replaces the list of foreign daemons.
    pub fn set_foreign(&self, all: impl IntoIterator<Item = ForeignAddress>) {
        let all = all
            .into_iter()
            .map(|foreign| (foreign.credential.name.clone(), foreign));
        let all: BTreeMap<String, ForeignAddress> = all.collect();
        let mut foreign = lock(&self.foreign);
        let names = all.keys().chain(foreign.keys());
        let is_different = |name: &&String| all.get(*name) != foreign.get(*name);
        let different: BTreeSet<String> = names.filter(is_different).cloned().collect();
        *foreign = all;
        drop(foreign);
        self.tell_all(&different);
    }

    /// Returns the address of the daemon of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Address> {
        if let Some(gate) = self.gate(name) {
            return Some(Address::Here(gate));
        }
        if let Some(foreign) = lock(&self.foreign).get(name) {
            return Some(Address::There(foreign.clone()));
        }
        let (name, daemon) = match lock(&self.provided).find(name)? {
            ProvidedName::One(daemon) => (daemon.credential.name.clone(), daemon),
            ProvidedName::Any(daemon) => (name.to_owned(), daemon),
            ProvidedName::Several(names) => return Some(Address::Several(names)),
        };
        let bridge = daemon.bridge;
        Some(Address::Elsewhere(RemoteAddress { name, bridge }))
    }

    /// Returns the gate of a daemon of this host.
    #[must_use]
    pub fn gate(&self, name: &str) -> Option<Arc<Gate>> {
        lock(&self.own).get(name).map(|own| Arc::clone(&own.gate))
    }

    /// Returns the credential of the daemon of that name.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<Credential> {
        let own = lock(&self.own).get(name).cloned();
        match own {
            Some(own) => own.who.credential(),
            None => {
                let foreign = lock(&self.foreign).get(name).cloned();
                let foreign = foreign.map(|foreign| foreign.credential);
                foreign.or_else(|| self.provided_by_name(name).map(|one| one.credential))
            }
        }
    }

    /// Returns the credentials of all running daemons: Dae first, then the other daemons of this host, then foreign
    /// ones, then those of other hosts.
    #[must_use]
    pub fn list(&self) -> Vec<Credential> {
        let own: Vec<LocalDaemon> = lock(&self.own).values().cloned().collect();
        let mut all: Vec<_> = own.iter().filter_map(|own| own.who.credential()).collect();
        // The map is sorted by name; only Dae comes first.
        if let Some(at) = all.iter().position(|own| own.name == DAE_NAME) {
            let dae = all.remove(at);
            all.insert(0, dae);
        }
        let own: HashSet<&str> = own.iter().map(|own| own.gate.name.as_str()).collect();
        let foreign = lock(&self.foreign);
        let seen = foreign.values().map(|foreign| &foreign.credential);
        all.extend(seen.filter(|one| !own.contains(one.name.as_str())).cloned());
        let remote = self.provided().into_iter().map(|one| one.credential);
        let is_new = |name: &str| !own.contains(name) && !foreign.contains_key(name);
        all.extend(remote.filter(|one| is_new(&one.name)));
        all
    }

    /// Returns a receiver that is notified of every later change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Sends every change to that event queue: `appeared`, `changed` and `gone`, each with the credential. It begins
    /// with `appeared` for all daemons that are there.
    pub fn watch(&self, event_queue: &Arc<EventQueue>) {
        let mut watched = lock(&self.watched);
        let present = self.list().into_iter().map(|one| one.name);
        let names: BTreeSet<String> = present.chain(watched.known.keys().cloned()).collect();
        self.tell_watchers(&mut watched, &names);
        for credential in watched.known.values() {
            event_queue.push(&line("appeared", credential));
        }
        // Removed here too: without changes nothing else removes queues that have gone.
        watched
            .event_queues
            .retain(|event_queue| event_queue.strong_count() > 0);
        watched.event_queues.push(Arc::downgrade(event_queue));
    }

    /// Notifies waiters and watchers that the daemon of that name may have changed. The cost doesn't depend on the
    /// number of daemons, since at a start each of them changes.
    pub fn tell(&self, name: &str) {
        self.tell_all(&BTreeSet::from([name.to_owned()]));
    }

    fn tell_all(&self, names: &BTreeSet<String>) {
        self.changed.send_replace(());
        let mut watched = lock(&self.watched);
        if !watched.event_queues.is_empty() {
            self.tell_watchers(&mut watched, names);
        }
    }

    /// Compares daemons with what watchers were sent last, and sends the differences.
    fn tell_watchers(&self, watched: &mut LastAnnounced, names: &BTreeSet<String>) {
        let mut lines = Vec::new();
        for name in names {
            let now = self.credential(name).map(timeless);
            let before = watched.known.get(name);
            match (before, now) {
                (Some(before), Some(now)) if *before == now => {}
                (before, Some(now)) => {
                    let what = before.map_or("appeared", |_| "changed");
                    lines.push(line(what, &now));
                    watched.known.insert(name.clone(), now);
                }
                (Some(before), None) => {
                    lines.push(line("gone", before));
                    watched.known.remove(name);
                }
                (None, None) => {}
            }
        }
        if lines.is_empty() {
            return;
        }
        watched.event_queues.retain(|event_queue| {
            event_queue
                .upgrade()
                .is_some_and(|event_queue| lines.iter().all(|line| event_queue.push(line)))
        });
    }
}

/// Removes the uptime, whose growth is no change.
fn timeless(credential: Credential) -> Credential {
    Credential {
        uptime_ms: None,
        ..credential
    }
}

fn line(what: &str, credential: &Credential) -> Vec<u8> {
    let json = serde_json::to_string(credential).unwrap_or_default();
    format!("{what} [{json}]").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use dae_store::config::Config;

    fn foreign(name: &str, port: u16) -> ForeignAddress {
        ForeignAddress {
            credential: Credential {
                name: name.to_owned(),
                pid: 1,
                port,
                foreign: true,
                ..Credential::default()
            },
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    #[derive(Debug)]
    struct Nobody;

    impl CredentialSource for Nobody {
        fn credential(&self) -> Option<Credential> {
            None
        }
    }

    #[test]
    fn an_installed_name_is_never_shadowed() {
        let directory = Directory::default();
        directory.set_foreign([foreign("Counter", 40_000), foreign("Clock", 40_001)]);
        let gate = Gate::new("Counter", Config::default().limits());
        directory.enter(&gate, Arc::new(Nobody));
        assert!(matches!(directory.find("Counter"), Some(Address::Here(_))));
        assert!(matches!(directory.find("Clock"), Some(Address::There(_))));
        let names: Vec<_> = directory.list().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["Clock"], "nobody answers for the installed one yet");
        directory.leave(&gate);
        assert!(matches!(directory.find("Counter"), Some(Address::There(_))));
    }

    #[test]
    fn who_watches_is_told_of_those_who_come_change_and_go() {
        let directory = Directory::default();
        directory.set_foreign([foreign("A", 1)]);
        let event_queue = Arc::new(EventQueue::default());
        directory.watch(&event_queue);
        directory.set_foreign([foreign("A", 2), foreign("B", 3)]);
        directory.set_foreign([foreign("B", 3)]);
        let mut lines = Vec::new();
        event_queue.take_into(&mut lines);
        let lines = String::from_utf8(lines).unwrap();
        let changes: Vec<_> = lines
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(
            changes,
            ["appeared", "changed", "appeared", "gone"],
            "{lines}"
        );
    }

    /// A credential source that counts its calls.
    #[derive(Debug)]
    struct CountingSource(Arc<AtomicUsize>, Credential);

    impl CredentialSource for CountingSource {
        fn credential(&self) -> Option<Credential> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Some(self.1.clone())
        }
    }

    #[test]
    fn one_who_watches_makes_a_start_no_more_than_linear() {
        const DAEMONS: usize = 1000;
        let (directory, asked) = (Directory::default(), Arc::default());
        let event_queue = Arc::new(EventQueue::default());
        directory.watch(&event_queue);
        let gate = |name: &str| Gate::new(name, Config::default().limits());
        for n in 0..DAEMONS {
            let name = format!("D{n}");
            let who = CountingSource(Arc::clone(&asked), foreign(&name, 1).credential);
            directory.enter(&gate(&name), Arc::new(who));
        }
        let times = asked.load(Ordering::Relaxed);
        assert!(times <= 2 * DAEMONS, "asked {times} times");
        let mut lines = Vec::new();
        event_queue.take_into(&mut lines);
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.lines().count(), DAEMONS);
        directory.watch(&Arc::default());
        assert_eq!(asked.load(Ordering::Relaxed), times + 2 * DAEMONS);
    }
}
