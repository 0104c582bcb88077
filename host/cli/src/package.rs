//! A plugin's crate: its metadata from cargo, and its build.
//!
//! The cargo at hand builds it in the crate's own directory, so that its toolchain and settings apply. Faults that the
//! manifests show are reported before a build, which may take minutes.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_metadata::{Artifact, Message, Metadata, MetadataCommand};

use super::Session;
use super::rebuild::{Outcome, Sources, Watch};
use dae_store::home::Home;
use dae_store::printable;

/// The result of a build.
pub(super) struct Built {
    /// The crate's dynamic libraries; usually one.
    pub(super) files: Vec<PathBuf>,
    outcome: Outcome,
}

/// A crate's directory and its metadata from cargo.
pub(super) struct Crate {
    dir: PathBuf,
    metadata: Metadata,
}

impl Crate {
    /// Returns the crate in a directory, or that of a `Cargo.toml`.
    pub(super) fn at(path: &Path) -> Result<Crate> {
        let found = path
            .canonicalize()
            .with_context(|| format!("cannot find the directory {}", path.display()))?;
        let dir = match found.parent() {
            Some(parent) if found.ends_with("Cargo.toml") => parent.to_owned(),
            _ => found,
        };
        if !dir.join("Cargo.toml").is_file() {
            bail!("{} is not a crate: it has no Cargo.toml", dir.display());
        }
        let metadata = MetadataCommand::new()
            .cargo_path(cargo())
            .current_dir(&dir)
            .no_deps()
            .exec();
        let metadata = metadata.with_context(|| format!("cargo cannot read {}", dir.display()))?;
        let plugin = Crate { dir, metadata };
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
        let manifest = self.dir.join("Cargo.toml");
        let is_workspace = self.metadata.root_package().is_none();
        let packages = self
            .metadata
            .packages
            .iter()
            .filter(|package| is_workspace || package.manifest_path.as_std_path() == manifest);
        let mut targets = packages.flat_map(|package| &package.targets);
        targets.any(cargo_metadata::Target::is_cdylib)
    }

    fn no_library(&self) -> anyhow::Error {
        anyhow!(
            "{} builds no dynamic library; its Cargo.toml needs\n[lib]\ncrate-type = [\"cdylib\"]",
            self.dir.display()
        )
    }

    pub(super) fn watch(&self, session: &Session) -> Sources {
        let packages = self.metadata.packages.iter();
        let mut targets = packages.flat_map(|package| &package.targets);
        Sources::watch(Watch {
            dir: &self.dir,
            left_out: self.left_out(&session.home),
            has_build_script: targets.any(cargo_metadata::Target::is_custom_build),
            is_quiet: session.out.quiet,
        })
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

    /// Builds the crate again whenever its sources change. The host notices the new file by itself, and reloads it.
    pub(super) fn rebuild_on_change(self, sources: Sources, is_quiet: bool) -> Result<()> {
        sources.on_change(move || match self.build(is_quiet) {
            Ok(built) => built.outcome,
            Err(error) => {
                let text = format!("{error:#}; what runs, runs on");
                eprintln!("{}", printable::message(&text));
                Outcome::Compiled
            }
        })
    }

    /// Builds the crate.
    pub(super) fn build(&self, is_quiet: bool) -> Result<Built> {
        let cargo = cargo();
        let mut child = self
            .cargo_build(is_quiet)
            .spawn()
            .with_context(|| format!("cannot run {}", cargo.display()))?;
        let stdout = child.stdout.take().context("cargo was given a pipe")?;
        let built = self.built(BufReader::new(stdout));
        let status = child.wait().context("cannot wait for cargo")?;
        let dir = self.dir.display();
        if !status.success() {
            bail!("cargo could not build {dir} ({status}); its reasons stand above");
        }
        let built = built?;
        match built.files.is_empty() {
            true => Err(self.no_library()),
            false => Ok(built),
        }
    }

    /// Cargo's messages for this program go to standard output; errors and progress go straight to standard error.
    fn cargo_build(&self, is_quiet: bool) -> Command {
        let mut command = Command::new(cargo());
        command.args([
            "build",
            "--release",
            "--message-format=json-render-diagnostics",
        ]);
        if is_quiet {
            command.arg("--quiet");
        }
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn built(&self, messages: impl std::io::BufRead) -> Result<Built> {
        let mut built = Built {
            files: Vec::new(),
            outcome: Outcome::Fresh,
        };
        for message in Message::parse_stream(messages) {
            if let Message::CompilerArtifact(artefact) =
                message.context("cannot read what cargo says")?
            {
                if !artefact.fresh {
                    built.outcome = Outcome::Compiled;
                }
                built.files.extend(self.library(&artefact));
            }
        }
        Ok(built)
    }

    /// Returns the artefact's dynamic library, if it belongs to the crate itself: a dependency may build one, too.
    fn library(&self, artefact: &Artifact) -> Option<PathBuf> {
        let ours = artefact.manifest_path.as_std_path() == self.dir.join("Cargo.toml");
        let member = self.metadata.root_package().is_none()
            && self
                .metadata
                .workspace_members
                .contains(&artefact.package_id);
        let mut files = artefact.filenames.iter();
        let file = files.find(|file| file.extension() == Some(std::env::consts::DLL_EXTENSION))?;
        (artefact.target.is_cdylib() && (ours || member)).then(|| file.clone().into_std_path_buf())
    }
}

/// Returns the cargo that runs this program, if one does, so that `cargo run -- dev` uses one toolchain throughout.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Resolves the links in the part of a path that exists: a watched path has none.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
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
        let text = |dir: &Path| format!("{:#}", Crate::at(dir).err().expect("no crate"));
        assert!(text(dir.path()).contains("no Cargo.toml"));
        assert!(text(&dir.path().join("nowhere")).contains("cannot find the directory"));
    }
}
