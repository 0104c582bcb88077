//! The source tree that this program was built from, as long as it is there.
//!
//! Until `dae-plugin-api` is published, a new crate can only depend on a directory or a repository. A program that was
//! built in a clone knows that directory. On another machine the path means nothing, and anyone may have made it. So it
//! counts only if it holds the crate, and if nobody but the user and root can change it: its code will be compiled and
//! run.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dae_store::write_access::{self, AclTarget};
use rustix::process::geteuid;

/// The name of the crate that every plugin depends on.
pub(super) const API: &str = "dae-plugin-api";

/// The owner of a system's files.
const ROOT: u32 = 0;

/// The bit of a directory in which users can't replace each other's entries, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// The files and directories, seen from the crate, that decide what cargo compiles and runs. The macros are a crate of
/// their own, and both belong to the workspace above.
const CODE: [&str; 9] = [
    "",
    "Cargo.toml",
    "build.rs",
    "src",
    "macros",
    "macros/Cargo.toml",
    "macros/build.rs",
    "macros/src",
    "../Cargo.toml",
];

/// Returns the directory of the `dae-plugin-api` that this program was built with, if it is still there.
pub(super) fn plugin_api() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api");
    let dir = dir.canonicalize().ok()?;
    (is_plugin_api(&dir) && is_trusted(&dir)).then_some(dir)
}

/// Returns whether only the user and root can change the crate in `dir`, which has no symbolic link in its path.
fn is_trusted(dir: &Path) -> bool {
    let is_kept = CODE.iter().all(|part| {
        let kept = is_written_by_us(&dir.join(part), 0);
        // Nobody else can add a file that is not there: the directory is the user's.
        kept.unwrap_or_else(|error| error.kind() == io::ErrorKind::NotFound)
    });
    let mut above = dir.ancestors().skip(1);
    is_kept && above.all(|dir| is_written_by_us(dir, STICKY).unwrap_or(false))
}

/// Returns whether a file or directory belongs to the user or to root, and nobody else can write it. A symbolic link
/// never counts, since the owner of its target says nothing about it. Directories with a bit of `safe_bits` may be
/// written by others.
fn is_written_by_us(path: &Path, safe_bits: u32) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    let is_ours = [ROOT, geteuid().as_raw()].contains(&metadata.uid());
    if !is_ours || metadata.is_symlink() {
        return Ok(false);
    }
    let is_safe = metadata.is_dir() && metadata.mode() & safe_bits != 0;
    let others = || write_access::others_who_write(&metadata, AclTarget::Named(path));
    Ok(is_safe || others().is_none())
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
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn the_crate_is_known_by_its_manifest() {
        let dir = plugin_api().expect("this test runs in its workspace");
        assert!(is_plugin_api(&dir));
        assert!(!is_plugin_api(&dir.join("macros")));
        assert!(!is_plugin_api(&dir.join("nowhere")));
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
    }

    #[test]
    fn a_crate_that_others_can_change_is_not_trusted() {
        let above = tempfile::tempdir().expect("a directory");
        let above = above.path().canonicalize().expect("it is there");
        let dir = above.join("plugin-api");
        let manifest = dir.join("Cargo.toml");
        fs::create_dir_all(dir.join("src")).expect("our own");
        fs::write(&manifest, "").expect("our own");
        for (path, usual) in [
            (above.as_path(), 0o755),
            (&dir, 0o755),
            (&dir.join("src"), 0o755),
            (&manifest, 0o644),
        ] {
            set_mode(path, usual);
            assert!(is_trusted(&dir));
            set_mode(path, usual | 0o002);
            assert!(!is_trusted(&dir), "{}", path.display());
            set_mode(path, usual);
        }
        // Others may make entries beside the crate, and can't replace it.
        set_mode(&above, 0o1777);
        assert!(is_trusted(&dir));
        // In the crate itself, an entry may be a `build.rs`.
        set_mode(&dir, 0o1777);
        assert!(!is_trusted(&dir));
    }

    #[test]
    fn a_manifest_behind_a_symbolic_link_is_not_trusted() {
        let above = tempfile::tempdir().expect("a directory");
        let dir = above.path().canonicalize().expect("it is there");
        let elsewhere = plugin_api().expect("this test runs in its workspace");
        symlink(elsewhere.join("Cargo.toml"), dir.join("Cargo.toml")).expect("our own");
        assert!(is_plugin_api(&dir));
        assert!(!is_trusted(&dir));
    }
}
