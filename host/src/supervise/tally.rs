//! The counts of a daemon's restarts by their reasons, and of its reloads by their outcomes, since the host started.
//!
//! The reasons and outcomes are kinds. Their words are part of the metrics' interface, and never get another meaning.

use std::sync::atomic::{AtomicU64, Ordering};

use dae_store::report::EndKind;

/// The outcome of a change that replaces a running instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// A new generation has taken over.
    Accepted,
    /// The change was refused. The instance before it runs on.
    Refused,
    /// New code did not last, and the code before it runs again.
    RolledBack,
}

impl ReloadOutcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [ReloadOutcome; 3] = [
        ReloadOutcome::Accepted,
        ReloadOutcome::Refused,
        ReloadOutcome::RolledBack,
    ];

    /// Returns the word for it in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ReloadOutcome::Accepted => "accepted",
            ReloadOutcome::Refused => "refused",
            ReloadOutcome::RolledBack => "rolled_back",
        }
    }
}

/// A daemon's counts of restarts and reloads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    restarts: [AtomicU64; EndKind::OF_RESTARTS.len()],
    reloads: [AtomicU64; ReloadOutcome::ALL.len()],
}

impl Tally {
    pub(super) fn count_restart(&self, reason: EndKind) {
        if let Some(count) = self.restarts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_reload(&self, outcome: ReloadOutcome) {
        self.reloads[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of restarts for any reason.
    pub(super) fn all_restarts(&self) -> u64 {
        self.restarts().into_iter().map(|(_, count)| count).sum()
    }

    pub(super) fn restarts(&self) -> [(EndKind, u64); EndKind::OF_RESTARTS.len()] {
        let count = |reason| self.restarts[reason as usize].load(Ordering::Relaxed);
        EndKind::OF_RESTARTS.map(|reason| (reason, count(reason)))
    }

    pub(super) fn reloads(&self) -> [(ReloadOutcome, u64); ReloadOutcome::ALL.len()] {
        let count = |outcome| self.reloads[outcome as usize].load(Ordering::Relaxed);
        ReloadOutcome::ALL.map(|outcome| (outcome, count(outcome)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_and_each_outcome_has_a_count_of_its_own() {
        let tally = Tally::default();
        for (times, reason) in (1..).zip(EndKind::OF_RESTARTS) {
            (0..times).for_each(|_| tally.count_restart(reason));
        }
        assert_eq!(tally.restarts().map(|(_, count)| count), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tally.all_restarts(), 21);
        for (times, outcome) in (1..).zip(ReloadOutcome::ALL) {
            (0..times).for_each(|_| tally.count_reload(outcome));
        }
        assert_eq!(tally.reloads().map(|(_, count)| count), [1, 2, 3]);
    }
}
