//! Who one instance of a daemon is: what its credential is made of.

use std::time::Instant;

use dae_store::report::{Credential, Mode};

/// Fixed at the start of the instance.
#[derive(Debug)]
pub struct Identity {
    /// The name it runs under.
    pub name: String,
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Where its code runs.
    pub mode: Mode,
    /// The process its code runs in.
    pub pid: u32,
    /// Its Common TCP port.
    pub port: u16,
    /// The n-th instance since the host started.
    pub generation: u64,
    /// The n-th attempt to build one, refused ones included; 0 where that is not known.
    pub attempt: u64,
    /// When it started.
    pub since: Instant,
}

impl Identity {
    /// The answer to `dae`.
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
            foreign: false,
            address: None,
        }
    }

    /// How long it has run, in milliseconds.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
