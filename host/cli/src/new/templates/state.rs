//! The daemon Greeter: it greets people, and remembers how often it has greeted each of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dae_plugin_api::prelude::*;

/// Greets people, and remembers them.
struct Greeter {
    state: Mutex<State>,
}

/// The state that one instance hands to the next, as JSON.
///
/// When its shape changes, increment `state_version` below, and have `migrate` read the older shapes.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// The number of greetings of each person.
    greetings: BTreeMap<String, u64>,
}

/// Greets people, and remembers how often it has greeted each of them.
#[daemon(state_version = 2)]
impl Greeter {
    /// Makes the daemon. The state is what `save` of the instance before has returned.
    fn start(state: Option<State>) -> Self {
        Greeter {
            state: Mutex::new(state.unwrap_or_default()),
        }
    }

    /// Returns the state for the next instance.
    fn save(&self) -> State {
        self.state().clone()
    }

    /// Reads a state of an older version. Version 1 was a list of the names.
    fn migrate(version: u32, state: json::Value) -> Result<State> {
        match version {
            1 => {
                let names: Vec<String> = json::from_value(state)?;
                let greetings = names.into_iter().map(|name| (name, 1)).collect();
                Ok(State { greetings })
            }
            other => bail!("there is no version {other} of the state"),
        }
    }

    /// Greets `who`.
    #[command]
    fn greet(&self, who: String) -> String {
        let mut state = self.state();
        let times = state.greetings.entry(who.clone()).or_default();
        *times += 1;
        format!("Hello, {who}! This is greeting number {times}.")
    }

    /// Greets `who` after `ms` milliseconds. Other commands run meanwhile.
    #[command]
    async fn greet_later(&self, eco: Ecosystem, who: String, ms: u64) -> String {
        // A guard of the state must not be held here: it would block the other commands.
        eco.sleep(Duration::from_millis(ms)).await;
        self.greet(who)
    }
}

impl Greeter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use dae_plugin_api::testing;

    use super::*;

    #[test]
    fn the_next_instance_remembers() -> Result<()> {
        let host = testing::host();
        let daemon = host.start::<Greeter>(())?;
        let greeted = daemon.call("greet", ("Ada",))?;
        assert_eq!(greeted, "Hello, Ada! This is greeting number 1.");

        daemon.reload()?;
        let greeted = daemon.call("greet", ("Ada",))?;
        assert_eq!(greeted, "Hello, Ada! This is greeting number 2.");
        Ok(())
    }

    #[test]
    fn an_older_state_is_read() {
        let migrated = Greeter::migrate(1, json::json!(["Ada"])).unwrap();
        assert_eq!(migrated.greetings, BTreeMap::from([("Ada".to_owned(), 1)]));
        assert!(Greeter::migrate(3, json::json!({})).is_err());
    }
}
