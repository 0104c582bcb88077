//! The reply to `reload_config`.

use serde::{Deserialize, Serialize};

use crate::difference::Difference;

/// The changes by a reload of config.json5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigReloaded {
    /// The changed members of the file.
    pub changed: Vec<Difference>,
    /// The daemons that run by other settings now.
    pub daemons: Vec<TakenUp>,
    /// The members that count only from the next start of the host on.
    pub needs_restart: Vec<Difference>,
    /// The duration, in milliseconds.
    pub ms: u64,
}

/// A daemon that has taken other settings up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakenUp {
    /// The daemon's name.
    pub name: String,
    /// Its changed settings.
    pub changed: Vec<Difference>,
}
