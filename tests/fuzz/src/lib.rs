//! The targets of the fuzzers: each takes any bytes, and panics where a promise is broken.
//!
//! A target promises more than not to panic: reading in pieces gives what reading at once gives, what is written is read
//! back, and no number changes. An ordinary test runs every target over its corpus, and over mutations of it; `main.rs` runs
//! them under libFuzzer.

mod codec;
mod files;
mod values;

/// A target.
pub type Target = fn(&[u8]);

/// All targets, with the names of their folders in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("codec", codec::lines),
    ("arguments", values::arguments),
    ("frames", dae_runtime::fuzzed::frames),
    ("manifest", files::a_manifest),
    ("registry", files::registry),
    ("settings", files::settings),
];

/// Returns the target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
