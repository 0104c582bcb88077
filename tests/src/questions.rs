//! What a test asks of an ecosystem, in the words of the command line.
//!
//! Every answer comes from `dae-host … --json`, as a script would get it.

use serde_json::Value;

use crate::{Ecosystem, LIMIT, until, until_some};

impl Ecosystem {
    /// What `status` says about a daemon.
    ///
    /// # Panics
    /// When it says nothing.
    #[track_caller]
    #[must_use]
    pub fn status(&self, name: &str) -> Value {
        self.cli(&["status", name, "--json"]).ok().json()
    }

    /// A daemon's port.
    ///
    /// # Panics
    /// When it has none, or there is no such daemon.
    #[track_caller]
    #[must_use]
    pub fn port_of(&self, name: &str) -> u16 {
        let status = self.status(name);
        let port = status["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        port.unwrap_or_else(|| panic!("{name} has no port: {status}"))
    }

    /// The names that `list` has.
    ///
    /// # Panics
    /// When it fails.
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

    /// Waits until a daemon is in that state, and returns its status.
    ///
    /// # Panics
    /// When it is not within [`LIMIT`].
    #[track_caller]
    pub fn until_state(&self, name: &str, state: &str) -> Value {
        until_some(LIMIT, &format!("{name} is {state}"), || {
            let output = self.cli(&["status", name, "--json"]);
            let status = (output.status == 0).then(|| output.json())?;
            (status["state"] == state).then_some(status)
        })
    }

    /// The messages that a daemon has logged, oldest first.
    ///
    /// # Panics
    /// When `logs` fails.
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

    /// Waits until a daemon has logged a message with that text in it.
    ///
    /// # Panics
    /// When it has not within [`LIMIT`].
    #[track_caller]
    pub fn until_logged(&self, name: &str, part: &str) {
        until(LIMIT, &format!("{name} logs {part:?}"), || {
            self.logged(name)
                .iter()
                .any(|message| message.contains(part))
        });
    }
}
