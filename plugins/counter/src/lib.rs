//! A counter daemon, which hands its count from one generation to the next.

use std::sync::atomic::{AtomicU64, Ordering};

use dae_plugin_api::prelude::*;

/// Counts.
struct Counter {
    count: AtomicU64,
}

/// The state that one generation hands to the next.
#[derive(Serialize, Deserialize)]
struct Count {
    count: u64,
}

/// Counts, and goes on counting over reloads.
#[daemon(name = "Counter")]
impl Counter {
    fn start(state: Option<Count>) -> Self {
        let count = state.map_or(0, |state| state.count);
        tracing::info!(count, "counting from here");
        Counter {
            count: AtomicU64::new(count),
        }
    }

    fn save(&self) -> Count {
        Count {
            count: self.count.load(Ordering::SeqCst),
        }
    }

    /// One more, or `by` more.
    #[command]
    fn increment(&self, by: Option<u64>) -> u64 {
        let by = by.unwrap_or(1);
        self.count.fetch_add(by, Ordering::SeqCst) + by
    }

    /// The count.
    #[command]
    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
