//! A plugin's crate: its metadata from cargo, and its build.
//!
//! The cargo at hand builds it in the crate's own directory, so that its toolchain and settings apply. Faults that the
//! manifests show are reported before a build, which may take minutes.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_metadata::{Artifact, Metadata, MetadataCommand, Package, Target};

use super::build::{self, Build, Built, Compiler, Outcome, RunningBuild};
use super::dep_info;
use super::obstacles;
use super::patch;
use super::profile::Profile;
use super::rebuild::{Cause, Event, Paths, Sources, Watch};
use super::replay::{Recorded, Recording};
use crate::Session;
use crate::show;
use dae_store::home::Home;
use dae_store::real_path;

/// Reads the output of a build: the libraries that it names, and whether it had anything to do.
pub(super) type Read =
    Box<dyn FnOnce(BufReader<ChildStdout>) -> Result<(Vec<PathBuf>, Outcome)> + Send>;

/// A crate's directory and its metadata from cargo.
pub(super) struct Crate {
    dir: PathBuf,
    metadata: Metadata,
    profile: Profile,
    is_quiet: bool,
    /// The record of the running build by cargo.
    recording: Option<Recording>,
    /// The compiler's command in the last build by cargo that ran it.
    recorded: Option<Recorded>,
    /// The libraries of the last successful build.
    files: Vec<PathBuf>,
}

impl Crate {
    /// Returns the crate in a directory.
    pub(super) fn at(dir: &Path, profile: &Profile, is_quiet: bool) -> Result<Crate> {
        let dir = directory(dir)?;
        let metadata = metadata(&dir)?;
        let plugin = Crate {
            dir,
            metadata,
            profile: profile.clone(),
            is_quiet,
            recording: None,
            recorded: None,
            files: Vec::new(),
        };
        match plugin.has_library() {
            true => Ok(plugin),
            false => Err(plugin.no_library()),
        }
    }

    /// Returns the directory for cargo's output.
    pub(super) fn target_directory(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// Returns whether the build makes a dynamic library, as far as the manifests show.
    fn has_library(&self) -> bool {
        self.targets().any(Target::is_cdylib)
    }

    /// Returns the targets of the crate itself.
    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.own().flat_map(|package| &package.targets)
    }

    /// Returns what cargo knows of the crate itself.
    fn own(&self) -> impl Iterator<Item = &Package> {
        let manifest = self.dir.join("Cargo.toml");
        let is_own = move |package: &&Package| package.manifest_path.as_std_path() == manifest;
        self.metadata.packages.iter().filter(is_own)
    }

    fn no_library(&self) -> anyhow::Error {
        anyhow!(
            "{} builds no dynamic library; its Cargo.toml needs\n[lib]\ncrate-type = [\"cdylib\"]",
            self.dir.display()
        )
    }

    /// Watches the crate's sources, from before its first build.
    pub(super) fn watch(&self, session: &Session, events: Sender<Event>) -> Sources {
        let watch = Watch {
            dir: &self.dir,
            left_out: self.left_out(&session.home),
            manifests: self.manifests(),
            has_build_script: self.has_build_script(),
            is_quiet: session.out.quiet,
        };
        Sources::watch(watch, events)
    }

    /// Returns whether a crate of the workspace has a build script, as of the last look at the manifests.
    pub(super) fn has_build_script(&self) -> bool {
        let packages = self.metadata.packages.iter();
        let mut targets = packages.flat_map(|package| &package.targets);
        targets.any(Target::is_custom_build)
    }

    /// Returns the files besides the sources that a build depends on: manifests, the lock file, the toolchain's and
    /// cargo's configuration, up to the root of the workspace.
    fn manifests(&self) -> Paths {
        let root = self.metadata.workspace_root.as_std_path();
        let up_to_root = self.dir.ancestors().take_while(|dir| dir.starts_with(root));
        let names = [
            "build.rs",
            "Cargo.toml",
            "Cargo.lock",
            "rust-toolchain",
            "rust-toolchain.toml",
            ".cargo/config.toml",
            ".cargo/config",
        ];
        let of_members = self.metadata.packages.iter();
        let of_members = of_members.map(|package| package.manifest_path.as_std_path().to_owned());
        up_to_root
            .flat_map(|dir| names.map(|name| dir.join(name)))
            .chain(of_members)
            .collect()
    }

    /// Returns the paths that hold no sources: cargo's output, and the files that a host writes into its home.
    fn left_out(&self, home: &Home) -> Vec<PathBuf> {
        let mut left_out = vec![real(self.target_directory())];
        let mut of_home = vec![
            home.store_dir(),
            home.library_copies_dir(),
            home.drop_in_dir(),
            home.states_dir(),
            home.logs_dir(),
            home.runtime.clone(),
            home.registry_file(),
            home.lock_file(),
        ];
        // The home may be the crate's own directory or a parent of it. Then only the host's own files in it are
        // excluded.
        let data = real(&home.data);
        if !self.dir.starts_with(&data) {
            of_home.push(data);
        }
        left_out.extend(of_home.iter().map(|path| real(path)));
        left_out
    }

    /// Builds the crate for the first time. Ctrl-C at the terminal ends the build with the program. The inner result is
    /// the build's own.
    ///
    /// # Errors
    /// Cargo can't be run.
    pub(super) fn build(&mut self) -> Result<Result<Built>> {
        let (command, read) = self.cargo_build();
        let mut build = Build::start_here(command, Compiler::Cargo, &RunningBuild::default())?;
        let output = read(build.output()?);
        Ok(self.ended(build, output))
    }

    /// Reads the manifests again if one of them is among the changes. Those that cargo can't read are left to the build,
    /// which says why.
    pub(super) fn read_manifests(&mut self, changes: &Paths) {
        let manifests = self.manifests();
        if changes.iter().any(|path| manifests.contains(path))
            && let Ok(metadata) = metadata(&self.dir)
        {
            self.metadata = metadata;
        }
    }

    /// Starts a build for a change. By the compiler alone, if only the crate's own sources have changed.
    pub(super) fn start(&mut self, cause: &Cause, running: &RunningBuild) -> Result<(Build, Read)> {
        self.read_manifests(&cause.paths);
        let (command, by, read) = match self.replayed(cause) {
            Some((command, read)) => (command, Compiler::Rustc, read),
            None => {
                let (command, read) = self.cargo_build();
                (command, Compiler::Cargo, read)
            }
        };
        Ok((Build::start(command, by, running)?, read))
    }

    /// Returns the compiler's own command, if that is enough for the change.
    fn replayed(&self, cause: &Cause) -> Option<(Command, Read)> {
        let recorded = self.recorded.as_ref()?;
        let [file] = self.files.as_slice() else {
            return None;
        };
        let sources = recorded.sources()?;
        let mut of_cargo = self.manifests();
        of_cargo.extend(dep_info::beside(file, &self.dir)?);
        // Editors make files for a moment and remove them.
        let is_passing = |path: &PathBuf| !path.exists() && !of_cargo.contains(path);
        let mut paths = cause.paths.iter();
        let is_own = !cause.is_asked
            && !cause.paths.is_empty()
            && paths.all(|path| sources.contains(path) || is_passing(path));
        if !is_own || self.has_build_script() {
            return None;
        }
        let file = file.clone();
        let read: Read = Box::new(move |mut output| {
            // It says nothing there; the end of the output is the end of the build.
            std::io::copy(&mut output, &mut std::io::sink())
                .context("cannot read what the compiler says")?;
            Ok((vec![file], Outcome::Compiled))
        });
        Some((recorded.command(show::stderr_ansi()), read))
    }

    /// Returns cargo's command. Its messages for this program go to standard output; errors and progress go straight to
    /// standard error.
    fn cargo_build(&mut self) -> (Command, Read) {
        let members = self.metadata.packages.iter();
        let members = members.map(|package| package.name.as_str());
        let mut command = Command::new(cargo());
        command
            .args(["build", "--message-format=json-render-diagnostics"])
            .args(self.profile.arguments(members))
            .args(patch::arguments(&self.metadata, &self.dir))
            .current_dir(&self.dir);
        if self.is_quiet {
            command.arg("--quiet");
        }
        self.recording = Recording::of(&mut command, &self.dir, self.target_directory());
        let is_ours = self.is_ours();
        let read = |output| build::read_messages(output, is_ours);
        (command, Box::new(read))
    }

    /// Returns the test for artefacts of the crate itself: a dependency may build a library, too.
    fn is_ours(&self) -> impl Fn(&Artifact) -> bool + Send + 'static {
        let manifest = self.dir.join("Cargo.toml");
        move |artefact| artefact.manifest_path.as_std_path() == manifest
    }

    /// Waits for the end of a build whose output has ended.
    pub(super) fn ended(
        &mut self,
        build: Build,
        output: Result<(Vec<PathBuf>, Outcome)>,
    ) -> Result<Built> {
        let by = build.by;
        let (status, took) = build.wait()?;
        let is_fresh = status.success() && matches!(output, Ok((_, Outcome::Fresh)));
        self.take_record(is_fresh);
        if !status.success() {
            let (dir, by) = (self.dir.display(), by.name());
            // Once a build has succeeded, a failure is the source's own, and a person waits for it.
            let obstacles = match self.files.is_empty() {
                true => obstacles::lines(&self.dir),
                false => String::new(),
            };
            bail!("{by} could not build {dir} ({status}); its reasons stand above{obstacles}");
        }
        let (files, outcome) = output?;
        if files.is_empty() {
            return Err(self.no_library());
        }
        if by == Compiler::Rustc
            && let Some(recorded) = &self.recorded
        {
            if let Err(error) = recorded.put_in_place(&files[0]) {
                self.recorded = None;
                return Err(error);
            }
            self.say_finished(took);
        }
        self.files.clone_from(&files);
        Ok(Built {
            files,
            outcome,
            by,
            took,
        })
    }

    /// Takes the compiler's command that a build by cargo has recorded. Cargo that has found nothing to do has run no
    /// compiler, and what was recorded before still holds. Cargo that has failed before it came to the crate has more to
    /// do than the compiler.
    fn take_record(&mut self, is_fresh: bool) {
        let Some(recording) = self.recording.take() else {
            return;
        };
        let record = recording.finish(&self.dir);
        if record.is_some() || !is_fresh {
            self.recorded = record;
        }
    }

    /// Says what cargo says at the end of a build.
    fn say_finished(&self, took: Duration) {
        if !self.is_quiet {
            let (profile, took) = (self.profile.name(), took.as_secs_f64());
            eprintln!("    Finished `{profile}` profile by rustc alone in {took:.2}s");
        }
    }

    /// Returns the files that a successful build has read, or `None` if that is not known.
    pub(super) fn sources(&self, built: &Built) -> Option<Paths> {
        let mut sources = Paths::new();
        for file in &built.files {
            sources.extend(dep_info::beside(file, &self.dir)?);
        }
        // The list beside the library is cargo's. The compiler alone may have read other files since.
        if built.by == Compiler::Rustc {
            sources.extend(self.recorded.as_ref()?.sources()?);
        }
        // With `build.dep-info-basedir`, the names are relative to a directory that is not known here.
        let mut roots = self.targets().filter(|target| target.is_cdylib());
        roots
            .all(|target| sources.contains(target.src_path.as_std_path()))
            .then_some(sources)
    }
}

/// Returns the directory of a crate, given it or its `Cargo.toml`.
pub(super) fn directory(path: &Path) -> Result<PathBuf> {
    let path = real_path::of(path)
        .with_context(|| format!("cannot find the directory {}", path.display()))?;
    let dir = match path.parent() {
        Some(parent) if path.ends_with("Cargo.toml") => parent.to_owned(),
        _ => path,
    };
    match dir.join("Cargo.toml").is_file() {
        true => Ok(dir),
        false => bail!("{} is not a crate: it has no Cargo.toml", dir.display()),
    }
}

/// Returns what cargo knows of a directory's crate and workspace, without their dependencies.
pub(super) fn metadata(dir: &Path) -> Result<Metadata> {
    let metadata = MetadataCommand::new()
        .cargo_path(cargo())
        .current_dir(dir)
        .no_deps()
        .exec();
    match metadata {
        Err(cargo_metadata::Error::Io(error)) => Err(no_cargo(&error)),
        metadata => metadata.with_context(|| {
            let obstacles = obstacles::lines(dir);
            format!("cargo cannot read {}{obstacles}", dir.display())
        }),
    }
}

fn no_cargo(error: &std::io::Error) -> anyhow::Error {
    anyhow!(
        "cannot run {} ({error}); `dev` builds with cargo: install Rust (https://rustup.rs), put cargo on the PATH, or set CARGO \
         to its path",
        cargo().display()
    )
}

/// Returns the cargo that runs this program, if one does, so that `cargo run -- dev` uses one toolchain throughout.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Resolves the links in the part of a path that exists: a watched path has none.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = real_path::of(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_crate_is_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = |dir: &Path| {
            format!(
                "{:#}",
                Crate::at(dir, &Profile::Quick, true)
                    .err()
                    .expect("no crate")
            )
        };
        assert!(text(dir.path()).contains("no Cargo.toml"));
        assert!(text(&dir.path().join("nowhere")).contains("cannot find the directory"));
    }
}
