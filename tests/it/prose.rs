//! The openings of comments and messages in the source: one that begins with a relative word has to be decoded.
//!
//! Lines are read, not syntax, as in `tidy`.

use std::fs;
use std::path::Path;

use dae_tests::artefacts::workspace;

/// The folders whose prose is read.
const FOLDERS: [&str; 4] = ["host", "plugin-api", "plugins", "tests"];

/// The openings of sentences that keep their subject for later.
const RIDDLING: [&str; 6] = [
    "What ",
    "Whoever ",
    "How ",
    "One that ",
    "From now on",
    "Who ",
];

/// The fewest words of a string that is prose, and not a name or a key.
const MESSAGE_WORDS_MIN: usize = 4;

#[test]
fn comments_and_messages_open_with_their_subject() {
    let mut openings = Vec::new();
    for folder in FOLDERS {
        collect(&workspace().join(folder), &mut openings);
    }
    assert!(openings.len() > 3_000, "{} openings", openings.len());
    let is_riddling = |text: &str| RIDDLING.iter().any(|word| text.starts_with(word));
    let riddling: Vec<&str> = openings
        .iter()
        .filter(|(_, text)| is_riddling(text))
        .map(|(place, _)| place.as_str())
        .collect();
    assert!(
        riddling.is_empty(),
        "comments and messages open with one of {RIDDLING:?}:\n  {}",
        riddling.join("\n  ")
    );
}

/// Adds the opening of each comment and message below a directory, with its place.
fn collect(directory: &Path, openings: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, openings);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source in UTF-8");
            let inside = path.strip_prefix(workspace()).expect("below it").display();
            let of_file = openings_of(&text);
            openings.extend(of_file.map(|(line, text)| (format!("{inside}:{line}: {text}"), text)));
        }
    }
}

/// Returns the first line of each comment, and each string that is a sentence.
fn openings_of(source: &str) -> impl Iterator<Item = (usize, String)> {
    let mut was_comment = false;
    (1..).zip(source.lines()).filter_map(move |(number, line)| {
        let comment = comment_of(line);
        let is_first = comment.is_some() && !was_comment;
        was_comment = comment.is_some();
        let text = match comment {
            Some(comment) => is_first.then_some(comment)?,
            None => message_of(line)?,
        };
        Some((number, text.to_owned()))
    })
}

fn comment_of(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

/// Returns the first string of a line, if it is a sentence.
fn message_of(line: &str) -> Option<&str> {
    let text = line.split('"').nth(1)?;
    (text.split_whitespace().count() >= MESSAGE_WORDS_MIN).then_some(text)
}
