//! The checks of a plan that change nothing: what the host would refuse, as far as that is known without it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, anyhow, bail};
use dae_common_tcp::nearest;

use super::declared::{Declared, DeclaredSet};
use super::plan::{PlannedDaemon, PresentDaemon};
use dae_store::manifest;

/// Checks that each name in an `after` is that of a daemon, declared or present.
///
/// # Errors
/// A name belongs to no daemon; the text names it.
pub(super) fn check_after(set: &DeclaredSet, present: &[PresentDaemon]) -> Result<()> {
    let known = || {
        let there = present.iter().map(|one| one.status.name.as_str());
        set.daemons.keys().map(String::as_str).chain(there)
    };
    for (name, declared) in &set.daemons {
        let after = declared.after();
        let Some(wrong) = after.iter().find(|after| !known().any(|one| one == *after)) else {
            continue;
        };
        let near = nearest(wrong, known());
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        bail!(
            "daemons.{name}: `after` names {wrong}, which neither this file nor the host has{near}; nothing was done"
        );
    }
    Ok(())
}

/// Checks that no port is declared twice.
///
/// # Errors
/// Two daemons have the same port; the text names both.
pub(super) fn check_ports(daemons: &BTreeMap<String, Declared>) -> Result<()> {
    let mut by_port: BTreeMap<u16, &str> = BTreeMap::new();
    for (name, declared) in daemons {
        let other = declared.port.and_then(|port| by_port.insert(port, name));
        if let (Some(port), Some(other)) = (declared.port, other) {
            bail!(
                "port {port} is declared for {other} and for {name}; choose another for one of them"
            );
        }
    }
    Ok(())
}

/// Checks that the declared file of a daemon is a plugin, and that its port is free.
///
/// # Errors
/// The reason why the host would refuse it.
pub(super) fn check(
    set: &DeclaredSet,
    present: &[PresentDaemon],
    planned: &PlannedDaemon,
) -> Result<()> {
    let Some(declared) = set.daemons.get(&planned.name) else {
        return Ok(());
    };
    if planned.brings_file {
        let read = manifest::read_with_needs(&declared.file);
        read.map_err(|error| anyhow!("{}: {error}", declared.file.display()))?;
    }
    let port_of = |one: &PresentDaemon| one.config.port;
    let own = present.iter().find(|one| one.status.name == planned.name);
    match declared.port {
        Some(port) if own.and_then(port_of) != Some(port) => check_port(set, present, port),
        _ => Ok(()),
    }
}

fn check_port(set: &DeclaredSet, present: &[PresentDaemon], port: u16) -> Result<()> {
    let holder = present.iter().find(|one| one.config.port == Some(port));
    if let Some(holder) = holder {
        let name = &holder.status.name;
        let moves = set.daemons.get(name).and_then(|one| one.port);
        return match moves.is_some_and(|other| other != port) {
            true => Ok(()),
            false => Err(anyhow!("port {port} is that of {name}; choose another one")),
        };
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} can't be had: {error}; choose another one"),
    }
}
