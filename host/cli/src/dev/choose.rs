//! The choice of a crate, where `dev` gets the directory of a workspace.
//!
//! A workspace without a package of its own may have several plugins. A person is asked for one; a program gets an error
//! that names them. Nothing is compiled before that.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Metadata, Package, Target};

use super::package;
use crate::words;
use dae_store::printable;

/// Returns the directory of the crate to build: the given one, or the chosen plugin of its workspace.
///
/// # Errors
/// There is no such directory, cargo can't read it, the workspace has no plugin, or nobody is there to choose.
pub(super) fn crate_in(path: &Path) -> Result<PathBuf> {
    let dir = package::directory(path)?;
    let metadata = package::metadata(&dir)?;
    let is_workspace =
        metadata.workspace_root.as_std_path() == dir && own_package(&metadata, &dir).is_none();
    if !is_workspace {
        return Ok(dir);
    }
    let plugins = plugins(&metadata);
    match plugins.as_slice() {
        [] => bail!(
            "{} is a workspace without a plugin: none of its crates has crate-type = [\"cdylib\"]",
            dir.display()
        ),
        [plugin] => Ok(plugin.clone()),
        plugins if io::stdin().is_terminal() && io::stderr().is_terminal() => ask(&dir, plugins),
        plugins => bail!(
            "{} is a workspace of {} plugins; name one:{}",
            dir.display(),
            plugins.len(),
            list(plugins, |_, plugin| {
                let plugin = plugin.to_string_lossy();
                format!("  dae-host dev {}", words::shell_word(&plugin))
            })
        ),
    }
}

fn own_package<'a>(metadata: &'a Metadata, dir: &Path) -> Option<&'a Package> {
    let manifest = dir.join("Cargo.toml");
    let mut packages = metadata.packages.iter();
    packages.find(|package| package.manifest_path.as_std_path() == manifest)
}

/// Returns the directories of the crates that build a dynamic library, sorted.
fn plugins(metadata: &Metadata) -> Vec<PathBuf> {
    let packages = metadata.packages.iter();
    let plugins = packages.filter(|package| package.targets.iter().any(Target::is_cdylib));
    let directories = plugins.filter_map(|package| package.manifest_path.parent());
    let mut directories: Vec<PathBuf> = directories
        .map(|dir| dir.as_std_path().to_owned())
        .collect();
    directories.sort();
    directories
}

fn list(plugins: &[PathBuf], row: impl Fn(usize, &Path) -> String) -> String {
    let rows = plugins.iter().enumerate();
    rows.map(|(index, plugin)| format!("\n{}", row(index + 1, plugin)))
        .collect()
}

/// Asks a person for one of the plugins.
fn ask(dir: &Path, plugins: &[PathBuf]) -> Result<PathBuf> {
    let rows = list(plugins, |number, plugin| {
        let plugin = plugin.strip_prefix(dir).unwrap_or(plugin);
        format!("{number:>4}  {}", plugin.display())
    });
    loop {
        let text = format!(
            "The workspace has these plugins:{rows}\nWhich one? [1-{}] ",
            plugins.len()
        );
        eprint!("{}", printable::message(&text));
        io::stderr()
            .flush()
            .context("cannot ask which plugin to build")?;
        let mut answer = String::new();
        let length = io::stdin()
            .read_line(&mut answer)
            .context("cannot read which plugin to build")?;
        if length == 0 {
            bail!("no plugin was chosen");
        }
        let number: Option<usize> = answer.trim().parse().ok();
        if let Some(plugin) = number.and_then(|number| plugins.get(number.checked_sub(1)?)) {
            return Ok(plugin.clone());
        }
    }
}
