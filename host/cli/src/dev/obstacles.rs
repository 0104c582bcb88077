//! The reasons outside of a crate for which a build fails: no compiler, one that is too old, or no linker.
//!
//! Cargo and rustc report each of them, but in words that name no remedy, or among many others. So after a first build
//! that has failed, `dev` looks for them and adds a line. It decides nothing else by them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::program_on_path;
use dae_runtime::os::wording::LINKER;

/// The oldest compiler that builds `dae-plugin-api`: the `rust-version` of its manifest.
const RUSTC_MIN: (u32, u32) = (1, 85);

/// Returns the obstacles that are there for a build in `dir`, each on a line of its own; empty if there are none.
pub(super) fn lines(dir: &Path) -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let version = Command::new(&rustc).arg("-V").current_dir(dir).output();
    let rustc = rustc.to_string_lossy();
    let compiler = match version {
        Err(error) => Some(format!(
            "cannot run the compiler {rustc} ({error}): install Rust (https://rustup.rs), and put its programs on the PATH"
        )),
        Ok(output) => too_old(&String::from_utf8_lossy(&output.stdout)),
    };
    let missing = LINKER.filter(|(linker, _)| program_on_path(linker).is_none());
    let linker = missing.map(|(linker, remedy)| {
        format!(
            "there is no linker `{linker}` on the PATH, which rustc needs unless another one is configured: {remedy}"
        )
    });
    let obstacles = compiler.into_iter().chain(linker);
    obstacles.map(|line| format!("\n{line}")).collect()
}

/// Returns the obstacle that a compiler is, given its own version line, if it is too old.
fn too_old(line: &str) -> Option<String> {
    let version = line.split_whitespace().nth(1)?;
    let mut numbers = version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let (min_major, min_minor) = RUSTC_MIN;
    ((major, minor) < RUSTC_MIN).then(|| {
        format!(
            "the compiler is rustc {version}, and dae-plugin-api needs {min_major}.{min_minor} or newer: install a newer toolchain \
             (with rustup: `rustup update`), or see whether a rust-toolchain file holds back the crate's"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;

    #[test]
    fn a_compiler_is_too_old_below_the_version_of_the_manifest() {
        for (line, is_too_old) in [
            ("rustc 1.84.1 (e71f9a9a9 2025-01-27)", true),
            ("rustc 1.85.0 (4d91de4e4 2025-02-17)", false),
            ("rustc 1.96.0-nightly (abc 2026-04-14)", false),
            ("rustc 2.0.0", false),
            ("", false),
            ("a wrapper of someone's", false),
        ] {
            assert_eq!(too_old(line).is_some(), is_too_old, "{line}");
        }
        let dir = source::plugin_api().expect("the workspace of this test");
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).expect("its manifest");
        let (major, minor) = RUSTC_MIN;
        assert!(manifest.contains(&format!("rust-version = \"{major}.{minor}\"")));
    }
}
