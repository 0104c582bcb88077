//! The cargo profile of `dev`.
//!
//! A person waits for the compiler, so by default the crate is compiled without optimization and incrementally. Its
//! dependencies are compiled once and are optimized a little; macros and build scripts are not, since that takes longer
//! than it saves. The profile is passed on the command line, so the author's
//! files stay as they are. It has a name of its own and so a directory of its own below the target directory: its
//! builds and the author's neither wait for each other nor undo each other's work.

use std::ffi::OsString;

/// The name of the profile, and of its directory.
const NAME: &str = "plugin-dev";

/// The profile's settings, on top of those of `dev`: the author's own settings of `dev` apply where these are silent. The
/// level is that of the dependencies. A setting of `package."*"` would reach macros and build scripts, too.
const SETTINGS: [&str; 6] = [
    "inherits=\"dev\"",
    "opt-level=1",
    "build-override.opt-level=0",
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

    /// Returns the arguments for `cargo build` of a workspace that has these crates.
    pub(super) fn arguments<'a>(&self, members: impl Iterator<Item = &'a str>) -> Vec<OsString> {
        let mut arguments = vec!["--profile".to_owned(), self.name().to_owned()];
        if *self == Profile::Quick {
            let of_members = members.map(|member| format!("package.{member}.opt-level=0"));
            let settings = SETTINGS.map(str::to_owned).into_iter().chain(of_members);
            let settings = settings.map(|setting| format!("profile.{NAME}.{setting}"));
            arguments.extend(settings.flat_map(|setting| ["--config".to_owned(), setting]));
        }
        arguments.into_iter().map(OsString::from).collect()
    }
}
