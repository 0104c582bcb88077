//! The packages of this workspace: those that can be published, and the plugins, which can be copied.
//!
//! Nothing is compiled or uploaded. `cargo publish --workspace --dry-run` does more, and needs the network.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use cargo_metadata::{MetadataCommand, Package};
use dae_tests::artefacts::workspace;
use dae_tests::program;

/// The longest time to pack all of them, on a busy machine.
const PACK_MAX: Duration = Duration::from_secs(120);

/// The crates that are published. All others say `publish = false`.
const PUBLISHED: [&str; 7] = [
    "dae-cli",
    "dae-common-tcp",
    "dae-host",
    "dae-plugin-api",
    "dae-plugin-macros",
    "dae-runtime",
    "dae-store",
];

/// The files that each package has besides its code.
const FILES: [&str; 3] = ["Cargo.toml", "LICENSE", "README.md"];

fn packages() -> Vec<Package> {
    let mut command = MetadataCommand::new();
    command
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps();
    command.exec().expect("cargo metadata").packages
}

#[test]
fn published_crates_have_a_description_and_a_licence() {
    let packages = packages();
    let is_published = |package: &&Package| package.publish.is_none();
    let published = packages.iter().filter(is_published);
    let mut names: Vec<&str> = published
        .clone()
        .map(|package| package.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, PUBLISHED);
    for package in published {
        let name = &package.name;
        assert_eq!(package.license.as_deref(), Some("MIT"), "{name}");
        let texts = [&package.description, &package.documentation];
        let is_there = |text: &&Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        assert!(texts.iter().all(is_there), "{name}");
        // crates.io takes at most five.
        assert!((1..=5).contains(&package.keywords.len()), "{name}");
        let from_nowhere = package
            .dependencies
            .iter()
            .find(|one| one.req.comparators.is_empty());
        assert!(
            from_nowhere.is_none(),
            "{name} names a path alone: {from_nowhere:?}"
        );
    }
}

#[test]
fn published_crates_are_packed_without_a_warning() {
    let target = tempfile::tempdir().expect("a directory");
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["package", "--offline", "--allow-dirty", "--no-verify"])
            .args(PUBLISHED.iter().flat_map(|name| ["--package", name]))
            .current_dir(workspace())
            .env("CARGO_TARGET_DIR", target.path())
            .stdin(Stdio::null());
        cargo
    };
    let output = program::run(&mut cargo(), PACK_MAX).ok();
    assert!(!output.says(&["warning"]), "{output:#?}");
    for name in PUBLISHED {
        let file = format!("package/{name}-0.1.0.crate");
        assert!(target.path().join(&file).is_file(), "{file}");
    }
    // The lists stand one after another, each in order.
    let listed = program::run(cargo().arg("--list"), PACK_MAX).ok().stdout;
    for file in FILES {
        let times = listed.lines().filter(|line| *line == file).count();
        assert_eq!(times, PUBLISHED.len(), "{file}: {listed}");
    }
    let template = "src/new/templates/README.md";
    assert!(listed.lines().any(|line| line == template), "{listed}");
}

#[test]
fn plugins_take_nothing_from_the_workspace() {
    let mut plugins = 0;
    for package in packages() {
        if !package
            .manifest_path
            .starts_with(workspace().join("plugins"))
        {
            continue;
        }
        plugins += 1;
        let text = fs::read_to_string(&package.manifest_path).expect("a manifest");
        for word in ["workspace", "path = "] {
            assert!(!text.contains(word), "{}: {word}: {text}", package.name);
        }
    }
    assert_eq!(plugins, 5);
}
