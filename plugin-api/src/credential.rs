//! The credential: how a daemon says who it is, in whatever language it is written.

use serde::{Deserialize, Serialize};

/// Who a daemon is, as it answers `dae`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Credential {
    /// The name it runs under.
    pub name: String,
    /// The process its code runs in.
    pub pid: u32,
    /// Its Common TCP port on the loopback address.
    pub port: u16,
    /// The plugin's own name, where the host tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version, where the host tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which instance of the daemon it is, where the host tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Where its code runs, `in-process` or `subprocess`, where the host tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// It was found on this machine, and isn't one of this ecosystem's own.
    #[serde(default)]
    pub foreign: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_members_are_enough_and_unknown_ones_are_passed_over() {
        let said = r#"{"name":"Echo","pid":7,"port":40123,"uptime_ms":5,"language":"Python"}"#;
        let read: Credential = serde_json::from_str(said).unwrap();
        assert_eq!((read.name.as_str(), read.port), ("Echo", 40123));
        assert_eq!(
            (read.generation, read.mode, read.foreign),
            (None, None, false)
        );
    }
}
