//! The credential, by which a daemon in any language identifies itself.

use serde::{Deserialize, Serialize};

/// The identity of a daemon, as in its reply to `dae`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Credential {
    /// The name the daemon runs under.
    pub name: String,
    /// The id of the process that runs its code.
    pub pid: u32,
    /// Its Common TCP port on the loopback address.
    pub port: u16,
    /// The plugin's own name, if the host reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version, if the host reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The generation of the instance, if the host reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The place where its code runs, `in-process` or `subprocess`, if the host reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Set for a daemon that this host doesn't run: one that was found on this machine, or one of another host.
    #[serde(default)]
    pub foreign: bool,
    /// The host that runs it, for a daemon of another host. Its name is then `NAME@HOST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The bridge that provides it, for a daemon of another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Set if the daemons of this name on several hosts stand for each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
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
