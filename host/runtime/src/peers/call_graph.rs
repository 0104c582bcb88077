//! The call graph: which daemon of this host calls which daemon, how often, and how long its calls take.
//!
//! Every call is counted, and every sixteenth is timed, the first one included: a call within the host takes less time
//! than two looks at the clock are worth. The counts of a pair last until the caller is uninstalled or the host ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::threads::counters::{BatchCounts, CounterSnapshot, Shard};
use dae_store::lock::lock;

/// One call in so many is timed.
const TIMED_ONE_IN: u64 = 16;

/// The largest number of pairs. Names that daemons make up must not fill the memory: a timed pair takes 1.3 KB.
const PAIRS_MAX: usize = 50_000;

/// The counts of all pairs of a caller and a called daemon.
#[derive(Debug, Default)]
pub struct CallGraph(Mutex<HashMap<Pair, Arc<PairCounts>>>);

/// A daemon that calls, and the name that it calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The name of the daemon that calls.
    pub caller: String,
    /// The name of the daemon that is called.
    pub callee: String,
}

/// The counts of one pair.
#[derive(Debug, Default)]
pub struct PairCounts {
    calls: AtomicU64,
    errors: AtomicU64,
    /// The timed calls. Allocated with the first.
    timed: OnceLock<Box<Shard>>,
}

/// The end of a call, which is still to be counted.
#[derive(Debug)]
pub(crate) struct StartedCall {
    pair: Arc<PairCounts>,
    began: Option<Instant>,
}

impl CallGraph {
    /// Returns the counts of that pair, for a connection between the two.
    pub(crate) fn pair(&self, caller: &str, callee: &str) -> Arc<PairCounts> {
        let pair = Pair {
            caller: caller.to_owned(),
            callee: callee.to_owned(),
        };
        let mut pairs = lock(&self.0);
        if pairs.len() >= PAIRS_MAX && !pairs.contains_key(&pair) {
            pairs.retain(|_, counts| Arc::strong_count(counts) > 1);
            if pairs.len() >= PAIRS_MAX {
                // Counted for nobody.
                return Arc::default();
            }
        }
        Arc::clone(pairs.entry(pair).or_default())
    }

    /// Forgets the calls of a daemon that is uninstalled.
    pub(crate) fn forget(&self, caller: &str) {
        lock(&self.0).retain(|pair, _| pair.caller != caller);
    }

    /// Returns the pairs with at least one call, in no order.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Pair, Arc<PairCounts>)> {
        let pairs = lock(&self.0);
        let called = pairs.iter().filter(|(_, counts)| counts.calls() > 0);
        called
            .map(|(pair, counts)| (pair.clone(), Arc::clone(counts)))
            .collect()
    }
}

impl PairCounts {
    /// Counts a call that begins now.
    pub(crate) fn start(self: &Arc<Self>) -> StartedCall {
        let is_timed = self
            .calls
            .fetch_add(1, Relaxed)
            .is_multiple_of(TIMED_ONE_IN);
        StartedCall {
            pair: Arc::clone(self),
            began: is_timed.then(Instant::now),
        }
    }

    /// Returns the number of calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Returns the number of calls that were answered with an error, or not at all.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Returns the latencies of the timed calls.
    #[must_use]
    pub fn latencies(&self) -> CounterSnapshot {
        self.timed
            .get()
            .map(|timed| timed.snapshot())
            .unwrap_or_default()
    }
}

impl StartedCall {
    /// Counts the end of the call. A call that is cancelled counts as begun alone.
    pub(crate) fn ended(self, is_error: bool) {
        if is_error {
            self.pair.errors.fetch_add(1, Relaxed);
        }
        if let Some(began) = self.began {
            let one = BatchCounts {
                calls: 1,
                ..BatchCounts::default()
            };
            let timed = self.pair.timed.get_or_init(Box::default);
            timed.add(one, began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_calls_are_counted_and_one_in_sixteen_is_timed() {
        let graph = CallGraph::default();
        for number in 0..2 * TIMED_ONE_IN {
            graph.pair("Front", "Back").start().ended(number % 4 == 0);
        }
        // Cancelled.
        drop(graph.pair("Front", "Back").start());
        let _ = graph.pair("Front", "Unasked");
        let pairs = graph.pairs();
        let [(pair, counts)] = pairs.as_slice() else {
            panic!("{pairs:?}");
        };
        assert_eq!(
            (pair.caller.as_str(), pair.callee.as_str()),
            ("Front", "Back")
        );
        assert_eq!((counts.calls(), counts.errors()), (33, 8));
        assert_eq!(counts.latencies().calls(), 2);
        graph.forget("Back");
        assert_eq!(graph.pairs().len(), 1, "it called nobody");
        graph.forget("Front");
        assert_eq!(graph.pairs().len(), 0);
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let graph = CallGraph::default();
        let held: Vec<_> = (0..PAIRS_MAX)
            .map(|number| graph.pair("Front", &number.to_string()))
            .collect();
        graph.pair("Front", "one more").start().ended(false);
        assert_eq!(graph.pairs().len(), 0, "there is no room for it");
        drop(held);
        graph.pair("Front", "one more").start().ended(false);
        assert_eq!(graph.pairs().len(), 1, "nobody holds the others");
    }
}
