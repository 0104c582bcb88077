//! The set of the stored texts: each command has one, each is compared, and the pages show them as they are.

use std::collections::BTreeSet;
use std::fs;

use dae_tests::Ecosystem;
use dae_tests::artefacts::workspace;

use crate::pages::{fences, json, page, pages};

const STORED: &str = "tests/it/shown/snapshots";

/// The files that name the stored texts.
const SOURCES: [&str; 4] = [
    "tests/it/shown/changing.rs",
    "tests/it/shown/endless.rs",
    "tests/it/shown/reading.rs",
    "tests/it/shown/screens.rs",
];

/// Returns the names of the stored texts.
fn stored() -> BTreeSet<String> {
    let entries = fs::read_dir(workspace().join(STORED)).expect("the stored texts");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    names
        .filter_map(|name| name.strip_suffix(".snap").map(str::to_owned))
        .collect()
}

#[test]
fn every_command_has_a_stored_text() {
    let stored = stored();
    let is_shown = |command: &&String| {
        let part = format!("{command}-");
        stored.contains(*command) || stored.iter().any(|name| name.starts_with(&part))
    };
    let commands = json::commands(&Ecosystem::asleep());
    assert!(commands.len() > 30, "{commands:?}");
    let missing: Vec<_> = commands.iter().filter(|name| !is_shown(name)).collect();
    assert!(
        missing.is_empty(),
        "commands without a stored text: {missing:?}"
    );
}

#[test]
fn every_stored_text_is_compared() {
    let sources: String = SOURCES.iter().map(page).collect();
    let is_compared = |name: &&String| {
        let (name, size) = name.rsplit_once('-').unwrap_or((name, ""));
        let is_size = size.split('x').all(|number| number.parse::<u16>().is_ok());
        let whole = format!("\"{name}-{size}\"");
        let name = format!("\"{name}\"");
        match (size, is_size) {
            ("", _) | (_, true) => sources.contains(&name),
            _ => sources.contains(&whole),
        }
    };
    let stored = stored();
    let stale: Vec<_> = stored.iter().filter(|name| !is_compared(name)).collect();
    assert!(
        stale.is_empty(),
        "stored texts that nothing compares: {stale:?}"
    );
}

/// A command line, and the words of all that it prints.
type Printed = (String, Vec<String>);

/// Returns the command lines of a transcript or a page.
fn printed(text: &str) -> Vec<Printed> {
    let mut all: Vec<Printed> = Vec::new();
    for line in text.lines().take_while(|line| *line != "# without a host") {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push((command.to_owned(), Vec::new()));
        } else if let Some((_, words)) = all.last_mut()
            && !line.starts_with("= ")
        {
            let line = line.strip_prefix("! ").unwrap_or(line);
            words.extend(line.split_whitespace().map(str::to_owned));
        }
    }
    all
}

/// Returns whether a fence shows a stored text as it is: whole command lines of a transcript, or whole screens.
fn is_as_stored(fence: &str, stored: &str) -> bool {
    match fence.starts_with("$ ") {
        true => {
            let stored = printed(stored);
            printed(fence).iter().all(|one| stored.contains(one))
        }
        false => stored.contains(fence.trim_end()),
    }
}

/// The second word of such a fence is the name of the stored text. A page may break long lines.
#[test]
fn the_pages_show_the_stored_texts() {
    let mut count = 0;
    for path in pages() {
        for fence in fences(&page(&path)) {
            let name = fence.info.split(' ').nth(1).unwrap_or_default();
            if !name.ends_with(".snap") {
                continue;
            }
            let stored = page(format!("{STORED}/{name}"));
            let shown = &fence.text;
            assert!(
                is_as_stored(shown, &stored),
                "{}: {name} is\n{stored}\nand not\n{shown}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 10, "{count} stored texts in the pages");
}
