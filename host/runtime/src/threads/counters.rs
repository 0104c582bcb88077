//! A daemon's counters: calls, errors and latencies of each command as its guests see them, counted without a lock on a
//! command's path.
//!
//! A guest sums up a whole batch of commands ([`batch`]) and adds the sums once, to one of a few shards ([`shard`]) chosen
//! by its thread, so that two cores seldom write to the same cache line. The daemon's own numbers are the sums over its
//! commands. They are kept by the names of the commands, since a reload may change their order.

mod batch;
mod remote;
mod shard;
mod snapshot;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value, json};

use dae_store::lock::lock;
use dae_store::manifest::Manifest;

pub use batch::{BatchCounts, BatchTally, NO_COMMAND};
use remote::RemoteCounts;
pub(crate) use remote::{COMMANDS, CounterSource, SharedCounts};
pub(crate) use shard::Shard;
use shard::ShardCounts;
pub use snapshot::{CounterSnapshot, LatencyHistogram};

/// The number of cores that can answer at the same time without sharing a cache line. More shards would cost memory.
const SHARDS: usize = 4;
/// The most commands of one daemon that are counted one by one, over all its reloads. Further ones count as none of them.
const COMMANDS_MAX: usize = 1024;

/// One daemon's counts since the host started.
#[derive(Debug, Default)]
pub struct Counters {
    counted: Arc<CountedCommands>,
    /// The counts of its subprocesses, which count for themselves.
    elsewhere: Mutex<Vec<RemoteCounts>>,
}

/// The counters of a daemon's commands, each from the first call on.
#[derive(Debug, Default)]
struct CountedCommands {
    by_name: Mutex<Vec<Arc<CommandCounters>>>,
    /// The counts of everything that is no command of the daemon.
    other: CommandCounters,
}

/// The counts of one command.
#[derive(Debug, Default)]
struct CommandCounters {
    name: Box<str>,
    // Allocated when they are needed, since most commands of ten thousand daemons are never called.
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

/// The counters of the commands of one instance, by their index.
#[derive(Debug)]
pub struct CommandSlots {
    counted: Arc<CountedCommands>,
    manifest: Arc<Manifest>,
    /// The counters of each command, from its first call on; `None` if there are too many.
    slots: Box<[OnceLock<Option<Arc<CommandCounters>>>]>,
}

impl CommandSlots {
    /// Adds a batch whose commands each waited `latency`.
    #[inline]
    pub fn add(&self, tally: &BatchTally, latency: Duration) {
        let ((command, counts), others) = tally.parts();
        if counts.calls > 0 {
            self.of(command).add(counts, latency);
        }
        if !others.is_empty() {
            self.add_each(others, latency);
        }
    }

    #[inline(never)]
    fn add_each(&self, all: &[(u32, BatchCounts)], latency: Duration) {
        all.iter()
            .for_each(|(command, counts)| self.of(*command).add(*counts, latency));
    }

    /// Adds numbers of a command.
    fn add_numbers(&self, command: u32, numbers: &ShardCounts) {
        self.of(command).own_shard().add_all(numbers);
    }

    #[inline]
    fn of(&self, command: u32) -> &CommandCounters {
        let slot = self.slots.get(command as usize);
        let counters = slot.and_then(|slot| slot.get_or_init(|| self.find(command)).as_deref());
        counters.unwrap_or(&self.counted.other)
    }

    #[cold]
    fn find(&self, command: u32) -> Option<Arc<CommandCounters>> {
        let command = self.manifest.commands.get(command as usize)?;
        self.counted.named(&command.name)
    }
}

impl CountedCommands {
    /// Returns the counters of the command of that name; `None` if there are too many others.
    fn named(&self, name: &str) -> Option<Arc<CommandCounters>> {
        let mut by_name = lock(&self.by_name);
        if let Some(known) = by_name.iter().find(|one| &*one.name == name) {
            return Some(Arc::clone(known));
        }
        (by_name.len() < COMMANDS_MAX).then(|| {
            let counters = Arc::new(CommandCounters {
                name: name.into(),
                ..CommandCounters::default()
            });
            by_name.push(Arc::clone(&counters));
            counters
        })
    }
}

impl CommandCounters {
    #[inline]
    fn add(&self, counts: BatchCounts, latency: Duration) {
        self.own_shard().add(counts, latency);
    }

    #[inline]
    fn own_shard(&self) -> &Shard {
        self.shards[own_shard()].get_or_init(Box::default)
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(|shard| Some(&**shard.get()?))
    }

    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards().map(of).fold(0, u64::wrapping_add)
    }

    fn add_to(&self, all: &mut CounterSnapshot) {
        self.shards().for_each(|shard| all.add(&shard.numbers()));
    }

    fn snapshot(&self) -> CounterSnapshot {
        let mut all = CounterSnapshot::default();
        self.add_to(&mut all);
        all
    }
}

impl Shard {
    /// Returns its counts as they are now.
    pub fn snapshot(&self) -> CounterSnapshot {
        let mut all = CounterSnapshot::default();
        all.add(&self.numbers());
        all
    }
}

impl Counters {
    /// Returns the counters of the commands of an instance.
    #[must_use]
    pub fn slots(&self, manifest: &Arc<Manifest>) -> Arc<CommandSlots> {
        Arc::new(CommandSlots {
            counted: Arc::clone(&self.counted),
            manifest: Arc::clone(manifest),
            slots: (manifest.commands.iter().map(|_| OnceLock::new())).collect(),
        })
    }

    /// Adds what is no command of the daemon.
    pub fn add_other(&self, counts: BatchCounts, latency: Duration) {
        self.counted.other.add(counts, latency);
    }

    /// Includes the counts of that source from now on, as those of the instance with these slots.
    pub(crate) fn include(&self, counting: &Arc<dyn CounterSource>, slots: &Arc<CommandSlots>) {
        let mut elsewhere = lock(&self.elsewhere);
        if elsewhere.iter().any(|one| one.is_of(counting)) {
            return;
        }
        for mut gone in elsewhere.extract_if(.., |one| one.has_gone()) {
            gone.look();
        }
        elsewhere.push(RemoteCounts::of(counting, slots));
    }

    /// Returns the number of commands answered by the sources that count for themselves and are there now.
    pub(crate) fn calls_elsewhere(&self) -> u64 {
        self.look_elsewhere();
        let elsewhere = lock(&self.elsewhere);
        let calls = elsewhere.iter().map(RemoteCounts::calls);
        calls.fold(0, u64::saturating_add)
    }

    fn look_elsewhere(&self) {
        lock(&self.elsewhere)
            .iter_mut()
            .for_each(RemoteCounts::look);
    }

    /// Returns the number of commands answered.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.sum(|shard| shard.calls.load(Relaxed))
    }

    /// Returns the number of commands answered with `error`.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.sum(|shard| shard.errors.load(Relaxed))
    }

    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.look_elsewhere();
        let by_name = lock(&self.counted.by_name);
        let sums = by_name.iter().map(|one| one.sum(&of));
        sums.fold(self.counted.other.sum(&of), u64::wrapping_add)
    }

    /// Returns the reply to `stats`. Latencies are in microseconds, and `null` before the first call.
    #[must_use]
    pub fn report(&self) -> Value {
        let CommandSnapshots { by_name, other } = self.by_command();
        let mut all = other;
        let mut commands = Map::new();
        for (name, counts) in by_name {
            commands.insert(name, report_of(&counts));
            all.add_all(&counts);
        }
        let mut report = report_of(&all);
        report["commands"] = commands.into();
        report
    }

    /// Returns all counts as they are now.
    #[must_use]
    pub fn snapshot(&self) -> CounterSnapshot {
        self.look_elsewhere();
        let mut all = self.counted.other.snapshot();
        let by_name = lock(&self.counted.by_name);
        by_name.iter().for_each(|one| one.add_to(&mut all));
        all
    }

    /// Returns the counts of each command as they are now.
    #[must_use]
    pub fn by_command(&self) -> CommandSnapshots {
        self.look_elsewhere();
        let by_name = lock(&self.counted.by_name);
        let by_name = by_name
            .iter()
            .map(|one| (one.name.to_string(), one.snapshot()));
        CommandSnapshots {
            by_name: by_name.collect(),
            other: self.counted.other.snapshot(),
        }
    }
}

/// The counts of a daemon's commands at one moment.
#[derive(Debug, Clone, Default)]
pub struct CommandSnapshots {
    /// The counts of each command that was called, in the order of their first calls.
    pub by_name: Vec<(String, CounterSnapshot)>,
    /// The counts of everything that is no command of the daemon, such as unknown names.
    pub other: CounterSnapshot,
}

impl CommandSnapshots {
    /// Returns the counts of all together.
    #[must_use]
    pub fn total(&self) -> CounterSnapshot {
        let mut total = self.other.clone();
        self.by_name
            .iter()
            .for_each(|(_, counts)| total.add_all(counts));
        total
    }
}

fn report_of(counts: &CounterSnapshot) -> Value {
    let latency = |quantile| counts.quantile_us(quantile);
    json!({
        "calls": counts.calls(),
        "errors": counts.errors(),
        "panics": counts.panics(),
        "latency_us": {
            "p50": latency(0.50),
            "p90": latency(0.90),
            "p99": latency(0.99),
            "p999": latency(0.999),
        },
    })
}

/// Returns the index of this thread's shard. Threads are numbered in the order of their first use, so that the few
/// threads of the runtime get one shard each.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Relaxed) % SHARDS);
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests;
