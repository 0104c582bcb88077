//! The source tree that this program was built from, as long as it is there.
//!
//! Until `dae-plugin-api` is published, a new crate can only depend on a directory or a repository. A program that was
//! built in a clone knows that directory. On another machine the path means nothing, so it counts only if it holds the
//! crate and belongs to the user or to root: its code will be compiled and run.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The name of the crate that every plugin depends on.
pub(super) const API: &str = "dae-plugin-api";

/// The owner of a system's files.
const ROOT: u32 = 0;

/// Returns the directory of the `dae-plugin-api` that this program was built with, if it is still there.
pub(super) fn plugin_api() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api");
    let dir = dir.canonicalize().ok().filter(|dir| is_plugin_api(dir))?;
    let owner = fs::metadata(dir.join("Cargo.toml")).ok()?.uid();
    let is_trusted = owner == ROOT || owner == geteuid().as_raw();
    is_trusted.then_some(dir)
}

/// Returns whether a directory holds the crate `dae-plugin-api`.
pub(super) fn is_plugin_api(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    let name = format!("name = \"{API}\"");
    manifest.lines().any(|line| line.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_is_known_by_its_manifest() {
        let dir = plugin_api().expect("this test runs in its workspace");
        assert!(is_plugin_api(&dir));
        assert!(!is_plugin_api(&dir.join("macros")));
        assert!(!is_plugin_api(&dir.join("nowhere")));
    }
}
