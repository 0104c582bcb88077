//! Restores the daemons of the registry when a host starts: first makes all of them known, then starts them, a few
//! at a time.
//!
//! There may be ten thousand daemons. So work that many of them share is done once: a file is read and checked once
//! for all daemons that use it, and newly chosen ports are written to the disk together. A start that waits for
//! something frees its place, so that a slow daemon doesn't delay others.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::Inner;
use super::order::{self, StartOrder};
use crate::supervise::{Daemon, DaemonSpec};
use dae_store::blocking;
use dae_store::daemon_state::DaemonState;
use dae_store::event::{CauseKind, DaeEventKind};
use dae_store::plugin_store::{Artefact, PluginStore};
use dae_store::registry::{Desired, Entry};
use dae_store::settings::Settings;
use dae_store::tasks;

/// The most starts at once. More would have no processor to run on, and would only take memory and threads.
const STARTS_MAX: usize = 8;
/// The time after which a start no longer delays the next one, because it is waiting for something.
const START_QUICK: Duration = Duration::from_millis(100);
/// The time for which ports are gathered before they are recorded. The registry is written as a whole, and ten
/// thousand daemons take seconds to get their ports.
const GATHER: Duration = Duration::from_millis(250);

/// A stored file, or the reason why there is none.
type StoredFile = Result<Arc<Artefact>, String>;

impl Inner {
    /// Creates a supervisor for each entry of the registry, and starts the daemons that are to run.
    pub(super) async fn bring_back(self: &Arc<Self>) {
        let entries = self.catalogue.read(|registry| registry.daemons.clone());
        let artefacts = find_all(&self.shared.code.store, &entries).await;
        let mut settings = SettingsOf::default();
        let mut to_start = Vec::new();
        for (name, entry) in entries {
            let known = found(&artefacts, &entry).and_then(|artefact| {
                let given = settings.of(self, &name, &entry.settings)?;
                Ok(self.bring_back_one(spec_of(&name, &entry, artefact, given)))
            });
            match known {
                Ok(daemon) if entry.desired == Desired::Running => {
                    daemon.announce_start();
                    to_start.push((entry.port.is_none(), name, daemon));
                }
                Ok(_) => {}
                Err(reason) => {
                    if !entry.is_built_in {
                        tracing::error!(daemon = name, reason, "it is not brought back");
                        let cause = reason.clone();
                        let cause_kind = CauseKind::StartFailed;
                        let failed = DaeEventKind::Failed { cause, cause_kind };
                        self.shared.events.send(&name, None, failed);
                    }
                    self.catalogue.note_lost(name, reason);
                }
            }
        }
        // Daemons with a recorded port come first, before free ports are given to the others.
        to_start.sort_by_key(|(has_none, ..)| *has_none);
        let to_start = to_start.into_iter().map(|(_, name, daemon)| (name, daemon));
        // Starts them only after all are known and announced, because some wait for others. Already started daemons
        // stay as they are if this task is repeated.
        let (inner, to_start) = (Arc::clone(self), to_start.collect::<Vec<_>>());
        let make = move || Arc::clone(&inner).start_all(to_start.clone());
        tasks::keep_alive(&Handle::current(), "the start of the daemons", make);
        self.tidy().await;
    }

    fn bring_back_one(&self, spec: DaemonSpec) -> Arc<Daemon> {
        let name = spec.name.clone();
        let daemon = Arc::new(Daemon::supervise(spec, Arc::clone(&self.shared)));
        self.running.insert(&name, &daemon);
        daemon
    }

    /// Starts the daemons. Those that wait for others don't delay the rest.
    async fn start_all(self: Arc<Self>, to_start: Vec<(String, Arc<Daemon>)>) {
        let after = to_start.iter();
        let after = after.map(|(name, daemon)| (name.clone(), daemon.starts_after().0));
        let mut order = order::of(after.collect());
        self.tell_circles(&order);
        let limit = Arc::new(Semaphore::new(STARTS_MAX));
        for (name, daemon) in to_start {
            let (inner, limit) = (Arc::clone(&self), Arc::clone(&limit));
            let after = order.waits.remove(&name).unwrap_or_default();
            if after.is_empty() {
                let place = limit.acquire_owned().await.ok();
                let start = async move { inner.start_again(&name, &daemon, place).await };
                tokio::spawn(tasks::logged("the start of a daemon", start));
                continue;
            }
            let start = async move {
                inner
                    .wait_for_others(&name, after, daemon.starts_after().1)
                    .await;
                let place = limit.acquire_owned().await.ok();
                inner.start_again(&name, &daemon, place).await;
            };
            tokio::spawn(tasks::logged("the start of a daemon", start));
        }
    }

    fn tell_circles(&self, order: &StartOrder) {
        for (name, members) in &order.circles {
            let text = format!(
                "its start order is a circle of {}; they start in the order of their names",
                members.join(", ")
            );
            self.note_start(name, &text);
        }
    }

    /// Logs a note on how a daemon is started, and keeps it for `status`.
    fn note_start(&self, name: &str, text: &str) {
        self.shared.tell(name, None, "warn", text);
        self.catalogue.note_start(name, text);
    }

    async fn start_again(
        self: &Arc<Self>,
        name: &str,
        daemon: &Daemon,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let begin = Arc::default();
        let mut starting = std::pin::pin!(daemon.make_ready(&begin));
        let begun = {
            // A stop or a replacement since then takes precedence. Only the order is sent within the turn: waiting
            // for its result could delay other changes for too long.
            let _turn = self.running.turn(name).await;
            if !self.is_to_run(name, daemon) {
                return;
            }
            poll_fn(|context| Poll::Ready(starting.as_mut().poll(context))).await
        };
        // The supervisor has logged a failure.
        if begun.is_pending() && timeout(START_QUICK, &mut starting).await.is_err() {
            drop(place);
            let _ = starting.await;
        }
        if let Some(port) = daemon.port() {
            self.note_port(name, port);
        }
    }

    /// Returns whether `daemon` is still the daemon of that name and is still to run.
    fn is_to_run(&self, name: &str, daemon: &Daemon) -> bool {
        let is_wanted = self.catalogue.read(|registry| {
            let entry = registry.daemons.get(name);
            entry.is_some_and(|entry| entry.desired == Desired::Running)
        });
        let is_it = |now: Arc<Daemon>| std::ptr::eq(&*now, daemon);
        is_wanted && self.daemon(name).is_some_and(is_it)
    }

    /// Waits until the daemons that it starts after answer, won't answer by themselves, or have taken longer than
    /// `limit`.
    async fn wait_for_others(&self, name: &str, after: Vec<String>, limit: Duration) {
        let until = Instant::now() + limit;
        for other in after {
            let Some(before) = self.daemon(&other) else {
                let reason = self.catalogue.why_lost(&other);
                let text = match reason {
                    Some(reason) => format!(
                        "{other}, which it starts after, could not be brought back: {reason}"
                    ),
                    None => format!("there is no daemon {other} to start after"),
                };
                self.note_start(name, &text);
                continue;
            };
            let is_late = timeout_at(until, before.up_or_down()).await.is_err();
            let state = before.glance().state;
            if matches!(state, DaemonState::Ready | DaemonState::Asleep { .. }) {
                continue;
            }
            let state = state.word();
            let waited = match is_late {
                true => format!(" after {limit:?} (`after_ms`)"),
                false => String::new(),
            };
            let text = format!(
                "{other}, which it starts after, is {state}{waited}; it starts all the same"
            );
            self.note_start(name, &text);
        }
    }

    /// Notes a port to record, together with others that come within [`GATHER`].
    fn note_port(self: &Arc<Self>, name: &str, port: u16) {
        if self.catalogue.note_port(name, port) {
            let inner = Arc::downgrade(self);
            let make = move || record_gathered(Weak::clone(&inner));
            tasks::keep_alive(&Handle::current(), "the record of ports", make);
        }
    }

    /// Records the new ports that were gathered so far.
    pub(super) async fn record_new_ports(&self) {
        // If a daemon has got another port in the meantime, for example by an install, that change has recorded it.
        let is_still = |name: &str, port: u16| {
            let daemon = self.daemon(name);
            daemon.is_some_and(|daemon| daemon.port().is_none_or(|now| now == port))
        };
        self.catalogue.record_ports(is_still).await;
    }
}

async fn record_gathered(inner: Weak<Inner>) {
    tokio::time::sleep(GATHER).await;
    // If the host has ended in the meantime, it has recorded them.
    if let Some(inner) = inner.upgrade() {
        inner.record_new_ports().await;
    }
}

/// Returns the file of an entry, or the reason why there is none. The program installs its built-in daemons itself, a
/// moment later.
fn found(artefacts: &HashMap<String, StoredFile>, entry: &Entry) -> StoredFile {
    if !entry.is_built_in {
        let found = artefacts.get(&entry.hash).cloned();
        return found.unwrap_or_else(|| Err("reading its file crashed".to_owned()));
    }
    Err(format!(
        "its code ({} {}) is built into a program, and this program has not installed it; start the program that calls \
         `Dae::install_builtin` for it, or uninstall it, which keeps its state for a week",
        entry.plugin, entry.version
    ))
}

/// Reads and checks the file of each hash once, on as many threads as there are processors.
async fn find_all(
    store: &Arc<PluginStore>,
    entries: &BTreeMap<String, Entry>,
) -> HashMap<String, StoredFile> {
    let stored = entries.values().filter(|entry| !entry.is_built_in);
    let mut hashes: Vec<String> = stored.map(|entry| entry.hash.clone()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let (store, to_find) = (Arc::clone(store), hashes.clone());
    let find = move |number: usize| {
        let found = store.find(&to_find[number]);
        found.map(Arc::new).map_err(|error| format!("{error:#}"))
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let count = hashes.len();
    let finding = move || blocking::side_by_side(count, processors, find);
    // If the host is ending, no file is found, and nothing of them runs any more.
    let found = blocking::run_or_here(finding).await.unwrap_or_default();
    let known = hashes.into_iter().zip(found);
    known
        .filter_map(|(hash, found)| Some((hash, found?)))
        .collect()
}

/// A cache of the settings that were merged last, because most daemons are given the same.
#[derive(Default)]
struct SettingsOf(Option<(Value, Arc<Settings>)>);

impl SettingsOf {
    fn of(&mut self, inner: &Inner, name: &str, given: &Value) -> Result<Arc<Settings>, String> {
        let config = &inner.shared.config();
        let has_own = config.daemons.contains_key(name);
        if let Some((_, settings)) = self
            .0
            .as_ref()
            .filter(|(last, _)| !has_own && last == given)
        {
            return Ok(Arc::clone(settings));
        }
        let settings = Arc::new(config.settings(name, given)?);
        if !has_own {
            self.0 = Some((given.clone(), Arc::clone(&settings)));
        }
        Ok(settings)
    }
}

/// Returns the file and settings that a daemon runs by its entry.
pub(super) fn spec_of(
    name: &str,
    entry: &Entry,
    artefact: Arc<Artefact>,
    settings: Arc<Settings>,
) -> DaemonSpec {
    DaemonSpec {
        settings,
        name: name.to_owned(),
        artefact,
        config: entry.config.clone(),
        port: entry.port,
        is_port_pinned: entry.port_pinned,
        mode: entry.mode,
    }
}
