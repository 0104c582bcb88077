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
use dae_store::registry::{DAE_NAME, check_name};

/// The sampling interval: one call out of this many is timed.
const TIMED_ONE_IN: u64 = 16;

/// The largest number of names that a caller has counts for. Names that a guest makes up, and that a daemon calls for it,
/// must not fill the memory: a timed pair takes 1.3 KB.
const CALLED_MAX: usize = 256;

/// The called one of all names above that number, and of texts that are no names. It is no name itself.
const OTHERS: &str = "(others)";

/// The counts of all callers, by the names that they call.
#[derive(Debug, Default)]
pub struct CallGraph(Mutex<HashMap<String, Called>>);

/// The counts of one caller.
type Called = HashMap<String, Arc<PairCounts>>;

/// A daemon that calls, and the name that it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let mut callers = lock(&self.0);
        let called = callers.entry(caller.to_owned()).or_default();
        if let Some(counts) = called.get(callee) {
            return Arc::clone(counts);
        }
        let is_name = callee == DAE_NAME || check_name(callee).is_ok();
        let name = match is_name && called.len() < CALLED_MAX {
            true => callee,
            false => OTHERS,
        };
        Arc::clone(called.entry(name.to_owned()).or_default())
    }

    /// Forgets the calls of a daemon that is uninstalled.
    pub(crate) fn forget(&self, caller: &str) {
        lock(&self.0).remove(caller);
    }

    /// Returns the pairs with at least one call, in no order.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Pair, Arc<PairCounts>)> {
        let callers = lock(&self.0);
        let all = callers.iter().flat_map(|(caller, called)| {
            let called = called.iter().filter(|(_, counts)| counts.calls() > 0);
            called.map(|(callee, counts)| {
                let pair = Pair {
                    caller: caller.clone(),
                    callee: callee.clone(),
                };
                (pair, Arc::clone(counts))
            })
        });
        all.collect()
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
    /// Counts the end of the call. A cancelled call never gets here: it is counted as a call, without a result or a time.
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
        let called = |name: &str| graph.pair("Front", name).start().ended(true);
        (0..2 * CALLED_MAX).for_each(|number| called(&format!("N{number}")));
        called("");
        called(&"x".repeat(100_000));
        called("N0");
        let pairs = graph.pairs();
        assert_eq!(pairs.len(), CALLED_MAX + 1);
        let calls = |name: &str| {
            let mut found = pairs.iter().filter(|(pair, _)| pair.callee == name);
            found.next().map(|(_, counts)| counts.calls())
        };
        let others = u64::try_from(CALLED_MAX).unwrap() + 2;
        assert_eq!((calls(OTHERS), calls("N0")), (Some(others), Some(2)));
    }
}
