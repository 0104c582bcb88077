//! The rule that only the seams know the operating system: the folders `os` of the host's crates.

use super::{Source, behind, none_of, sources};

/// The most lines of one condition. A bracket in a text may look like one that stays open.
const CONDITION_LINES_MAX: usize = 20;

#[test]
fn only_the_seams_know_the_operating_system() {
    let mut faults = Vec::new();
    for source in sources() {
        let is_told_apart = !source.path.starts_with("tests/") && !source.path.contains("/tests/");
        let is_seam = ["/src/os/", "/src/os.rs"]
            .iter()
            .any(|seam| source.path.contains(seam));
        if is_told_apart && !is_seam {
            let here = whole_conditions(&source).into_iter();
            let here = here.filter(|(_, code)| names_a_system(code));
            faults.extend(here.map(|(line, code)| format!("{}:{line}: {code}", source.path)));
        }
    }
    none_of(
        &faults,
        "code that differs between operating systems lies in a folder `os`",
    );
}

/// Returns the lines of a file, each condition of `cfg` with all its lines as one.
fn whole_conditions(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<(usize, &str)> = source.code().collect();
    let whole = |(at, (line, code)): (usize, &(usize, &str))| {
        let mut whole = (*code).to_owned();
        let rest = lines[at + 1..].iter().take(CONDITION_LINES_MAX);
        for (_, more) in rest.take_while(|_| is_conditional(code)) {
            if whole.matches('(').count() <= whole.matches(')').count() {
                break;
            }
            whole.push_str(more.trim());
        }
        (*line, whole)
    };
    lines.iter().enumerate().map(whole).collect()
}

fn is_conditional(code: &str) -> bool {
    let has = |word: &&str| behind(code, word).next().is_some();
    ["cfg", "cfg_attr"].iter().any(has)
}

/// Returns whether code is there for some operating systems only. The macros write a section's name, the store's lint of
/// unsafe code depends on the system, and a test may too.
fn names_a_system(code: &str) -> bool {
    const CRATES: [&str; 7] = [
        "close_fds",
        "libc",
        "nix",
        "rustix",
        "sd_notify",
        "signal_hook",
        "windows_sys",
    ];
    const SYSTEMS: [&str; 5] = ["linux", "target_family", "target_os", "unix", "windows"];
    let has = |word: &&str| behind(code, word).next().is_some();
    let is_allowed = ["cfg(all(test", "link_section", "(unsafe_code)"]
        .iter()
        .any(|part| code.contains(part));
    let calls = |word: &&str| behind(code, word).any(|after| after.starts_with("::"));
    let is_call =
        code.contains("std::os::") || code.contains("std::{os::") || CRATES.iter().any(calls);
    (is_conditional(code) && SYSTEMS.iter().any(has) && !is_allowed) || is_call
}

#[test]
fn a_condition_is_seen_whole() {
    for (text, line) in [
        ("#[cfg(windows)]\nfn a() {}", Some(1)),
        (
            "fn b() {}\n#[cfg(\n    any(\n        test,\n        windows, // why\n    )\n)]",
            Some(2),
        ),
        ("let c = cfg!(\n    target_os = \"linux\"\n);", Some(1)),
        ("#[cfg_attr(\n    not(unix),\n    ignore\n)]", Some(1)),
        ("use std::os::fd::AsFd;", Some(1)),
        ("#[cfg(all(\n    test,\n    unix,\n))]", None),
        ("#[cfg(test)]\nfn windows(windows: u8) {}", None),
        (
            "#[cfg(\n    debug_assertions\n)]\nlet windows = words.windows(2);",
            None,
        ),
    ] {
        let source = Source {
            path: String::new(),
            text: text.to_owned(),
        };
        let found = whole_conditions(&source).into_iter();
        let mut found = found.filter(|(_, code)| names_a_system(code));
        assert_eq!(found.next().map(|(line, _)| line), line, "{text}");
    }
}
