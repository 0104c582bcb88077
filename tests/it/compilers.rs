//! Plugins from another compiler or another build profile than the host's.
//!
//! The other compiler is Debian's `rustc-web`, which `.ci/other-rustc` unpacks beside the toolchain. Where it is
//! missing, the tests that need it print a message and pass; under CI they fail.
//!
//! Every plugin here is built into a target directory of its own. In the shared one, cargo would replace the file that
//! the other tests install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dae_tests::artefacts::{target_directory, workspace};
use dae_tests::{Artefacts, Ecosystem, Guest, program};
use serde_json::{Value, json};

/// The fixture that uses everything at the plugin boundary; its library is `vectors`.
const PACKAGE: &str = "dae-fixture-vectors";

/// The longest build of one plugin with its dependencies on two busy cores, with a margin.
const BUILD_MAX: Duration = Duration::from_secs(600);

/// A build of [`PACKAGE`] that differs from the tests' own.
#[derive(Default)]
struct Build {
    /// The name of its target directory.
    label: &'static str,
    rustc: Option<PathBuf>,
    is_release: bool,
    panics_abort: bool,
}

impl Build {
    /// Builds the plugin and returns its file.
    #[track_caller]
    fn library(&self) -> PathBuf {
        let target = target_directory().join("compilers").join(self.label);
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--locked", "--package", PACKAGE, "--target-dir"])
            .arg(&target)
            .current_dir(workspace());
        if let Some(rustc) = &self.rustc {
            // Wrappers of the toolchain's compiler (a cache, clippy) must not be used for this one.
            command.env("RUSTC", rustc).env_remove("RUSTC_WRAPPER");
            command.env_remove("RUSTC_WORKSPACE_WRAPPER");
        }
        if self.is_release {
            command.arg("--release");
        }
        if self.panics_abort {
            command.args(["--config", "profile.dev.panic=\"abort\""]);
        }
        let _ = program::run(&mut command, BUILD_MAX).ok();
        let profile = if self.is_release { "release" } else { "debug" };
        let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        target.join(format!("{profile}/{prefix}vectors{suffix}"))
    }
}

/// Returns the compiler that `.ci/other-rustc` unpacked, or prints a message and returns `None` where it is missing.
fn other_rustc() -> Option<PathBuf> {
    let given = env::var_os("DAE_OTHER_RUSTC_DIR").map(|given| workspace().join(given));
    let directory = given.unwrap_or_else(|| target_directory().join("other-rustc"));
    let rustc = directory.join("rustc");
    if rustc.is_file() {
        return Some(rustc);
    }
    let text = format!(
        "there is no other compiler at {}; run .ci/other-rustc",
        rustc.display()
    );
    assert!(env::var_os("CI").is_none(), "{text}");
    eprintln!("SKIPPED: {text}");
    None
}

/// Builds a debug plugin with the other compiler.
fn by_other_rustc() -> Option<PathBuf> {
    let build = Build {
        label: "other",
        rustc: Some(other_rustc()?),
        ..Build::default()
    };
    Some(build.library())
}

/// Returns the file's manifest, as `check` reports it.
#[track_caller]
fn manifest(ecosystem: &Ecosystem, file: &Path) -> Value {
    let file = file.to_str().expect("UTF-8");
    let report = ecosystem.cli(&["check", file, "--json"]).ok().json();
    report["manifest"].clone()
}

#[track_caller]
fn install(ecosystem: &Ecosystem, name: &str, file: &Path) -> Guest {
    let file = file.to_str().expect("UTF-8");
    let _ = ecosystem.cli(&["install", name, file]).ok();
    assert_eq!(ecosystem.status(name)["mode"], "in-process");
    ecosystem.guest(name)
}

/// Asserts that the whole boundary works: values both ways, an error, events, futures that wait, threads, panics.
#[track_caller]
fn works(guest: &mut Guest) {
    assert_eq!(guest.ask("add", &json!([1, 2])), json!(3));
    let any = json!({"größe": [1.5, null, "\u{1F600}"]});
    assert_eq!(guest.ask("echo", &json!([any])), any);
    assert_eq!(guest.ask_in_vain("fail", &json!(["no"])).message, "no");
    assert_eq!(
        guest.ask_in_vain("add", &json!(["a", 2])).code,
        "bad-arguments"
    );
    assert_eq!(guest.ask("slow", &json!([5])), json!(5));
    assert_eq!(guest.ask("block", &json!([5])), json!(5));
    guest.send("push [2]\n");
    for line in ["tick [0]", "tick [1]", "push [2]"] {
        guest.expect(line);
    }
    for (command, arguments) in [("panic", json!([])), ("panic_later", json!([5]))] {
        let fault = guest.ask_in_vain(command, &arguments);
        assert_eq!(fault.code, "crashed", "{fault:?}");
        assert!(fault.message.contains("asked to panic"), "{fault:?}");
    }
    guest.expect_alive();
}

#[test]
fn a_plugin_of_another_compiler_works() {
    let Some(file) = by_other_rustc() else { return };
    let ecosystem = Ecosystem::start();
    let own = manifest(&ecosystem, &ecosystem.plugin("vectors"));
    let other = manifest(&ecosystem, &file);
    assert!(
        other["rustc"].is_string() && other["rustc"] != own["rustc"],
        "that is no other compiler: {other}"
    );
    works(&mut install(&ecosystem, "Other", &file));
}

#[test]
fn compilers_and_profiles_mix_in_one_host() {
    let ecosystem = Ecosystem::start_with(Artefacts::released());
    let released = Artefacts::released().plugin("vectors").to_owned();
    let mut guests = vec![
        install(&ecosystem, "Debug", Artefacts::of_tests().plugin("vectors")),
        install(&ecosystem, "Release", &released),
    ];
    if let Some(other) = by_other_rustc() {
        guests.push(install(&ecosystem, "Other", &other));
    }
    // Two rounds, so that each daemon is also called after all the others were.
    for _ in 0..2 {
        guests.iter_mut().for_each(works);
    }
}

#[test]
fn a_release_plugin_works_in_the_host_of_the_tests() {
    let build = Build {
        label: "release",
        is_release: true,
        ..Build::default()
    };
    let file = build.library();
    let ecosystem = Ecosystem::start();
    let mut debug = ecosystem.install("Debug", "vectors", &[]);
    works(&mut install(&ecosystem, "Release", &file));
    works(&mut debug);
}

#[test]
fn a_plugin_that_aborts_on_panic_is_refused_before_it_is_loaded() {
    let build = Build {
        label: "abort",
        panics_abort: true,
        ..Build::default()
    };
    let file = build.library();
    let ecosystem = Ecosystem::start();
    let path = file.to_str().expect("UTF-8");
    for command in [&["check", path][..], &["install", "Abort", path]] {
        let output = ecosystem.cli(command).code(1);
        assert!(
            output.says(&["panic=abort"]) && output.says(&["would end the host"]),
            "the message must give the reason: {output:?}"
        );
        assert!(
            output.says(&["unwind", "subprocess"]),
            "and what to do about it: {output:?}"
        );
    }
    assert_eq!(ecosystem.names(), ["Dae"]);
    let copies = std::fs::read_dir(ecosystem.home().join("images"));
    let loaded = copies.expect("the directory of private copies").count();
    assert_eq!(loaded, 0, "nothing of it may have been loaded");
}
