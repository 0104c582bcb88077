//! Files that no host uses any more: temporary files, stored plugins, and copies of libraries of killed processes.
//!
//! A host removes them at its start. While one runs, such files may be its own, so nothing is checked then.

use std::path::PathBuf;

use anyhow::Result;

use super::{Finding, Patient, counted};
use dae_store::atomic_file;
use dae_store::home::Home;
use dae_store::plugin_store::PluginStore;
use dae_store::registry::Registry;

const KIND: &str = "stale-files";

const COPY: &str = "copy of a library";

/// Checks for files that are left over.
pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let home = &patient.session.home;
    if patient.holder.is_some() {
        let text = "the host that runs keeps its files in order";
        return vec![Finding::ok(KIND, text)];
    }
    let temporary = atomic_file::leftovers(&home.data, &home.drop_in_dir());
    let mut findings = Vec::from_iter(found(
        patient,
        "temporary file",
        &temporary,
        remove_temporary,
    ));
    if let (Ok(store), Some(registry)) = (PluginStore::open(home), &patient.registry) {
        let (unused, copies) = (store.unused(&registry.hashes()), store.copies());
        let unused = found(patient, "unused stored plugin", &unused, remove_unused);
        findings.extend(unused);
        findings.extend(found(patient, COPY, &copies, remove_copies));
    }
    match findings.is_empty() {
        true => vec![Finding::ok(KIND, "no file of a killed host is left")],
        false => findings,
    }
}

fn remove_temporary(home: &Home) -> Result<()> {
    let _lock = home.lock()?;
    atomic_file::sweep(&home.data, &home.drop_in_dir());
    Ok(())
}

fn remove_unused(home: &Home) -> Result<()> {
    let _lock = home.lock()?;
    // Read anew under the lock: something may have been installed since.
    let registry = Registry::load(&home.registry_file())?;
    PluginStore::open(home)?.sweep(&registry.hashes())
}

fn remove_copies(home: &Home) -> Result<()> {
    let _lock = home.lock()?;
    PluginStore::open(home)?.sweep_copies()
}

/// Returns the finding for files that are left, if there are any.
fn found(
    patient: &Patient<'_>,
    what: &str,
    files: &[PathBuf],
    remove: fn(&Home) -> Result<()>,
) -> Option<Finding> {
    let first = files.first()?.display();
    let count = match (what, files.len()) {
        (COPY, count) if count > 1 => format!("{count} copies of libraries"),
        (what, count) => counted(count, what),
    };
    let text = format!("{count}, expected none without a host, such as {first}");
    let cure = patient.session.command_line("doctor --fix");
    let left = Finding::warning(KIND, text, cure);
    Some(match patient.fix {
        true => left.cured(remove(&patient.session.home)),
        false => left,
    })
}
