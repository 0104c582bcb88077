//! Counts of commands that a subprocess answers, which it reports through shared memory.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dae_store::durations;

use super::CommandSlots;
use super::batch::{BatchTally, NO_COMMAND};
use super::shard::{BUCKETS, Shard, ShardCounts};

/// The shards of a subprocess, each for the command of its index. All further commands share the last one, and count as
/// none.
pub(crate) const COMMANDS: usize = 64;
/// A limit that no process can exceed in a second.
const CALLS_A_SECOND_MAX: u64 = 100_000_000;
/// The number of commands allowed at a look that directly follows another one.
const CALLS_AT_ONCE_MAX: u64 = 1_000_000;

/// A source of counts for commands that are answered outside of this process on behalf of a daemon.
pub(crate) trait CounterSource: Debug + Send + Sync {
    /// Returns the source's counts.
    fn counted(&self) -> &SharedCounts;
}

/// The counts of a subprocess for its first commands, one by one. All zero bytes are valid empty counts.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SharedCounts<const COUNTED: usize = COMMANDS> {
    /// A bit for each shard that was ever used. The others are not looked at: that would take up their memory.
    used: AtomicU64,
    shards: [Shard; COUNTED],
}

impl<const COUNTED: usize> Default for SharedCounts<COUNTED> {
    fn default() -> Self {
        SharedCounts {
            used: AtomicU64::new(0),
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }
}

impl<const COUNTED: usize> SharedCounts<COUNTED> {
    /// Adds a batch whose commands each waited `latency`.
    #[inline]
    pub fn add(&self, tally: &BatchTally, latency: Duration) {
        for (command, counts) in tally.by_command() {
            let at = (command as usize).min(COUNTED - 1);
            if self.used.load(Relaxed) & (1 << at) == 0 {
                self.used.fetch_or(1 << at, Relaxed);
            }
            self.shards[at].add(counts, latency);
        }
    }

    #[cfg(test)]
    pub(super) fn shard(&self, at: usize) -> &Shard {
        &self.shards[at]
    }
}

/// The counts that a subprocess reports, checked for plausibility: the shared memory may hold anything.
#[derive(Debug)]
pub(super) struct RemoteCounts {
    counting: Arc<dyn CounterSource>,
    /// The counters of the daemon that the numbers belong to.
    slots: Arc<CommandSlots>,
    /// The numbers at the last look, and the time of that look.
    seen: [Option<Box<ShardCounts>>; COMMANDS],
    looked_at: Instant,
    /// The commands that were counted.
    calls: u64,
    /// True once the counts were implausible. Nothing more is counted from there on.
    is_false: bool,
}

impl RemoteCounts {
    pub(super) fn of(counting: &Arc<dyn CounterSource>, slots: &Arc<CommandSlots>) -> Self {
        RemoteCounts {
            // It has counted from zero on, and may have begun before it is included.
            seen: [const { None }; COMMANDS],
            counting: Arc::clone(counting),
            slots: Arc::clone(slots),
            looked_at: Instant::now(),
            calls: 0,
            is_false: false,
        }
    }

    pub(super) fn is_of(&self, counting: &Arc<dyn CounterSource>) -> bool {
        Arc::ptr_eq(&self.counting, counting)
    }

    /// Returns whether the process has gone.
    pub(super) fn has_gone(&self) -> bool {
        Arc::strong_count(&self.counting) == 1
    }

    /// Returns the number of commands that were counted.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Adds the commands answered since the last look to the daemon's counters.
    pub(super) fn look(&mut self) {
        if self.is_false {
            return;
        }
        let counted = self.counting.counted();
        let ms = durations::in_ms(self.looked_at.elapsed());
        let most = ms.saturating_mul(CALLS_A_SECOND_MAX / 1_000);
        let most = most.saturating_add(CALLS_AT_ONCE_MAX);
        let used = counted.used.load(Relaxed);
        for (at, shard) in counted.shards.iter().enumerate() {
            if used & (1 << at) == 0 {
                continue;
            }
            let now = shard.numbers();
            let seen = self.seen[at].get_or_insert_with(|| Box::new([0; 3 + BUCKETS]));
            let Some(new) = difference(&now, seen, most) else {
                self.is_false = true;
                return;
            };
            if new[0] > 0 || new != [0; 3 + BUCKETS] {
                self.calls = self.calls.saturating_add(new[0]);
                self.slots.add_numbers(command(at), &new);
                **seen = now;
            }
        }
        self.looked_at = Instant::now();
    }
}

/// Returns the command that a shard counts.
fn command(at: usize) -> u32 {
    match u32::try_from(at) {
        Ok(index) if at < COMMANDS - 1 => index,
        _ => NO_COMMAND,
    }
}

/// Returns what has come since; `None` if a number has decreased, or has grown by more than `most`.
fn difference(now: &ShardCounts, seen: &ShardCounts, most: u64) -> Option<ShardCounts> {
    let mut new = *now;
    for (new, seen) in new.iter_mut().zip(seen) {
        *new = new.checked_sub(*seen).filter(|more| *more <= most)?;
    }
    Some(new)
}
