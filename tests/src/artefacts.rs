//! The executable and the plugins under test, built with cargo as a user builds them.
//!
//! A process builds each profile once, when a test first needs it, also if the build fails. A test must never run against the results of an
//! earlier build, and must not depend on the order in which cargo builds tests and plugins. Each build asks cargo where
//! the results are, so that `CARGO_TARGET_DIR` and cargo's own configuration apply.
//!
//! The build covers the whole workspace, as `cargo test --workspace` does. So cargo chooses the same features for both,
//! and compiles the crates of the host once.
//!
//! The plugin that has its own tokio is built by a second cargo call, and for tests alone: no bench uses it, and the call
//! compiles a dozen crates anew. In a single call cargo would unify the features, and every plugin would contain that tokio.

use std::collections::BTreeMap;
use std::env::consts::DLL_SUFFIX;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cargo_metadata::{Artifact, Message, MetadataCommand};

/// The message of a test that needs what could not be built.
const FAILED: &str =
    "the workspace builds; cargo's errors stand above, or in the output of an earlier test";

/// The build of the one package whose features must not reach the others.
const BUILT_APART: [&str; 4] = ["--package", "dae-fixture-async-io", "--features", "daemon"];

/// The build of the plugin Fleet, for the tests that use it: it is the longest of all, and has a tokio.
const FLEET: [&str; 4] = ["--package", "dae-plugin-fleet", "--features", "nats"];

/// The packages of benches. A build of the whole workspace without debug assertions takes three times as long, most of it for
/// what the harness alone uses.
const RELEASED: [&str; 16] = [
    "--package",
    "dae-cli",
    "--package",
    "dae-fixture-bulky",
    "--package",
    "dae-fixture-measured",
    "--package",
    "dae-fixture-misbehave",
    "--package",
    "dae-fixture-peer",
    "--package",
    "dae-fixture-phased",
    "--package",
    "dae-fixture-recipe",
    "--package",
    "dae-fixture-vectors",
];

/// The files that cargo built.
#[derive(Debug)]
pub struct Artefacts {
    host: PathBuf,
    plugins: BTreeMap<String, PathBuf>,
}

impl Artefacts {
    /// Returns the artefacts of this crate's own profile, which is debug under `cargo test`.
    ///
    /// # Panics
    /// Panics if the build fails. Cargo prints the reason.
    pub fn of_tests() -> &'static Artefacts {
        static BUILT: OnceLock<Option<Artefacts>> = OnceLock::new();
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        let calls: [&[&str]; 2] = [&["--workspace"], &BUILT_APART];
        BUILT
            .get_or_init(|| Artefacts::build(profile, &calls))
            .as_ref()
            .expect(FAILED)
    }

    /// Returns the artefacts of the release profile: the program, and the plugins that benches use.
    ///
    /// # Panics
    /// Panics if the build fails. Cargo prints the reason.
    pub fn released() -> &'static Artefacts {
        static BUILT: OnceLock<Option<Artefacts>> = OnceLock::new();
        BUILT
            .get_or_init(|| Artefacts::build("release", &[&RELEASED]))
            .as_ref()
            .expect(FAILED)
    }

    /// Returns the path of the executable `dae-host`.
    #[must_use]
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// Returns a plugin's file by the name of its library (`[lib] name`).
    ///
    /// # Panics
    /// Panics if the workspace has no such library.
    #[track_caller]
    #[must_use]
    pub fn plugin(&self, library: &str) -> &Path {
        let built = || self.plugins.keys().cloned().collect::<Vec<_>>().join(", ");
        self.plugins
            .get(library)
            .unwrap_or_else(|| panic!("no cdylib {library} was built; there are: {}", built()))
    }

    /// Builds the packages of each cargo call. Returns `None` if a build fails.
    fn build(profile: &str, calls: &[&[&str]]) -> Option<Artefacts> {
        let mut built = Vec::new();
        for packages in calls {
            built.extend(cargo_build(profile, packages)?);
        }
        let host = built
            .iter()
            .find_map(executable)
            .expect("the workspace has the executable dae-host");
        let plugins = built.iter().filter_map(plugin).collect();
        Some(Artefacts { host, plugins })
    }
}

/// Returns the file of the plugin Fleet, which is built when a test first needs it.
///
/// # Panics
/// Panics if the build fails. Cargo prints the reason.
#[must_use]
pub fn fleet() -> &'static Path {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let built = BUILT.get_or_init(|| {
        // One build at a time: this one takes a feature of the others' crates.
        let _ = Artefacts::of_tests();
        let built = cargo_build(profile, &FLEET)?;
        let plugins: BTreeMap<String, PathBuf> = built.iter().filter_map(plugin).collect();
        let file = plugins.get("fleet")?;
        // A later build of the whole workspace puts the empty library in its place.
        let kept = file.with_file_name(format!("fleet-with-nats{DLL_SUFFIX}"));
        std::fs::copy(file, &kept).ok()?;
        Some(kept)
    });
    built.as_deref().expect(FAILED)
}

/// Returns the workspace's directory.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in the workspace")
}

/// Returns cargo's target directory.
///
/// # Panics
/// Panics if cargo cannot read the workspace.
#[must_use]
pub fn target_directory() -> PathBuf {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps()
        .exec();
    metadata
        .expect("cargo reads the workspace")
        .target_directory
        .into_std_path_buf()
}

/// Runs `cargo build`. Returns `None` if it fails, for reasons that cargo prints.
fn cargo_build(profile: &str, packages: &[&str]) -> Option<Vec<Artifact>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .args([
            "build",
            "--message-format",
            "json-render-diagnostics",
            "--profile",
            profile,
        ])
        .args(packages)
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    if !output.status.success() {
        return None;
    }
    let artifact = |message| match message {
        Ok(Message::CompilerArtifact(artifact)) => Some(artifact),
        _ => None,
    };
    let messages = Message::parse_stream(output.stdout.as_slice());
    Some(messages.filter_map(artifact).collect())
}

fn executable(artifact: &Artifact) -> Option<PathBuf> {
    let path = artifact.executable.clone()?;
    (artifact.target.name == "dae-host").then(|| path.into_std_path_buf())
}

fn plugin(artifact: &Artifact) -> Option<(String, PathBuf)> {
    let is_ours = artifact.manifest_path.starts_with(workspace());
    let file = artifact
        .filenames
        .iter()
        .find(|file| file.as_str().ends_with(DLL_SUFFIX))?;
    let is_plugin = artifact.target.is_cdylib() && is_ours;
    is_plugin.then(|| {
        (
            artifact.target.name.clone(),
            file.clone().into_std_path_buf(),
        )
    })
}
