//! Records the compiler version and the target triple for the manifest of every plugin that is built with this crate.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=DAE_RUSTC={}", version.trim());
    println!("cargo::rustc-env=DAE_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
