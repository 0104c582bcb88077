//! The identity of one instance of a daemon, from which its credential is made.

use std::time::Instant;

use dae_store::durations;
use dae_store::report::{Credential, Mode};

/// The identity of an instance, fixed at its start.
#[derive(Debug)]
pub struct Identity {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// True if the daemons of this name on several hosts stand for each other.
    pub is_shared: bool,
    /// The mode in which its code runs.
    pub mode: Mode,
    /// The id of the process that runs its code.
    pub pid: u32,
    /// Its Common TCP port.
    pub port: u16,
    /// The number of the instance since the host started.
    pub generation: u64,
    /// The number of the attempt to build it, including refused ones; 0 if that is not known.
    pub attempt: u64,
    /// The time of its start.
    pub since: Instant,
}

impl Identity {
    /// Returns the answer to `dae`.
    #[must_use]
    pub fn credential(&self) -> Credential {
        Credential {
            name: self.name.clone(),
            pid: self.pid,
            port: self.port,
            plugin: Some(self.plugin.clone()),
            version: Some(self.version.clone()),
            mode: Some(self.mode),
            generation: Some(self.generation),
            uptime_ms: Some(self.uptime_ms()),
            shared: self.is_shared,
            ..Credential::default()
        }
    }

    /// Returns how long it has run (ms).
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        durations::in_ms(self.since.elapsed())
    }
}

#[cfg(test)]
impl Identity {
    /// Returns the identity of a first instance in this process, for unit tests.
    pub(crate) fn of_test() -> Self {
        Identity {
            name: "A".to_owned(),
            plugin: "A".to_owned(),
            version: "1".to_owned(),
            is_shared: false,
            mode: Mode::InProcess,
            pid: 1,
            port: 1,
            generation: 1,
            attempt: 1,
            since: Instant::now(),
        }
    }
}
