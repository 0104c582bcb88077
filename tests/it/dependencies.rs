//! Rules for this workspace's dependencies: their licences, their source, and one version of each.
//!
//! Sources and versions are read from `Cargo.lock`, which lists the packages of every platform. Licences are read from
//! `cargo metadata`, which knows those of this platform. Nothing is downloaded. Security advisories need a downloaded
//! database and are checked by `cargo deny`: see `.ci/deny.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::MetadataCommand;
use dae_tests::artefacts::workspace;

/// Licences that require no more than attribution.
const LICENCES: [&str; 8] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "BSD-3-Clause",
];

/// Packages under another licence, each with the reason why it is acceptable.
const LICENCE_EXCEPTIONS: [(&str, &str, &str); 3] = [
    (
        "borrow-or-share",
        "MIT-0",
        "jsonschema needs it, in tests alone; asks for nothing",
    ),
    (
        "generational-arena",
        "MPL-2.0",
        "abi_stable needs it; the MPL asks for the source of changed files, and none is changed",
    ),
    (
        "notify",
        "CC0-1.0",
        "gives up all rights; no patent is known for watching files",
    ),
];

/// Packages that occur in several versions, each with the reason.
const VERSION_EXCEPTIONS: [(&str, &str); 14] = [
    (
        "bit-set",
        "proptest wants 0.8, jsonschema 0.11; tests alone",
    ),
    ("bit-vec", "as bit-set"),
    ("getrandom", "jsonschema wants 0.3, others 0.4; tests alone"),
    (
        "hashbrown",
        "jsonschema wants 0.16, others 0.17; tests alone",
    ),
    (
        "cpufeatures",
        "const-hex, for the feature `otlp` alone, wants 0.2",
    ),
    (
        "rand",
        "opentelemetry_sdk, for the feature `otlp` alone, wants 0.9",
    ),
    (
        "rand_chacha",
        "nkeys, for the plugin Fleet alone, wants 0.3 and rand 0.8",
    ),
    ("rand_core", "as rand"),
    ("r-efi", "as getrandom"),
    (
        "libloading",
        "abi_stable 0.11.3, the last there is, wants 0.7",
    ),
    ("signal-hook", "crossterm wants 0.3, for reedline; ours 0.4"),
    (
        "signal-hook",
        "crossterm 0.29, the newest, wants 0.3, ours 0.4",
    ),
    (
        "syn",
        "the macros of abi_stable want 1, most others 2, ours 3",
    ),
    (
        "windows-sys",
        "fd-lock wants 0.59, for reedline on Windows; ours 0.61",
    ),
];

/// The only source of packages.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A package of the lock file.
#[derive(Default)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

fn locked() -> Vec<Locked> {
    let text = fs::read_to_string(workspace().join("Cargo.lock")).expect("the lock file");
    let packages = text.split("[[package]]").skip(1).map(|block| {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim_matches([' ', '=', '"']).to_owned())
        };
        Locked {
            name: value("name").expect("a name"),
            version: value("version").expect("a version"),
            source: value("source"),
        }
    });
    let packages: Vec<Locked> = packages.collect();
    assert!(packages.len() > 50, "the lock file is not as expected");
    packages
}

#[track_caller]
fn none_of(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[test]
fn packages_come_from_one_source() {
    let is_elsewhere =
        |package: &Locked| package.source.as_deref().is_some_and(|from| from != SOURCE);
    let faults: Vec<String> = locked()
        .into_iter()
        .filter(is_elsewhere)
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.source))
        .collect();
    none_of(&faults, "a dependency comes from crates.io");
}

#[test]
fn packages_come_in_one_version() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in locked() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let allowed: BTreeSet<&str> = VERSION_EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    let unknown = versions
        .iter()
        .filter(|(name, _)| !allowed.contains(name.as_str()));
    let mut faults: Vec<String> = unknown
        .map(|(name, all)| format!("{name}: {all:?}"))
        .collect();
    let gone = allowed.iter().filter(|name| !versions.contains_key(**name));
    faults.extend(gone.map(|name| format!("{name}: its exception is needed no more")));
    none_of(
        &faults,
        "a package has one version, or an exception with its reason",
    );
}

#[test]
fn licences_ask_for_no_more_than_to_be_named() {
    let mut command = MetadataCommand::new();
    command.manifest_path(workspace().join("Cargo.toml"));
    // The packages of this platform are on disk, since this test was built; others would be downloaded.
    let platform = format!("--filter-platform={}", platform());
    command.other_options(["--locked".to_owned(), "--offline".to_owned(), platform]);
    let metadata = command.exec().expect("cargo metadata");
    let mut exceptions: BTreeSet<&str> =
        LICENCE_EXCEPTIONS.iter().map(|(name, ..)| *name).collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let licence = package.license.as_deref().unwrap_or("no licence");
        let excepted = LICENCE_EXCEPTIONS
            .iter()
            .any(|(name, of, _)| *name == package.name.as_str() && *of == licence);
        match excepted {
            true => drop(exceptions.remove(package.name.as_str())),
            false if is_allowed(licence) => {}
            false => faults.push(format!("{} {}: {licence}", package.name, package.version)),
        }
    }
    faults.extend(
        exceptions
            .iter()
            .map(|name| format!("{name}: its exception is needed no more")),
    );
    none_of(
        &faults,
        "a licence is one of the list, or an exception with its reason",
    );
}

/// Returns the target triple that this test was built for.
fn platform() -> String {
    let output = std::process::Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

/// Returns whether the licences of an expression can be chosen so that all are allowed.
fn is_allowed(expression: &str) -> bool {
    let known = |licence: &str| LICENCES.contains(&licence.trim_matches(['(', ')', ' ']));
    // `/` is an old way to write OR. Every AND in the expressions stands outside of the brackets.
    let expression = expression.replace('/', " OR ");
    let all_of = |part: &str| part.split(" OR ").any(known);
    expression.split(" AND ").all(all_of)
}

#[test]
fn a_licence_expression_is_understood() {
    for allowed in [
        "MIT",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "GPL-3.0 OR MIT",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR Apache-2.0) AND MPL-2.0",
        "no licence",
        "",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
