//! The replacement of an unpublished `dae-plugin-api` by the directory that this program was built with.
//!
//! A crate that names a version of `dae-plugin-api`, as the plugins of the workspace do, builds nowhere else before that
//! version is published. So `dev` passes cargo a `[patch]` on the command line; the author's files stay as they are. It
//! does so only if this program's own source is there and has a version that the crate accepts. A `[patch]` of the
//! author's takes precedence.

use std::ffi::OsString;
use std::fs;

use cargo_metadata::{Dependency, Metadata, Package};
use dae_plugin_api::API_VERSION;

use crate::source;

/// Returns the arguments for cargo, if the crate depends on a version of `dae-plugin-api` that this program has.
pub(super) fn arguments<'a>(
    metadata: &Metadata,
    mut own: impl Iterator<Item = &'a Package>,
) -> Vec<OsString> {
    let is_needed = own.any(|package| package.dependencies.iter().any(is_ours));
    let dir = match is_needed && !has_patch(metadata) {
        true => source::plugin_api(),
        false => None,
    };
    // A JSON string is a basic string of TOML, too.
    let dir = dir.and_then(|dir| serde_json::to_string(dir.to_str()?).ok());
    let Some(dir) = dir else {
        return Vec::new();
    };
    let replacement = format!("patch.crates-io.{}.path={dir}", source::API);
    vec!["--config".into(), replacement.into()]
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

/// Returns whether the manifest of the crate's workspace replaces `dae-plugin-api` itself.
fn has_patch(metadata: &Metadata) -> bool {
    let manifest = metadata.workspace_root.join("Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let patch = text.split_once("[patch.crates-io");
    patch.is_some_and(|(_, after)| after.contains(source::API))
}
