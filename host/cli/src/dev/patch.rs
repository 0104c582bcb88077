//! The replacement of an unpublished `dae-plugin-api` by the directory that this program was built with.
//!
//! A crate that names a version of `dae-plugin-api`, as the plugins of the workspace do, builds nowhere else before that
//! version is published. So `dev` passes cargo a `[patch]` on the command line. The author's manifest stays as it is;
//! cargo writes the directory into `Cargo.lock`. It does so only if this program's own source is there and has a version
//! that the crate accepts. A `[patch]` of the author's takes precedence, in the workspace's manifest or in a
//! configuration file of cargo. Files that a configuration includes are not read.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Dependency, Metadata};
use dae_plugin_api::API_VERSION;

use crate::source;

/// Returns the arguments for cargo in the directory `dir`, if a crate of the workspace depends on a version of
/// `dae-plugin-api` that this program has.
pub(super) fn arguments(metadata: &Metadata, dir: &Path) -> Vec<OsString> {
    let mut packages = metadata.packages.iter();
    let is_needed = packages.any(|package| package.dependencies.iter().any(is_ours));
    let replacement = match is_needed && !has_patch(metadata, dir) {
        true => source::plugin_api(),
        false => None,
    };
    // A JSON string is a basic string of TOML, too.
    let replacement = replacement.and_then(|dir| serde_json::to_string(dir.to_str()?).ok());
    let Some(dir) = replacement else {
        return Vec::new();
    };
    let patch = format!("patch.crates-io.{}.path={dir}", source::API);
    vec!["--config".into(), patch.into()]
}

/// Returns whether it is a dependency on `dae-plugin-api` from crates.io, in the version of this program.
fn is_ours(dependency: &Dependency) -> bool {
    let is_published = dependency
        .source
        .as_ref()
        .is_some_and(|source| source.repr.starts_with("registry+"));
    let version = API_VERSION.parse();
    dependency.name == source::API
        && is_published
        && version.is_ok_and(|version| dependency.req.matches(&version))
}

/// Returns whether the author replaces `dae-plugin-api`.
fn has_patch(metadata: &Metadata, dir: &Path) -> bool {
    let manifest = metadata
        .workspace_root
        .join("Cargo.toml")
        .into_std_path_buf();
    let mut files = std::iter::once(manifest).chain(configurations(dir));
    files.any(|file| fs::read_to_string(file).is_ok_and(|text| patches_api(&text)))
}

/// Returns the configuration files that cargo reads in a directory, whether they are there or not.
fn configurations(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let above = dir.ancestors().map(|dir| dir.join(".cargo"));
    let own = env::var_os("CARGO_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let dirs = above.chain(own);
    dirs.flat_map(|dir| [dir.join("config.toml"), dir.join("config")])
}

/// Returns whether a manifest or a configuration replaces `dae-plugin-api` of crates.io.
///
/// It reads lines and no TOML, for which the program has no parser: tables and keys, in the ways in which people write
/// a patch.
fn patches_api(text: &str) -> bool {
    let mut table = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let line: String = line.chars().filter(|c| !" \t\"'".contains(*c)).collect();
        if let Some(header) = line.strip_prefix('[') {
            header
                .split(']')
                .next()
                .unwrap_or_default()
                .clone_into(&mut table);
            table.push('.');
        } else if let Some((key, value)) = line.split_once('=')
            && is_patch_of_api(&format!("{table}{key}"), value)
        {
            return true;
        }
    }
    false
}

/// Returns whether a key with the names of its tables, and its value, patch `dae-plugin-api`. Both are without quotes and
/// spaces. A patch under another name says `package`.
fn is_patch_of_api(key: &str, value: &str) -> bool {
    let Some(key) = key.strip_prefix("patch.") else {
        return false;
    };
    let is_of_crates_io = key.starts_with("crates-io") || key.contains("crates.io-index");
    let has_name = key.split('.').any(|part| part == source::API);
    let (direct, renamed) = (
        format!("{}=", source::API),
        format!("package={}", source::API),
    );
    let pair = format!("{}={value}", key.rsplit('.').next().unwrap_or_default());
    let mut parts = pair.split(['{', '}', ',']);
    let is_in_value = parts.any(|part| part == renamed || part.starts_with(&direct));
    is_of_crates_io && (has_name || is_in_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_found_in_the_ways_to_write_it() {
        for text in [
            "[patch.crates-io]\nfoo = \"1\"\ndae-plugin-api = { path = \"x\" }",
            "[patch.crates-io.dae-plugin-api]\npath = \"x\"",
            "[ patch . 'crates-io' ]\n\"dae-plugin-api\".path = \"x\"",
            "[patch]\ncrates-io.dae-plugin-api.path = \"x\"",
            "patch.crates-io.dae-plugin-api.path = \"x\"",
            "[patch]\ncrates-io = { dae-plugin-api = { path = \"x\" } }",
            "[patch.crates-io]\napi = { package = \"dae-plugin-api\", path = \"x\" }",
            "[patch.crates-io.api]\npath = \"x\"\npackage = \"dae-plugin-api\" # renamed",
            "[patch.\"https://github.com/rust-lang/crates.io-index\"]\ndae-plugin-api.path = \"x\"",
        ] {
            assert!(patches_api(text), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_patch() {
        for text in [
            "",
            "[patch.crates-io]\nfoo = { path = \"x\" }\n[dependencies]\ndae-plugin-api = \"0.1\"",
            "[patch.crates-io]\nfoo = { path = \"../dae-plugin-api\" }",
            "[patch.crates-io]\n# dae-plugin-api = { path = \"x\" }",
            "[patch.crates-io]\ndae-plugin-api-more = { path = \"x\" }",
            "[patch.\"https://host/x.git\"]\ndae-plugin-api = { path = \"x\" }",
            "[dependencies]\ndae-plugin-api = \"0.1\" # see [patch.crates-io]",
        ] {
            assert!(!patches_api(text), "{text}");
        }
    }

    #[test]
    fn the_configurations_above_a_directory_are_read() {
        let files: Vec<PathBuf> = configurations(Path::new("/a/b")).collect();
        for file in [
            "/a/b/.cargo/config.toml",
            "/a/.cargo/config",
            "/.cargo/config.toml",
        ] {
            assert!(files.contains(&PathBuf::from(file)), "{file}: {files:?}");
        }
    }
}
