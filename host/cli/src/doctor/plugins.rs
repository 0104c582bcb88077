//! The files of installed daemons: the stored copy that runs, and the source that is watched.

use std::io;
use std::path::Path;

use super::{Finding, Patient, word};
use dae_store::manifest;
use dae_store::plugin_store::PluginStore;
use dae_store::registry::Entry;

const KIND: &str = "plugins";

/// Checks the files of all installed daemons.
pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let registry = patient.registry.as_ref();
    let daemons = registry.into_iter().flat_map(|registry| &registry.daemons);
    let own = daemons.filter(|(_, entry)| !entry.is_built_in);
    let findings: Vec<Finding> = own
        .flat_map(|(name, entry)| of_daemon(patient, name, entry))
        .collect();
    match findings.is_empty() {
        true => vec![Finding::ok(
            KIND,
            "every daemon's file is there and is trusted",
        )],
        false => findings,
    }
}

fn of_daemon(patient: &Patient<'_>, name: &str, entry: &Entry) -> Vec<Finding> {
    let home = &patient.session.home;
    let again = |file: &str| {
        let line = format!("install {name} {file} --replace");
        patient.session.command_line(&line)
    };
    let source = entry.source_in(&home.data);
    let file = source.as_deref().map_or_else(|| "FILE".to_owned(), word);
    let stored = PluginStore::open(home).and_then(|store| store.find(&entry.hash));
    let lost = stored.err().map(|error| {
        let text = format!("{name} can't start: {error:#}");
        Finding::error(KIND, text, again(&file))
    });
    let source = source.and_then(|source| of_source(name, &source, again("FILE")));
    lost.into_iter().chain(source).collect()
}

/// Checks that a source can be read and that nobody else can change it, as an install does.
fn of_source(name: &str, source: &Path, cure: String) -> Option<Finding> {
    let path = source.display();
    match source.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "the file that {name} was installed from is gone: {path}; it runs from its stored copy, and `reload` fails"
            );
            return Some(Finding::warning(KIND, text, cure));
        }
        _ => {}
    }
    let fault = manifest::read(source).err()?;
    let text = format!("a reload of {name} would be refused: {fault}");
    Some(Finding::warning(KIND, text, cure))
}
