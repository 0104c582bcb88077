//! The cargo profile of `dev`.
//!
//! A person waits for the compiler, so by default the crate is compiled without optimization and incrementally. Its
//! dependencies are compiled once and are optimized a little. The profile is passed on the command line, so the author's
//! files stay as they are. It has a name of its own and so a directory of its own below the target directory: its
//! builds and the author's neither wait for each other nor undo each other's work.

use std::ffi::OsString;

/// The name of the profile, and of its directory.
const NAME: &str = "plugin-dev";

/// The profile's settings, on top of those of `dev`: the author's own settings of `dev` apply where these are silent.
const SETTINGS: [&str; 6] = [
    "inherits=\"dev\"",
    "opt-level=0",
    "package.\"*\".opt-level=1",
    "debug=\"line-tables-only\"",
    "incremental=true",
    "panic=\"unwind\"",
];

/// The choice of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profile {
    /// The profile of `dev` itself.
    Quick,
    /// A profile of the crate's manifest or of cargo, by name.
    Named(String),
}

impl Profile {
    /// Returns the profile's name, as cargo prints it.
    pub(super) fn name(&self) -> &str {
        match self {
            Profile::Quick => NAME,
            Profile::Named(name) => name,
        }
    }

    /// Returns the arguments for `cargo build`.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["--profile".to_owned(), self.name().to_owned()];
        if *self == Profile::Quick {
            let settings = SETTINGS.map(|setting| format!("profile.{NAME}.{setting}"));
            arguments.extend(
                settings
                    .into_iter()
                    .flat_map(|setting| ["--config".to_owned(), setting]),
            );
        }
        arguments.into_iter().map(OsString::from).collect()
    }
}
