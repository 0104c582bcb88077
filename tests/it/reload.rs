//! Hot reload: every way to cause it, every answer, and no effect on guests and state.
//!
//! Tests tell old code from new by its answer to `version`, never by the host's reports. All files come from one build
//! of the fixture `recipe`, with a few bytes changed.

mod answers;
mod callers;
mod dev;
mod dropped;
mod kept;
mod large;
mod lasting;
mod libraries;
mod moved;
mod phased;
mod preflight;
mod reserved;
mod schemas;
mod state;
mod stopped;
mod traffic;
mod trouble;
mod under_load;
mod versions;

use std::path::PathBuf;

use dae_tests::{Ecosystem, Guest, LIMIT, Output, spoil, until};
use serde_json::{Value, json};

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// The name of the daemon under test.
const NAME: &str = "Recipe";

/// An ecosystem, and the plugin from which its variants are made.
struct Kitchen {
    ecosystem: Ecosystem,
    plain: Vec<u8>,
}

impl Kitchen {
    fn open() -> Self {
        Kitchen::over(Ecosystem::start())
    }

    fn configured(config: &Value) -> Self {
        Kitchen::over(Ecosystem::start_configured(config))
    }

    fn over(ecosystem: Ecosystem) -> Self {
        let plain = std::fs::read(ecosystem.plugin("recipe")).expect("the plugin");
        Kitchen { ecosystem, plain }
    }

    /// Returns the plugin's bytes with that recipe.
    fn bytes(&self, recipe: &Value) -> Vec<u8> {
        spoil::of_recipe(self.plain.clone(), recipe)
    }

    /// Writes a file with that recipe outside the home.
    fn file(&self, name: &str, recipe: &Value) -> PathBuf {
        spoil::write(&self.ecosystem.scratch(), name, &self.bytes(recipe))
    }

    /// Installs version 1 from a file. Returns the file and a guest.
    fn install(&self, flags: &[&str]) -> (PathBuf, Guest) {
        let file = self.file("source.so", &json!({"version": 1}));
        let output = self.install_file(&file, flags);
        assert_eq!(output.status, 0, "{output:#?}");
        (file, self.ecosystem.guest(NAME))
    }

    fn install_file(&self, file: &std::path::Path, flags: &[&str]) -> Output {
        let file = file.to_str().expect("a path in UTF-8");
        let arguments = [&["install", NAME, file], flags].concat();
        self.ecosystem.cli(&arguments)
    }

    /// Runs `install --replace` with a new file of that recipe.
    fn replace(&self, recipe: &Value, flags: &[&str]) -> Output {
        let file = self.file("replacement.so", recipe);
        self.install_file(&file, &[&["--replace"], flags].concat())
    }
}

/// Increments the counter up to `count`.
fn count_to(guest: &mut Guest, count: u64) {
    for mark in 1..=count {
        let answer = guest.ask("increment", &json!([mark]));
        assert_eq!(answer[2], mark, "{answer}");
    }
}

/// Returns the version that answers now.
fn version(guest: &mut Guest) -> u64 {
    let version = guest.ask("version", &json!([]));
    version.as_u64().expect("a version")
}

/// Waits until that version answers.
#[track_caller]
fn until_version(guest: &mut Guest, expected: u64) {
    until(LIMIT, &format!("version {expected} answers"), || {
        version(guest) == expected
    });
}
