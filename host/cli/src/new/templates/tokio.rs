//! The daemon Greeter, with a tokio runtime of its own: it greets people, and counts its greetings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dae_plugin_api::prelude::*;
use tokio::task::JoinSet;

/// Greets people.
struct Greeter {
    greetings: AtomicU64,
}

/// Greets people, and counts its greetings.
#[daemon]
impl Greeter {
    /// Makes the daemon. The state is what `save` of the instance before has returned.
    fn start(state: Option<u64>) -> Self {
        Greeter {
            greetings: AtomicU64::new(state.unwrap_or(0)),
        }
    }

    /// Returns the state for the next instance, which goes on counting.
    fn save(&self) -> u64 {
        self.greetings.load(Ordering::Relaxed)
    }

    /// Greets `who`.
    #[command]
    fn greet(&self, who: String) -> String {
        let number = self.greetings.fetch_add(1, Ordering::Relaxed) + 1;
        format!("Hello, {who}! You are number {number}.")
    }

    /// Greets everyone of `all` after `ms` milliseconds, each in a task of its own. Other commands run meanwhile.
    #[command]
    async fn greet_later(&self, ms: u64, #[rest] all: Vec<String>) -> Result<Vec<String>> {
        let mut tasks = JoinSet::new();
        for who in all {
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                who
            });
        }
        let mut greeted = Vec::new();
        while let Some(who) = tasks.join_next().await {
            greeted.push(self.greet(who?));
        }
        Ok(greeted)
    }
}

#[cfg(test)]
mod tests {
    use dae_plugin_api::testing;

    use super::*;

    #[test]
    fn the_next_instance_goes_on_counting() -> Result<()> {
        let host = testing::host();
        let daemon = host.start::<Greeter>(())?;
        let greeted = daemon.call("greet", ("Ada",))?;
        assert_eq!(greeted, "Hello, Ada! You are number 1.");

        daemon.reload()?;
        let greeted = daemon.call("greet_later", (1, "Bob"))?;
        assert_eq!(greeted, json::json!(["Hello, Bob! You are number 2."]));
        Ok(())
    }
}
