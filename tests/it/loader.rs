//! The system's loader: its refusals are reported in its own words with a remedy, and a file that finds no space in the
//! host's process runs in another.

use std::path::PathBuf;

use dae_tests::{Ecosystem, spoil};
use serde_json::json;

/// Flags of `install` for both modes, and for the host's process without a preflight.
const WAYS: [&[&str]; 3] = [
    &[],
    &["--isolate"],
    &["--settings", r#"{"preflight": false}"#],
];

/// Writes a copy of a plugin in which the name of a library or a symbol is replaced by one that does not exist.
fn renamed(ecosystem: &Ecosystem, library: &str, (from, to): (&str, &str)) -> PathBuf {
    let name = |name: &str| [name.as_bytes(), b"\0"].concat();
    let bytes = std::fs::read(ecosystem.plugin(library)).expect("a plugin");
    let bytes = spoil::replace_all(bytes, &name(from), &name(to));
    spoil::write(&ecosystem.scratch(), &format!("{library}.so"), &bytes)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_loaders_reason_is_told_with_a_way_out() {
    let ecosystem = Ecosystem::start();
    let library = ("libgcc_s.so.1", "libgcc_x.so.1");
    let symbol = ("pthread_key_create", "pthread_key_creatx");
    let cases = [
        ("sample", library, ["libgcc_x.so.1", "LD_LIBRARY_PATH"]),
        ("cramped", library, ["libgcc_x.so.1", "$ORIGIN"]),
        ("counter", symbol, ["pthread_key_creatx", "is not linked"]),
    ];
    for (plugin, names, expected) in cases {
        let file = renamed(&ecosystem, plugin, names);
        for flags in WAYS {
            let arguments = [&["install", "Bad", file.to_str().expect("UTF-8")], flags].concat();
            let output = ecosystem.cli(&arguments).code(1);
            for part in expected {
                assert!(output.stderr.contains(part), "{flags:?}: {output:#?}");
            }
            for part in ["dlopen", "/images/", "/store/"] {
                assert!(!output.stderr.contains(part), "{flags:?}: {output:#?}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn check_tells_which_libraries_a_plugin_needs() {
    let ecosystem = Ecosystem::asleep();
    let file = renamed(&ecosystem, "cramped", ("libgcc_s.so.1", "libgcc_x.so.1"));
    let file = file.to_str().expect("UTF-8");
    let output = ecosystem.cli(&["check", file]).ok();
    assert!(output.stdout.contains("libgcc_x.so.1"), "{output:#?}");
    assert!(!output.says(&["private copy"]), "{output:#?}");
    let _ = spoil::write(&ecosystem.scratch(), "libgcc_x.so.1", b"a library");
    let output = ecosystem.cli(&["check", file]).ok();
    assert!(output.says(&["private copy"]), "{output:#?}");
    let needs = ecosystem.cli(&["check", "--json", file]).ok().json()["needs"].clone();
    assert!(
        needs
            .as_array()
            .is_some_and(|all| all.contains(&json!("libgcc_x.so.1"))),
        "{needs}"
    );
}

/// A few files of the fixture fill the space that glibc reserves for static thread-local storage.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[test]
fn a_file_that_the_hosts_process_has_no_room_for_runs_in_its_own() {
    const FILES: u8 = 6;
    let ecosystem = Ecosystem::start();
    let host = ecosystem.pid();
    let plain = std::fs::read(ecosystem.plugin("cramped")).expect("a plugin");
    let mut guest = ecosystem.install("Cramped", "cramped", &[]);
    assert_eq!(
        ecosystem.status("Cramped")["pid"],
        host,
        "the first has room"
    );
    for number in 0..FILES {
        // Bytes after the end of a library change its content and not its code.
        let bytes = [plain.as_slice(), &[number]].concat();
        let file = spoil::write(&ecosystem.scratch(), &format!("{number}.so"), &bytes);
        let file = file.to_str().expect("UTF-8");
        let output = ecosystem
            .cli(&["install", "Cramped", file, "--replace"])
            .ok();
        assert!(output.stdout.starts_with("accepted"), "{output:#?}");
        assert!(guest.ask("place", &json!([])).is_i64());
    }
    assert_ne!(
        ecosystem.status("Cramped")["pid"],
        host,
        "the last has none"
    );
    ecosystem.until_logged("Cramped", "runs in a process of its own");
    // Other plugins are not affected.
    let _other = ecosystem.install("Sample", "sample", &[]);
    assert_eq!(ecosystem.status("Sample")["pid"], host);
}
