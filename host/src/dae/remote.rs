//! Daemons of other hosts as part of an ecosystem: listed beside its own, and never changed from here.

use std::collections::HashSet;

use super::{Fault, FaultKind};
use dae_runtime::peers::directory::Directory;
use dae_runtime::peers::directory::provided::ProvidedDaemon;
use dae_store::report::{Mode, Status};

/// Returns the statuses of the daemons of other hosts whose names no daemon of `here` has.
pub(super) fn statuses(directory: &Directory, here: &[Status]) -> Vec<Status> {
    let provided = directory.provided();
    if provided.is_empty() {
        return Vec::new();
    }
    let taken: HashSet<&str> = here.iter().map(|one| one.name.as_str()).collect();
    let is_new = |one: &ProvidedDaemon| !taken.contains(one.credential.name.as_str());
    provided.into_iter().filter(is_new).map(of).collect()
}

/// Returns the status of the daemon of another host that the name stands for.
pub(super) fn status(directory: &Directory, name: &str) -> Option<Status> {
    directory.provided_by_name(name).map(of)
}

/// Returns why a change can't be made to that name, if it is that of a daemon of another host.
pub(super) fn fault(directory: &Directory, name: &str) -> Option<Fault> {
    let one = directory.provided_by_name(name)?.credential;
    let host = one.host.unwrap_or_default();
    Some(Fault {
        kind: FaultKind::Failed,
        text: format!(
            "{name} is a daemon of the host {host}, which this host doesn't run: its commands can be called, and nothing else"
        ),
    })
}

fn of(one: ProvidedDaemon) -> Status {
    let credential = one.credential;
    let short = credential
        .name
        .rsplit_once('@')
        .map(|(name, _)| name.to_owned());
    Status {
        plugin: credential.plugin.or(short).unwrap_or_default(),
        name: credential.name,
        version: credential.version.unwrap_or_default(),
        mode: credential
            .mode
            .filter(|mode| *mode != Mode::InProcess || credential.pid > 0),
        foreign: true,
        state: "remote".to_owned(),
        host: credential.host,
        provider: credential.provider,
        ..Status::default()
    }
}
