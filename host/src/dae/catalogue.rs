//! The catalogue: the registry and everything that the host knows about a daemon by name, whether or not it runs.
//!
//! All of it is plain data behind one lock, which is held for a few instructions and never while the disk is
//! written. Changes of the registry are written one after another, each as a whole, on a thread that may block: the
//! writer serialises a copy, and the copy replaces the registry once it is on the disk. So a reader never waits for
//! the disk, and never sees an entry that a restart of the host would not bring back. Newly chosen ports are the
//! exception: they show before they are recorded, since the daemons listen there already.
//!
//! Absent here: which daemons run (`running`), and the stored files (`staging`).

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::carry::ChangeKind;
use super::lock;
use dae_store::atomic_file;
use dae_store::blocking;
use dae_store::home::HomeLock;
use dae_store::registry::{Entry, Registry};
use dae_store::report::Refusal;

/// The catalogue of an ecosystem.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// The registry's file.
    file: PathBuf,
    records: Mutex<Records>,
    /// Held by the change whose registry is being written, from the copy on. So no change is lost to another.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Keeps the home locked while a change is written, even if the ecosystem is dropped meanwhile.
    _held: Arc<HomeLock>,
}

#[derive(Debug, Default)]
struct Records {
    registry: Registry,
    /// The number of changes of the registry, new ports aside.
    changes: u64,
    /// Ports that were chosen and are not recorded yet.
    new_ports: BTreeMap<String, u16>,
    /// Daemons of the registry that could not be restored, and why. They stay in the registry until they are
    /// installed again or uninstalled.
    lost: BTreeMap<String, String>,
    /// Notes on how a daemon was started: a circle in the start order, or other daemons that weren't ready.
    start_notes: BTreeMap<String, String>,
    /// The last refused change of each daemon, until one is accepted.
    refusals: BTreeMap<String, (ChangeKind, Refusal)>,
    /// Drop-ins whose file has gone, and the time at which they are uninstalled, counted from the host's start.
    absent: BTreeMap<String, Duration>,
}

/// The catalogue's records of one daemon.
#[derive(Debug, Default)]
pub(super) struct DaemonRecord {
    pub(super) entry: Option<Entry>,
    pub(super) start_note: String,
    /// The last refused change, unless one was accepted since.
    pub(super) last_refusal: Option<(ChangeKind, Refusal)>,
    /// The time at which it is uninstalled, if its drop-in file has gone.
    pub(super) absent_until: Option<Duration>,
}

impl Catalogue {
    /// Creates the catalogue of a registry that was read from `file`.
    pub(super) fn of(registry: Registry, file: PathBuf, held: Arc<HomeLock>) -> Arc<Self> {
        Arc::new(Catalogue {
            file,
            records: Mutex::new(Records {
                registry,
                ..Records::default()
            }),
            writing: Arc::default(),
            _held: held,
        })
    }

    /// Reads the registry. `look` must be short and take no lock.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&lock(&self.records).registry)
    }

    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.read(|registry| registry.daemons.get(name).cloned())
    }

    /// Returns the names of all installed daemons.
    pub(super) fn names<C: FromIterator<String>>(&self) -> C {
        self.read(|registry| registry.daemons.keys().cloned().collect())
    }

    /// Returns the hashes of the stored files that installed daemons need.
    pub(super) fn hashes(&self) -> HashSet<String> {
        self.read(Registry::hashes)
    }

    /// Returns the number of changes of the registry, and what `look` makes of it, unless there was no change since
    /// the number `seen`.
    pub(super) fn read_changed<T>(
        &self,
        seen: Option<u64>,
        look: impl FnOnce(&Registry) -> T,
    ) -> Option<(u64, T)> {
        let records = lock(&self.records);
        let is_new = seen != Some(records.changes);
        is_new.then(|| (records.changes, look(&records.registry)))
    }

    /// Changes the registry both on the disk and in memory, or in neither. It is on the disk before this returns.
    /// Returns whether other names are installed than before.
    ///
    /// # Errors
    /// A disk error, or the host is ending.
    pub(super) async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Registry) + Send,
    ) -> anyhow::Result<bool> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let mut changed = self.read(Registry::clone);
        change(&mut changed);
        let catalogue = Arc::clone(self);
        let written = blocking::run_or_here(move || {
            let _turn = turn;
            changed.save(&catalogue.file)?;
            let mut records = lock(&catalogue.records);
            let names = records.registry.daemons.keys();
            let has_same_names = names.eq(changed.daemons.keys());
            records.changes += 1;
            let before = std::mem::replace(&mut records.registry, changed);
            drop(records);
            drop(before);
            Ok(!has_same_names)
        });
        written.await.map_err(anyhow::Error::msg)?
    }

    /// Notes a port to record. Returns true if it is the first one since the last record of ports.
    pub(super) fn note_port(&self, name: &str, port: u16) -> bool {
        let mut records = lock(&self.records);
        let entry = records.registry.daemons.get(name);
        if entry.is_none_or(|entry| entry.port == Some(port)) {
            return false;
        }
        let is_first = records.new_ports.is_empty();
        records.new_ports.insert(name.to_owned(), port);
        is_first
    }

    /// Records the new ports that were gathered so far and for which `is_still` holds. If the disk refuses them, this
    /// is logged, and they are kept for the next try: with the next new port, or at the host's end.
    pub(super) async fn record_ports(
        self: &Arc<Self>,
        is_still: impl Fn(&str, u16) -> bool + Send,
    ) {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let mut ports = std::mem::take(&mut lock(&self.records).new_ports);
        ports.retain(|name, port| is_still(name, *port));
        if ports.is_empty() {
            return;
        }
        let catalogue = Arc::clone(self);
        let recorded = blocking::run_or_here(move || {
            let _turn = turn;
            catalogue.write_ports(ports);
        });
        if let Err(why) = recorded.await {
            tracing::error!("new ports could not be recorded: {why}");
        }
    }

    /// Writes the registry with these ports. The caller holds the turn to write.
    fn write_ports(&self, ports: BTreeMap<String, u16>) {
        let ports = ports.into_iter().map(|(name, port)| (name, Some(port)));
        let ports: Vec<_> = ports.collect();
        // Change the registry in place, and undo it if needed: copying ten thousand entries each time fragments the
        // memory.
        let mut records = lock(&self.records);
        let before = exchange_ports(&mut records.registry, &ports);
        let text = records.registry.text();
        drop(records);
        let written = text.and_then(|text| Ok(atomic_file::write(&self.file, &text)?));
        let Err(error) = written else { return };
        let error = format!("{error:#}");
        tracing::error!(
            daemons = ports.len(),
            error,
            "their new ports could not be recorded; that is tried again when the host ends"
        );
        let mut records = lock(&self.records);
        exchange_ports(&mut records.registry, &before);
        for (name, port) in ports {
            // A port that was noted since is newer.
            if let Some(port) = port {
                records.new_ports.entry(name).or_insert(port);
            }
        }
    }

    /// Returns the daemons that could not be restored, and why.
    pub(super) fn all_lost(&self) -> BTreeMap<String, String> {
        lock(&self.records).lost.clone()
    }

    /// Returns why a daemon could not be restored, if so.
    pub(super) fn why_lost(&self, name: &str) -> Option<String> {
        lock(&self.records).lost.get(name).cloned()
    }

    pub(super) fn note_lost(&self, name: String, reason: String) {
        lock(&self.records).lost.insert(name, reason);
    }

    /// Notes that a daemon that may have been lost is there.
    pub(super) fn note_found(&self, name: &str) {
        lock(&self.records).lost.remove(name);
    }

    pub(super) fn note_refusal(&self, name: &str, refusal: (ChangeKind, Refusal)) {
        lock(&self.records)
            .refusals
            .insert(name.to_owned(), refusal);
    }

    pub(super) fn note_accepted(&self, name: &str) {
        lock(&self.records).refusals.remove(name);
    }

    /// Adds a note on how a daemon is started.
    pub(super) fn note_start(&self, name: &str, text: &str) {
        let mut records = lock(&self.records);
        let note = records.start_notes.entry(name.to_owned()).or_default();
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(text);
    }

    /// Replaces the drop-ins whose file has gone.
    pub(super) fn note_absent(&self, ends: BTreeMap<String, Duration>) {
        lock(&self.records).absent = ends;
    }

    /// Removes what was noted of a daemon that is uninstalled.
    pub(super) fn forget(&self, name: &str) {
        let mut records = lock(&self.records);
        records.lost.remove(name);
        records.refusals.remove(name);
    }

    /// Returns the records of one daemon.
    pub(super) fn record_of(&self, name: &str) -> DaemonRecord {
        let records = lock(&self.records);
        DaemonRecord {
            entry: records.registry.daemons.get(name).cloned(),
            start_note: records.start_notes.get(name).cloned().unwrap_or_default(),
            last_refusal: records.refusals.get(name).cloned(),
            absent_until: records.absent.get(name).copied(),
        }
    }
}

/// Sets these daemons' ports. Returns the previous ones.
fn exchange_ports(
    registry: &mut Registry,
    ports: &[(String, Option<u16>)],
) -> Vec<(String, Option<u16>)> {
    let mut before = Vec::new();
    for (name, port) in ports {
        if let Some(entry) = registry.daemons.get_mut(name) {
            before.push((name.clone(), std::mem::replace(&mut entry.port, *port)));
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::home::Home;

    /// Returns the catalogue of an empty home in `dir`, which has one daemon named `A`.
    async fn catalogue(dir: &std::path::Path) -> (Home, Arc<Catalogue>) {
        let home = Home::at(dir);
        home.create().unwrap();
        let held = Arc::new(home.lock().unwrap());
        let catalogue = Catalogue::of(Registry::default(), home.registry_file(), held);
        assert!(add(&catalogue, "A").await.unwrap(), "it has another name");
        (home, catalogue)
    }

    async fn add(catalogue: &Arc<Catalogue>, name: &str) -> anyhow::Result<bool> {
        let hash = "ab".repeat(32);
        let text = format!(r#"{{"plugin": "Sample", "version": "1", "hash": "{hash}"}}"#);
        let entry: Entry = serde_json::from_str(&text)?;
        let change = |registry: &mut Registry| {
            registry.daemons.insert(name.to_owned(), entry);
        };
        catalogue.change(change).await
    }

    #[tokio::test]
    async fn changes_at_the_same_time_are_all_kept_and_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (home, catalogue) = catalogue(dir.path()).await;
        let names: Vec<String> = (0..20).map(|number| format!("D{number}")).collect();
        let adding = names.iter().map(|name| add(&catalogue, name));
        for added in futures_util::future::join_all(adding).await {
            assert!(added.unwrap());
        }
        let stored = Registry::load(&home.registry_file()).unwrap();
        assert_eq!(stored.daemons.len(), names.len() + 1);
        catalogue.read(|registry| assert_eq!(*registry, stored));
        let (changes, ()) = catalogue.read_changed(None, |_| ()).unwrap();
        assert_eq!(changes, 21);
        assert!(catalogue.read_changed(Some(changes), |_| ()).is_none());
        assert!(!add(&catalogue, "A").await.unwrap(), "the same names");
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_not_changed_and_new_ports_are_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (home, catalogue) = catalogue(dir.path()).await;
        // A directory in the file's place makes every write fail.
        std::fs::remove_file(home.registry_file()).unwrap();
        std::fs::create_dir_all(home.registry_file().join("full")).unwrap();
        add(&catalogue, "B").await.unwrap_err();
        assert!(catalogue.entry("B").is_none());
        assert!(catalogue.note_port("A", 4000), "it is the first one");
        assert!(!catalogue.note_port("B", 4001), "nobody has that name");
        catalogue.record_ports(|_, _| true).await;
        assert_eq!(catalogue.entry("A").unwrap().port, None);
        std::fs::remove_dir_all(home.registry_file()).unwrap();
        catalogue.record_ports(|_, _| true).await;
        let stored = Registry::load(&home.registry_file()).unwrap();
        assert_eq!(stored.daemons["A"].port, Some(4000));
        assert!(!catalogue.note_port("A", 4000), "it is recorded");
    }
}
