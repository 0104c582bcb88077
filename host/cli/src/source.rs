//! The source tree that this program was built from, as long as it is there.
//!
//! Until `dae-plugin-api` is published, a new crate can only depend on a directory or a repository. A program that was
//! built in a clone knows that directory. On another machine the path means nothing, and anyone may have made it. So it
//! counts only if it holds the crate, and if nobody but the user and root can change it: its code will be compiled and
//! run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dae_runtime::os::trust::is_written_by_us;

/// The name of the crate that every plugin depends on.
pub(super) const API: &str = "dae-plugin-api";

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
    (is_plugin_api(&dir) && is_trusted(&dir, is_written_by_us)).then_some(dir)
}

/// Returns whether only the user and root can change the crate in `dir`, which has no symbolic link in its path.
/// `is_ours` checks one path; with `true`, others may add entries to that directory.
fn is_trusted(dir: &Path, is_ours: impl Fn(&Path, bool) -> io::Result<bool>) -> bool {
    let is_kept = CODE.iter().all(|part| {
        let kept = is_ours(&dir.join(part), false);
        // Nobody else can add a file that is not there: the directory is the user's.
        kept.unwrap_or_else(|error| error.kind() == io::ErrorKind::NotFound)
    });
    let mut above = dir.ancestors().skip(1);
    is_kept && above.all(|dir| is_ours(dir, true).unwrap_or(false))
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

    #[test]
    fn a_crate_that_others_can_change_is_not_trusted() {
        let dir = Path::new("/home/ada/dae/plugin-api");
        // Neither is there: the crate has no build script, and its macros have none.
        let is_absent = |path: &Path| path.ends_with("build.rs");
        let trusted_unless = |changed: &Path, is_shared: bool| {
            is_trusted(dir, |path, may_be_shared| match path {
                path if is_absent(path) => Err(io::ErrorKind::NotFound.into()),
                path if path == changed => Ok(is_shared && may_be_shared),
                _ => Ok(true),
            })
        };
        assert!(trusted_unless(Path::new("/elsewhere"), false));
        for part in CODE.iter().filter(|part| !part.ends_with("build.rs")) {
            let part = dir.join(part);
            assert!(!trusted_unless(&part, false), "{}", part.display());
            // In the crate itself, an entry may be a `build.rs`.
            assert!(!trusted_unless(&part, true), "{}", part.display());
        }
        for above in dir.ancestors().skip(1) {
            assert!(!trusted_unless(above, false), "{}", above.display());
            // Others may make entries beside the crate, and can't replace it.
            assert!(trusted_unless(above, true), "{}", above.display());
        }
        let unknown = |_: &Path, _| Err(io::ErrorKind::PermissionDenied.into());
        assert!(!is_trusted(dir, unknown));
    }
}
