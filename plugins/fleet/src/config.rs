//! The config of the daemon: `dae-host install Fleet libfleet.so --grant bridge --config '{"servers": [...], …}'`.

use std::path::PathBuf;

use dae_plugin_api::prelude::*;

/// The longest name of a host (bytes), as the host of the daemons allows it.
const HOST_BYTES_MAX: usize = 64;

/// The config.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The servers, `nats://HOST:PORT` or `tls://HOST:PORT`. The first one that answers is used.
    pub(crate) servers: Vec<String>,
    /// The name of the ecosystem that the hosts share. Hosts of another ecosystem on the same servers are not seen.
    pub(crate) ecosystem: String,
    /// The name of this host, unique in the ecosystem; null for the name of the machine.
    pub(crate) host: Option<String>,
    /// A credentials file of NATS (`.creds`).
    pub(crate) credentials: Option<PathBuf>,
    /// The seed of an nkey.
    pub(crate) nkey: Option<String>,
    /// A user and its password.
    pub(crate) user: Option<String>,
    /// The password of `user`.
    pub(crate) password: Option<String>,
    /// A token.
    pub(crate) token: Option<String>,
    /// A file with the certificates of the authorities that the servers' certificates are from.
    pub(crate) authorities: Option<PathBuf>,
}

impl Config {
    /// Checks the config, and returns the name of this host.
    pub(crate) fn checked(&self) -> Result<String> {
        ensure!(
            !self.servers.is_empty(),
            "config: expected `servers`, such as [\"nats://127.0.0.1:4222\"]; got none"
        );
        ensure!(
            !self.ecosystem.is_empty(),
            "config: expected `ecosystem`, the name that all hosts share, such as \"home\"; got none"
        );
        ensure!(
            self.user.is_some() || self.password.is_none(),
            "config: `password` needs `user`"
        );
        let host = self.host.clone().or_else(machine).unwrap_or_default();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let fits = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.chars().all(is_allowed);
        ensure!(
            fits,
            "config: expected `host`, the name of this host, 1 to {HOST_BYTES_MAX} of A-Z a-z 0-9 _ . -; got {host:?}"
        );
        Ok(host)
    }
}

/// Returns the name of this machine, if the system tells it.
pub(crate) fn machine() -> Option<String> {
    let named = std::env::var("COMPUTERNAME").ok();
    let named = named.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let named = named.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let named = named.map(|name| name.trim().to_owned());
    named.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            ecosystem: "home".to_owned(),
            host: Some("box-2.lan".to_owned()),
            ..Config::default()
        }
    }

    #[test]
    fn a_config_that_lacks_something_is_refused_with_an_example() {
        assert_eq!(config().checked().unwrap(), "box-2.lan");
        let refused = |config: Config| config.checked().unwrap_err().to_string();
        let none = refused(Config {
            servers: Vec::new(),
            ..config()
        });
        assert!(none.contains("nats://127.0.0.1:4222"), "{none}");
        let none = refused(Config {
            ecosystem: String::new(),
            ..config()
        });
        assert!(none.contains("ecosystem"), "{none}");
        let long = "x".repeat(65);
        for host in ["", "a b", "a@b", &long] {
            let wrong = refused(Config {
                host: Some(host.to_owned()),
                ..config()
            });
            assert!(wrong.contains("1 to 64"), "{wrong}");
        }
        let alone = refused(Config {
            password: Some("x".to_owned()),
            ..config()
        });
        assert!(alone.contains("`user`"), "{alone}");
    }
}
