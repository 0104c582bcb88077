//! The sample daemon: it greets, adds, and counts its greetings.

use std::sync::atomic::{AtomicU64, Ordering};

use dae_plugin_api::prelude::*;

/// Greets people.
#[derive(Default)]
struct Sample {
    met: AtomicU64,
}

/// Greets people.
#[daemon(name = "Sample")]
impl Sample {
    /// Greets `who`.
    #[command]
    fn greet(&self, who: &str) -> String {
        let met = self.met.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(who, met, "greeted");
        format!("Hello, {who}! You are number {met}.")
    }

    /// The sum of two numbers.
    #[command]
    async fn add(&self, a: f64, b: f64) -> Result<f64> {
        let sum = a + b;
        if sum.is_infinite() {
            return Err(Error::new(format!("{a} + {b} is more than a number holds")));
        }
        Ok(sum)
    }

    /// The number of people that it has greeted.
    #[command]
    fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}
