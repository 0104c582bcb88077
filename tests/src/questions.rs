//! Queries about an ecosystem, in terms of the command line.
//!
//! Every answer comes from `dae-host … --json`, as a script would get it.

use serde_json::Value;

use crate::{Ecosystem, LIMIT, until, until_some};

impl Ecosystem {
    /// Returns the output of `status` for a daemon.
    ///
    /// # Panics
    /// Panics if the command fails.
    #[track_caller]
    #[must_use]
    pub fn status(&self, name: &str) -> Value {
        let output = self.cli(&["status", name, "--json"]);
        // 3 is the code of a daemon that is stopped or failed.
        assert!(matches!(output.status, 0 | 3), "{output:#?}");
        output.json()
    }

    /// Returns a daemon's port.
    ///
    /// # Panics
    /// Panics if the daemon has none, or does not exist.
    #[track_caller]
    #[must_use]
    pub fn port_of(&self, name: &str) -> u16 {
        let status = self.status(name);
        let port = status["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        port.unwrap_or_else(|| panic!("{name} has no port: {status}"))
    }

    /// Returns the names in the output of `list`.
    ///
    /// # Panics
    /// Panics if the command fails.
    #[track_caller]
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let list = self.cli(&["list", "--json"]).ok().json();
        let name = |row: &Value| {
            row["name"]
                .as_str()
                .expect("every row has a name")
                .to_owned()
        };
        list.as_array()
            .expect("an array of daemons")
            .iter()
            .map(name)
            .collect()
    }

    /// Waits until a daemon is in the given state, and returns its status.
    ///
    /// # Panics
    /// Panics if it does not reach the state within [`LIMIT`].
    #[track_caller]
    pub fn until_state(&self, name: &str, state: &str) -> Value {
        until_some(LIMIT, &format!("{name} is {state}"), || {
            let output = self.cli(&["status", name, "--json"]);
            let status = matches!(output.status, 0 | 3).then(|| output.json())?;
            (status["state"] == state).then_some(status)
        })
    }

    /// Returns the messages that a daemon has logged, oldest first.
    ///
    /// # Panics
    /// Panics if the command fails.
    #[track_caller]
    #[must_use]
    pub fn logged(&self, name: &str) -> Vec<String> {
        let records = self
            .cli(&["logs", name, "-n", "10000", "--json"])
            .ok()
            .json_lines();
        let message = |record: &Value| {
            record["message"]
                .as_str()
                .expect("every record has a message")
                .to_owned()
        };
        records.iter().map(message).collect()
    }

    /// Waits until a daemon has logged a message that contains `part`.
    ///
    /// # Panics
    /// Panics if no such message comes within [`LIMIT`].
    #[track_caller]
    pub fn until_logged(&self, name: &str, part: &str) {
        until(LIMIT, &format!("{name} logs {part:?}"), || {
            self.logged(name)
                .iter()
                .any(|message| message.contains(part))
        });
    }
}
