//! An uninstall's work on the disk, with a host and without one: the state and the entry go to the archive, a drop-in's
//! file goes out of the way.
//!
//! The caller removes the entry from the registry between [`note_leaving`] and [`leave`]. So a process that is killed in
//! between leaves a note, and the next host completes the uninstall. Errors of the disk don't stop an uninstall; its
//! result tells them.

use std::path::Path;

use jiff::Timestamp;

use crate::archive::{self, Archive};
use crate::registry::Entry;
use crate::report::{UninstallRequest, Uninstalled};
use crate::retention;
use crate::snapshots::Snapshots;

/// Notes how a daemon is run, before the registry forgets it. An error of the disk is ignored: either the registry's own
/// change fails too, or the note isn't needed.
pub fn note_leaving(
    archive: &Archive,
    request: &UninstallRequest,
    entry: Option<&Entry>,
) -> Option<String> {
    let entry = entry.filter(|_| !request.purge)?;
    archive
        .note_leaving(&request.name, entry.clone())
        .ok()
        .flatten()
}

/// Removes a note that isn't needed any more.
pub fn take_back(archive: &Archive, request: &UninstallRequest, noted: Option<String>) {
    if let Some(id) = noted {
        archive.take_back(&request.name, &id);
    }
}

/// Archives or removes what a daemon leaves, and returns the result. If the state can't be archived, it stays where it
/// is.
pub fn leave(
    archive: &Archive,
    states: &Snapshots,
    request: &UninstallRequest,
    entry: Option<Entry>,
) -> Uninstalled {
    let name = request.name.as_str();
    let mut uninstalled = Uninstalled::purged(name);
    let left = match request.purge {
        true => states
            .forget(name)
            .and_then(|()| archive.purge(name))
            .map(|_| None),
        false => archive.leave(states, name, entry),
    };
    match left {
        Ok(state_bytes) => uninstalled.state_bytes = state_bytes,
        Err(error) => {
            let what = if request.purge { "removed" } else { "moved" };
            uninstalled.note = format!("its state could not be {what}, and stays: {error:#}");
        }
    }
    if !request.purge {
        uninstalled.kept_until = Some(retention::kept_until(Timestamp::now()));
    }
    uninstalled
}

/// Moves a drop-in's file out of the way, and notes the result in `uninstalled`.
pub fn move_aside(file: &Path, uninstalled: &mut Uninstalled) {
    match archive::move_aside(file) {
        Ok(moved_to) => uninstalled.moved_to = moved_to,
        Err(error) => {
            uninstalled.note = format!(
                "its file {} is still in the drop-in directory ({error}), and runs again at the next start of a host unless it is removed",
                file.display()
            );
        }
    }
}
