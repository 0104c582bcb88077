//! Daemons of other hosts, which a bridge of this host provides.
//!
//! A bridge is a daemon with the grant `bridge`. It gives each daemon that it provides a name here, `NAME@HOST`, and
//! answers its calls. `NAME` alone means it, too, as long as no other daemon here has that name, and no second host has
//! one. If all hosts that have one call it shared, `NAME` alone means any of them, and the bridge chooses.
//!
//! The names belong to the bridge's gate: they stay over a reload and a crash, and go with the grant, at a stop, and
//! when the bridge is uninstalled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dae_common_tcp::is_name;
use dae_store::report::Credential;

use crate::session::gate::Gate;

/// The most daemons that the bridges of a host provide.
pub const PROVIDED_MAX: usize = 10_000;

/// The longest name of a host (bytes). With the name of a daemon and `@` it makes a name.
const HOST_BYTES_MAX: usize = 64;

/// A daemon of another host.
#[derive(Debug, Clone)]
pub struct ProvidedDaemon {
    /// Its credential, under the name `NAME@HOST`.
    pub credential: Credential,
    /// The gate of the bridge that answers its calls.
    pub bridge: Arc<Gate>,
}

/// The daemons that a name stands for.
#[derive(Debug, Clone)]
pub(super) enum ProvidedName {
    /// One daemon.
    One(ProvidedDaemon),
    /// Any of the daemons of that name, which the bridge chooses.
    Any(ProvidedDaemon),
    /// Several daemons, under these names.
    Several(Vec<String>),
}

/// The table of the daemons of other hosts.
#[derive(Debug, Default)]
pub(super) struct ProvidedDaemons {
    /// By the full name.
    daemons: BTreeMap<String, ProvidedDaemon>,
    /// The full names, by the name without the host.
    hosts: BTreeMap<String, BTreeSet<String>>,
}

impl ProvidedDaemons {
    /// Adds a daemon, or changes it. `credential` has the name without the host. Returns the full name.
    ///
    /// # Errors
    /// The credential breaks a rule, there are too many daemons, or another bridge provides one of that name.
    pub(super) fn put(
        &mut self,
        mut credential: Credential,
        bridge: &Arc<Gate>,
    ) -> Result<String, String> {
        let full = full_name(&credential)?;
        match self.daemons.get(&full) {
            Some(known) if !Arc::ptr_eq(&known.bridge, bridge) => {
                let other = &known.bridge.name;
                return Err(format!(
                    "{full} is provided by {other} already; withdraw it there first"
                ));
            }
            None if self.daemons.len() >= PROVIDED_MAX => {
                return Err(format!(
                    "this host has {PROVIDED_MAX} daemons of other hosts, as many as it may; {full} is not added"
                ));
            }
            Some(_) | None => {}
        }
        let short = std::mem::replace(&mut credential.name, full.clone());
        credential.foreign = true;
        credential.provider = Some(bridge.name.clone());
        self.hosts.entry(short).or_default().insert(full.clone());
        let daemon = ProvidedDaemon {
            credential,
            bridge: Arc::clone(bridge),
        };
        self.daemons.insert(full.clone(), daemon);
        Ok(full)
    }

    /// Removes the daemon of that full name, if this bridge provides it. Returns whether it did.
    pub(super) fn remove(&mut self, full: &str, bridge: &Arc<Gate>) -> bool {
        let is_own = |daemon: &ProvidedDaemon| Arc::ptr_eq(&daemon.bridge, bridge);
        if !self.daemons.get(full).is_some_and(is_own) {
            return false;
        }
        self.daemons.remove(full);
        let short = short_name(full);
        if let Some(names) = self.hosts.get_mut(short) {
            names.remove(full);
            if names.is_empty() {
                self.hosts.remove(short);
            }
        }
        true
    }

    /// Removes all daemons of a bridge, and returns their full names.
    pub(super) fn remove_all(&mut self, bridge: &Arc<Gate>) -> BTreeSet<String> {
        let own = self
            .daemons
            .iter()
            .filter(|(_, daemon)| Arc::ptr_eq(&daemon.bridge, bridge));
        let names: BTreeSet<String> = own.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.remove(name, bridge);
        }
        names
    }

    /// Returns what a name stands for: a full name, or one without a host.
    pub(super) fn find(&self, name: &str) -> Option<ProvidedName> {
        if let Some(one) = self.daemons.get(name) {
            return Some(ProvidedName::One(one.clone()));
        }
        let names = self.hosts.get(name)?;
        let found: Vec<&ProvidedDaemon> = names
            .iter()
            .filter_map(|name| self.daemons.get(name))
            .collect();
        Some(match &found[..] {
            [] => return None,
            [one] => ProvidedName::One((*one).clone()),
            [first, others @ ..] => {
                let is_shared = found.iter().all(|one| one.credential.shared);
                let has_one_bridge =
                    |one: &&ProvidedDaemon| Arc::ptr_eq(&one.bridge, &first.bridge);
                match is_shared && others.iter().all(has_one_bridge) {
                    true => ProvidedName::Any((*first).clone()),
                    false => ProvidedName::Several(names.iter().cloned().collect()),
                }
            }
        })
    }

    /// Returns all daemons, sorted by their full names.
    pub(super) fn all(&self) -> impl Iterator<Item = &ProvidedDaemon> {
        self.daemons.values()
    }
}

/// Returns the full name of the daemon with that credential.
fn full_name(credential: &Credential) -> Result<String, String> {
    let (name, host) = (&credential.name, credential.host.as_deref().unwrap_or(""));
    if !is_name(name) {
        return Err(format!(
            "{name:?} is no name of a daemon: 1 to 128 bytes without white space, control characters or `#`"
        ));
    }
    if !is_name(host) || host.len() > HOST_BYTES_MAX || host.contains('@') {
        return Err(format!(
            "{host:?} is no name of a host: 1 to {HOST_BYTES_MAX} bytes without white space, control characters, `#` or `@`"
        ));
    }
    let full = format!("{name}@{host}");
    match is_name(&full) {
        true => Ok(full),
        false => Err(format!("{full} has more than 128 bytes, so it is no name")),
    }
}

/// Returns the name without the host.
fn short_name(full: &str) -> &str {
    full.rsplit_once('@').map_or(full, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use dae_store::config::Config;

    use super::*;

    fn remote(name: &str, host: &str) -> Credential {
        Credential {
            name: name.to_owned(),
            host: Some(host.to_owned()),
            ..Credential::default()
        }
    }

    fn bridge() -> Arc<Gate> {
        Gate::new("Fleet", Config::default().limits())
    }

    #[test]
    fn a_name_alone_stands_for_a_daemon_that_only_one_host_has() {
        let (mut table, fleet) = (ProvidedDaemons::default(), bridge());
        table.put(remote("Counter", "box2"), &fleet).unwrap();
        for name in ["Counter", "Counter@box2"] {
            let Some(ProvidedName::One(found)) = table.find(name) else {
                panic!("{name}");
            };
            assert_eq!(found.credential.name, "Counter@box2");
        }
        table.put(remote("Counter", "box3"), &fleet).unwrap();
        let Some(ProvidedName::Several(names)) = table.find("Counter") else {
            panic!("two hosts have one");
        };
        assert_eq!(names, ["Counter@box2", "Counter@box3"]);
        assert!(table.remove("Counter@box2", &fleet));
        assert!(!table.remove("Counter@box2", &fleet));
        assert!(matches!(table.find("Counter"), Some(ProvidedName::One(_))));
        assert_eq!(table.remove_all(&fleet).len(), 1);
        assert!(table.find("Counter").is_none() && table.hosts.is_empty());
    }

    #[test]
    fn a_name_that_all_hosts_share_stands_for_any_of_them() {
        let (mut table, fleet) = (ProvidedDaemons::default(), bridge());
        for host in ["a", "b"] {
            let shared = Credential {
                shared: true,
                ..remote("Worker", host)
            };
            table.put(shared, &fleet).unwrap();
        }
        assert!(matches!(table.find("Worker"), Some(ProvidedName::Any(_))));
        table.put(remote("Worker", "c"), &fleet).unwrap();
        assert!(matches!(
            table.find("Worker"),
            Some(ProvidedName::Several(_))
        ));
    }

    #[test]
    fn a_bridge_changes_only_what_it_provides() {
        let (mut table, fleet, other) = (ProvidedDaemons::default(), bridge(), bridge());
        table.put(remote("Counter", "box2"), &fleet).unwrap();
        assert!(table.put(remote("Counter", "box2"), &other).is_err());
        assert!(!table.remove("Counter@box2", &other));
        assert!(table.remove_all(&other).is_empty());
    }

    #[test]
    fn names_that_break_a_rule_and_too_many_are_refused() {
        let (mut table, fleet) = (ProvidedDaemons::default(), bridge());
        let long = "x".repeat(65);
        for (name, host) in [
            ("", "a"),
            ("a b", "a"),
            ("A", ""),
            ("A", "b@c"),
            ("A", "b c"),
        ] {
            assert!(
                table.put(remote(name, host), &fleet).is_err(),
                "{name} {host}"
            );
        }
        assert!(table.put(remote("A", &long), &fleet).is_err());
        assert!(
            table
                .put(remote(&"A".repeat(100), &"b".repeat(60)), &fleet)
                .is_err()
        );
        for n in 0..PROVIDED_MAX {
            table.put(remote(&format!("D{n}"), "a"), &fleet).unwrap();
        }
        let refusal = table.put(remote("E", "a"), &fleet).unwrap_err();
        assert!(refusal.contains("10000"), "{refusal}");
        // A daemon that is there already may change.
        table.put(remote("D7", "a"), &fleet).unwrap();
    }
}
