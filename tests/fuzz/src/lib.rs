//! The targets of the fuzzers. Each takes any bytes, and panics if a promise is broken.
//!
//! A target promises more than not to panic: reading in pieces gives the same as reading at once, written values can be
//! read back, and no number changes. An ordinary test runs every target on its corpus and on mutations of it. `main.rs`
//! runs the targets under libFuzzer.

mod codec;
mod files;
mod values;

/// A function that is fuzzed.
pub type Target = fn(&[u8]);

/// All targets, with the names of their directories in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("codec", codec::lines),
    ("arguments", values::arguments),
    ("frames", dae_runtime::fuzzed::frames),
    ("manifest", files::a_manifest),
    ("registry", files::registry),
    ("settings", files::settings),
];

/// Returns the target with the given name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
