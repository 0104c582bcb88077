//! Plugins that were built before there were parts.

use dae_tests::{Ecosystem, artefacts::Artefacts};

use super::{ASKS, MODES, line};

/// Returns a plugin's file with these texts in place of others of the same length.
fn altered(ecosystem: &Ecosystem, texts: &[(&str, &str)]) -> String {
    let mut bytes = std::fs::read(Artefacts::of_tests().plugin("vectors")).expect("a plugin");
    for (before, after) in texts {
        assert_eq!(before.len(), after.len());
        let at: Vec<usize> = (0..bytes.len() - before.len())
            .filter(|&at| bytes[at..].starts_with(before.as_bytes()))
            .collect();
        assert!(!at.is_empty(), "{before} is not in the file");
        for at in at {
            bytes[at..at + after.len()].copy_from_slice(after.as_bytes());
        }
    }
    let file = ecosystem.scratch().join(format!("{}.so", texts.len()));
    std::fs::write(&file, bytes).expect("a file");
    file.to_str().expect("UTF-8").to_owned()
}

/// The change of the manifest that makes `echo` a command `part`.
const NAMED_PART: (&str, &str) = (r#""name":"echo""#, r#""name":"part""#);
/// The change that hides that `count` sends parts, as a manifest of an earlier plugin doesn't have that member.
const UNAWARE: (&str, &str) = (r#""parts":"items""#, r#""earls":"items""#);

#[test]
fn a_command_of_the_name_part_stays_a_command() {
    let mut ecosystem = Ecosystem::start();
    let file = altered(&ecosystem, &[NAMED_PART, UNAWARE]);
    for (name, flags) in MODES {
        let _ = ecosystem
            .cli(&[&["install", name, &file], flags].concat())
            .ok();
        let mut guest = ecosystem.guest(name);
        guest.send(ASKS);
        assert_eq!(line(&mut guest, "part#7 [1]"), "part#7 [1]");
        assert_eq!(
            line(&mut guest, "part [{\"command\":\"part\",\"item\":1}]"),
            "part [{\"command\":\"part\",\"item\":1}]"
        );
        assert_eq!(line(&mut guest, "count#7 [2]"), "count#7 [[1,2]]");
        assert_eq!(
            ecosystem.cli(&["call", name, "part", "5"]).ok().stdout,
            "5\n"
        );
        assert_eq!(
            ecosystem.cli(&["call", name, "count", "2"]).ok().stdout,
            "[1,2]\n"
        );
    }
    ecosystem.stop();
}

#[test]
fn a_plugin_that_sends_parts_and_has_a_command_of_that_name_is_refused() {
    let mut ecosystem = Ecosystem::start();
    let file = altered(&ecosystem, &[NAMED_PART]);
    let refused = ecosystem.cli(&["install", "Vectors", &file]).code(1);
    assert!(
        refused.says(&["a command named part", "rename it"]),
        "{refused:?}"
    );
    ecosystem.stop();
}
