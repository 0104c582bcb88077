//! The plugin files: one build of the fixture `recipe`, with a recipe for each version and each fault.

use std::collections::BTreeMap;

use dae_tests::{Artefacts, spoil};
use serde_json::json;

use crate::model::{Fault, VERSIONS};

/// The version in files that never run.
const BAD: u64 = 99;

/// The content of every file.
pub struct Plugin {
    versions: BTreeMap<u64, Vec<u8>>,
    faults: Vec<(Fault, Vec<u8>)>,
}

impl Plugin {
    /// Builds host and plugins with cargo.
    pub fn build() -> Self {
        let file = Artefacts::of_tests().plugin("recipe");
        let plain = std::fs::read(file).expect("the plugin");
        let of = |recipe| spoil::of_recipe(plain.clone(), &recipe);
        let faults = Fault::ALL.map(|fault| {
            let recipe = match fault {
                Fault::ConstructorCrashes => json!({"version": BAD, "constructor": "crash"}),
                Fault::StartFails => json!({"version": BAD, "start": "fail"}),
                Fault::StartPanics => json!({"version": BAD, "start": "panic"}),
                Fault::MisreadsState => json!({"version": BAD, "misreads": true}),
            };
            (fault, of(recipe))
        });
        Plugin {
            versions: VERSIONS
                .map(|version| (version, of(json!({"version": version}))))
                .collect(),
            faults: faults.into(),
        }
    }

    pub fn bytes(&self, version: u64) -> &[u8] {
        &self.versions[&version]
    }

    pub fn bad(&self, fault: Fault) -> &[u8] {
        let found = self.faults.iter().find(|(of, _)| *of == fault);
        &found.expect("a file for each fault").1
    }

    /// Returns the content hash by which the host identifies a version.
    pub fn hash(&self, version: u64) -> String {
        blake3::hash(self.bytes(version)).to_hex().to_string()
    }
}
